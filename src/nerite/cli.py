"""The `nerite` command: parses, calls, nothing else.

Each subcommand imports its code when it runs, so that `nerite --help` answers at once.
"""

import argparse
import sys


def _serve(arguments: list[str]) -> int:
    from nerite.launch import main as serve

    return serve(arguments)


def _version() -> str:
    import importlib.metadata

    return importlib.metadata.version("nerite")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nerite",
        description="A model server that speaks Triton's protocol.",
        epilog="`nerite COMMAND --help` explains a command.",
    )
    parser.add_argument("--version", action="store_true", help="print the version and leave")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("serve", help="serve a model repository, or the painter", add_help=False)
    return parser


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["serve"]:
        # The server's many options are not ours to list: launch.py makes them from the settings.
        return _serve(arguments[1:])
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.version:
        print(f"nerite {_version()}")
        return 0
    if options.command is None:
        parser.print_help()
        return 0
    result: int = options.run(options)
    return result
