"""Shell completion: `nerite completion SHELL` prints what a shell is told, once, in its start file.

argcomplete then has the shell call `nerite` itself at each Tab, with `_ARGCOMPLETE` set.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import argcomplete
from argcomplete.shell_integration import shellcode

from nerite.client import Client, NeriteError
from nerite.settings.options import OPTIONS

_SECONDS = 1.0  # a Tab does not wait longer for a server


def run(options: argparse.Namespace) -> int:
    """Print the shell's code; the exit status."""
    print(shellcode(["nerite"], shell=options.shell))
    return 0


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell and leave, with what `parser` takes, a server's models and jobs."""
    for command, one in _commands(parser):
        if command == "serve":
            _add_serve(one)
        for action in one._actions:
            if action.dest == "model" or (command == "models" and action.dest == "name"):
                action.completer = _models  # type: ignore[attr-defined]
            elif command == "jobs" and action.dest == "id":
                action.completer = _jobs  # type: ignore[attr-defined]
            elif not action.choices and action.type is not Path and command != "serve":
                # Else the shell would offer files for a number.
                action.completer = _nothing  # type: ignore[attr-defined]
    argcomplete.autocomplete(parser, always_complete_options="long")


def _commands(
    parser: argparse.ArgumentParser, command: str = ""
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Each command's parser and those of its verbs, with the command's name."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, one in action.choices.items():
                yield command or name, one
                yield from _commands(one, command or name)


def _add_serve(parser: argparse.ArgumentParser) -> None:
    for option in OPTIONS:
        words = option.kind.shown.split("|")
        parser.add_argument(f"--{option.flag}", choices=words if words[1:] else None)


def _client(options: argparse.Namespace) -> Client:
    url, key = getattr(options, "url", None), getattr(options, "api_key", None)
    return Client(url, api_key=key, timeout=_SECONDS, retries=0)


def _nothing(**_: Any) -> list[str]:
    return []


def _models(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    try:
        with _client(parsed_args) as client:
            return [model.name for model in client.models.list()]
    except (NeriteError, ValueError):
        return []


def _jobs(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    try:
        with _client(parsed_args) as client:
            return [job.id for job in client.jobs.list()]
    except (NeriteError, ValueError):
        return []
