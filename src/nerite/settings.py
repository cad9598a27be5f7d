"""The one list of server options. Flags, environment variables and their help derive from it."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, NoReturn

_TRUE, _FALSE = {"true", "on", "1"}, {"false", "off", "0"}
_LOCAL = "127.0.0.1"


def _option(default: Any, text: str, *, aliases: Sequence[str] = (), repeat: bool = False) -> Any:
    metadata = {"help": text, "aliases": tuple(aliases), "repeat": repeat}
    if repeat:
        return field(default_factory=list, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class Settings:
    """Triton's names and defaults, but for the address: a laptop's server is its user's alone."""

    model_repository: list[str] = _option(
        None,
        "folder of models; repeatable. Without it the embedded painter is served",
        aliases=["model-store"],
        repeat=True,
    )
    id: str = _option("nerite", "the server's name in its metadata")
    host: str = _option(
        _LOCAL, "address of all three services; 0.0.0.0 opens them to other machines"
    )
    allow_http: bool = _option(True, "serve HTTP")
    http_address: str = _option("", "address of the HTTP service (--host)")
    http_port: int = _option(8000, "port of the HTTP service; 0 takes a free one")
    allow_grpc: bool = _option(True, "serve gRPC")
    grpc_address: str = _option("", "address of the gRPC service (--host)")
    grpc_port: int = _option(8001, "port of the gRPC service; 0 takes a free one")
    allow_metrics: bool = _option(True, "serve Prometheus metrics")
    metrics_address: str = _option("", "address of the metrics service (the HTTP one)")
    metrics_port: int = _option(8002, "port of the metrics service; 0 takes a free one")
    exit_on_error: bool = _option(True, "leave when a model does not load at start-up")
    strict_readiness: bool = _option(True, "be ready only while every model is")
    strict_gpu: bool = _option(False, "refuse models for GPUs that this machine lacks")
    exit_timeout_secs: int = _option(30, "seconds for open requests to finish at exit")
    model_load_thread_count: int = _option(4, "models that load at once")
    log_verbose: int = _option(0, "0, or 1 for debug messages")

    def __post_init__(self) -> None:
        self.http_address = self.http_address or self.host
        self.grpc_address = self.grpc_address or self.host
        self.metrics_address = self.metrics_address or self.http_address


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One sentence and exit status 1, as Triton leaves on a bad command line."""
        print(f"error: {message}", file=sys.stderr)
        sys.exit(1)


def parse(argv: Sequence[str]) -> Settings:
    """Settings from flags, then from NERITE_* variables, then the defaults.

    Exits with status 1 and one sentence when a flag is unknown or its value is wrong.
    """
    parser = _parser()
    known, unknown = parser.parse_known_args(argv)
    if unknown:
        parser.error(_unknown(unknown[0]))
    return Settings(**{name: value for name, value in vars(known).items() if value is not None})


def _parser() -> _Parser:
    parser = _Parser(
        prog="nerite serve",
        description="Serve a Triton model repository, or without one the embedded painter.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    for item in fields(Settings):
        flag = item.name.replace("_", "-")
        names = [f"--{name}" for name in (flag, *item.metadata["aliases"])]
        default = item.default if item.default is not MISSING else []
        variable = f"NERITE_{item.name.upper()}"
        text = f"{item.metadata['help']} [{variable}]"
        extra: dict[str, Any] = {}
        if item.metadata["repeat"]:
            extra = {"action": "append"}
            default = None
        elif isinstance(default, bool):
            extra = {"type": _boolean, "nargs": "?", "const": True}
        else:
            extra = {"type": type(default)}
        given = os.environ.get(variable)
        parser.add_argument(*names, dest=item.name, help=text, default=default, **extra)
        if given is not None:
            value = given.split(os.pathsep) if item.metadata["repeat"] else given
            parser.set_defaults(**{item.name: value})
    return parser


def _boolean(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise argparse.ArgumentTypeError(f"'{text}' is neither true, on, 1 nor false, off, 0")


def _unknown(argument: str) -> str:
    flags = [f"--{item.name.replace('_', '-')}" for item in fields(Settings)]
    near = difflib.get_close_matches(argument.split("=")[0], flags, n=1)
    hint = f"; did you mean {near[0]}?" if near else "; 'nerite serve --help' lists what there is"
    return f"unknown argument '{argument}'{hint}"
