"""`nerite models`: what a server has, what it has loaded, and why something is not."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable

from nerite.client import Client, Model
from nerite.commands.failing import status_of
from nerite.commands.table import print_table
from nerite.commands.terminal import Waiting


def run_list(options: argparse.Namespace) -> int:
    """All models; the exit status."""

    def work() -> None:
        with _client(options) as client:
            models = client.models.list()
        if options.format == "json":
            print(json.dumps([dataclasses.asdict(model) for model in models], indent=2))
        else:
            print_table(("MODEL", "STATE", ""), [(m.name, m.state, _words(m)) for m in models])

    return status_of("models", work)


def run_state(options: argparse.Namespace) -> int:
    """One model; the exit status is 1 when it is not ready."""

    def work() -> int:
        with _client(options) as client:
            model = client.models.get(options.name)
        _tell(model, options)
        return 0 if model.ready else 1

    return status_of("models", work)


def run_load(options: argparse.Namespace) -> int:
    """Load one; the exit status."""
    return _change(options, "loading", lambda client: client.models.load(options.name))


def run_unload(options: argparse.Namespace) -> int:
    """Unload one; the exit status."""
    return _change(options, "unloading", lambda client: client.models.unload(options.name))


def _change(options: argparse.Namespace, doing: str, change: Callable[[Client], Model]) -> int:
    def work() -> None:
        with _client(options) as client, Waiting(f"{doing} {options.name}"):
            model = change(client)
        _tell(model, options)

    return status_of("models", work)


def _client(options: argparse.Namespace) -> Client:
    return Client(options.url, api_key=options.api_key, timeout=options.timeout)


def _tell(model: Model, options: argparse.Namespace) -> None:
    if options.format == "json":
        print(json.dumps(dataclasses.asdict(model), indent=2))
        return
    print(f"{model.name}  {model.state}")
    for line in (model.reason, _words(model) if model.ready else ""):
        if line:
            print(f"  {line}")
    if model.schedulers:
        print(f"  schedulers: {', '.join(model.schedulers)}")


def _words(model: Model) -> str:
    """What is worth knowing of a model in a line."""
    if not model.ready:
        return model.reason
    if not model.paints:
        return ""
    words = ["the default" if model.default else ""]
    words += [f"{model.size[0]}x{model.size[1]}" if model.size else ""]
    words += [f"{model.steps} steps" if model.steps else ""]
    words += [model.scheduler or ""]
    words += ["edits pictures" if model.edits else "", "heeds masks" if model.masks else ""]
    return "paints: " + ", ".join(word for word in words if word)
