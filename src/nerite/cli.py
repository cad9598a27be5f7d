"""The `nerite` command: parses, calls, nothing else.

Each subcommand imports its code when it runs, so that `nerite --help` answers at once.
"""

import argparse
import os
import sys
from pathlib import Path

from nerite.commands.arguments import add_commands, count, seconds


def main(arguments: list[str] | None = None) -> int:
    """The exit status of `nerite ARGUMENTS`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["serve"]:
        # The server's many options are not ours to list: launch.py makes them from the settings.
        return _serve(arguments[1:])
    parser = _parser()
    if "_ARGCOMPLETE" in os.environ:
        from nerite.completion import complete

        complete(parser)
    options = parser.parse_args(arguments)
    if options.version:
        print(f"nerite {_version()}")
        return 0
    if options.command is None:
        parser.print_help()
        return 0
    result: int = options.run(options)
    return result


def tritonserver() -> int:
    """`tritonserver`: the same server as Triton's scripts expect it."""
    return _serve(sys.argv[1:], "tritonserver")


def fastdeployserver() -> int:
    """`fastdeployserver`: FastDeploy's name for its build of Triton."""
    return _serve(sys.argv[1:], "fastdeployserver")


def _serve(arguments: list[str], program: str = "nerite serve") -> int:
    from nerite.launch import main as serve

    return serve(arguments, program)


def _completion(options: argparse.Namespace) -> int:
    from nerite.completion import run

    return run(options)


def _demo(options: argparse.Namespace) -> int:
    from nerite.demo import PROMPT, Wishes, run

    prompt = PROMPT if options.prompt is None else options.prompt
    return run(Wishes(prompt, options.output, options.once, options.http_port))


def _check(options: argparse.Namespace) -> int:
    from nerite.check import run

    return run(options.repository, as_json=options.format == "json")


def _run_model(options: argparse.Namespace) -> int:
    from nerite.run_model import run

    return run(options.path, options.input, options.save)


def _import(options: argparse.Namespace) -> int:
    from nerite.import_model import run
    from nerite.sources.bring import Wish

    wish = Wish(options.variant, options.allow_pickle, options.tokenizer)
    return run(options.source, options.name, options.repository, wish)


def _build(options: argparse.Namespace) -> int:
    from nerite.build import run
    from nerite.sources.bring import Wish

    wish = Wish(options.variant, options.allow_pickle)
    return run(options.model, options.model_repository, options.timeout, wish)


def _export(options: argparse.Namespace) -> int:
    from nerite.export import Export, run

    fields = ("model", "output", "pipeline", "tensorrt", "opset")
    wish = {name: getattr(options, name) for name in fields}
    return run(Export(repository=options.model_repository, **wish))


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
    add_commands(commands)
    _add_check(commands.add_parser("check", help="say what is wrong with a model repository"))
    _add_import(commands.add_parser("import", help="put a diffusion model into a repository"))
    _add_build(commands.add_parser("build", help="fetch the models whose folders are empty"))
    _add_export(commands.add_parser("export", help="write a diffusion model as ONNX graphs"))
    _add_run_model(commands.add_parser("run-model", help="run a model.py without a server"))
    _add_demo(commands.add_parser("demo", help="start a server, paint a picture, go on serving"))
    _add_completion(commands.add_parser("completion", help="print what a shell needs for Tab"))
    return parser


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Say what is wrong with a model repository, and what its clients must send."
    )
    parser.set_defaults(run=_check)
    parser.add_argument("repository", nargs="+", help="folder of models, or a URI")
    parser.add_argument("--format", choices=["text", "json"], default="text", help="%(default)s")


def _add_import(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Make a model folder that is ready to serve. Only a hub's id uses the network: with "
        "HF_TOKEN or the login of `hf auth login`, from HF_ENDPOINT."
    )
    parser.set_defaults(run=_import)
    add = parser.add_argument
    add("source", help="a folder of diffusers, a .safetensors checkpoint, or a hub's OWNER/NAME")
    add("name", help="what the model is to be called")
    add("--repository", type=Path, default=Path("models"), metavar="DIR", help="%(default)s")
    add("--variant", default="", metavar="NAME", help="weights to prefer, as fp16")
    add("--tokenizer", type=Path, metavar="DIR", help="CLIP's tokenizer, for a single file")
    add("--allow-pickle", action="store_true", help="read and convert pickled weights")


def _add_build(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Fill the model folders that hold only a config.pbtxt whose parameter `version` says what "
        "the model is: 1.4, 1.5, xl-1.0, xl-turbo, sd3, 3.5-medium, 3.5-large, a hub's OWNER/NAME, "
        "or a path."
    )
    parser.set_defaults(run=_build)
    add = parser.add_argument
    add("--model", default="all", metavar="NAME", help="default: %(default)s")
    add("--model-repository", type=Path, default=Path("diffusion-models"), metavar="DIR",
        help="%(default)s")  # fmt: skip
    add("--timeout", type=seconds, default=1200.0, metavar="S", help="for each, %(default)s s")
    add("--variant", default="", metavar="NAME", help="weights to prefer, as fp16")
    add("--allow-pickle", action="store_true", help="read and convert pickled weights")


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.description = "Write a diffusion model as ONNX graphs, which run without torch."
    parser.set_defaults(run=_export)
    add = parser.add_argument
    add("model", metavar="NAME", help="a model of the repository, or a folder of diffusers")
    add("--model-repository", type=Path, default=Path("models"), metavar="DIR", help="%(default)s")
    add("--output", type=Path, metavar="DIR", help="default: NAME-onnx")
    add("--pipeline", type=Path, metavar="DIR",
        help="write the repository of Triton's BLS tutorial there instead")  # fmt: skip
    add("--tensorrt", action="store_true", help="with --pipeline: the VAE as a TensorRT plan")
    add("--opset", type=count, metavar="N", help="of ONNX; default: the config's, or 18")


def _add_run_model(parser: argparse.ArgumentParser) -> None:
    parser.description = "Run a model.py once, without a server, and print what it answers."
    parser.set_defaults(run=_run_model)
    add = parser.add_argument
    add("path", type=Path, help="a model's folder, a version folder of it, or a model.py")
    add("--input", action="append", default=[], metavar="NAME=VALUE",
        help="repeatable; VALUE is a .npy file, another file, or JSON")  # fmt: skip
    add("--save", type=Path, metavar="DIR", help="write the outputs there, as NAME.npy")


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.description = "Start a server with the painter, paint a picture, go on serving."
    parser.set_defaults(run=_demo)
    add = parser.add_argument
    add("--prompt", metavar="TEXT", help="what to paint")
    add("--output", type=Path, default=Path("nerite-demo.png"), metavar="FILE", help="%(default)s")
    add("--once", action="store_true", help="stop after the picture")
    add("--http-port", type=int, metavar="PORT", help="8000, or a free port where it is taken")


def _add_completion(parser: argparse.ArgumentParser) -> None:
    parser.description = "Print what a shell needs to complete `nerite` at Tab; evaluate it there."
    parser.set_defaults(run=_completion)
    parser.add_argument("shell", choices=["bash", "zsh", "fish"])
