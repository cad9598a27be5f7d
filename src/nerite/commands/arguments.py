"""What the client commands take on the command line; light, since every `nerite` reads it."""

from __future__ import annotations

import argparse
import math
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

Parsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

# The options that are settings of nerite.client by the same names.
PAINTING = (
    *("model", "negative_prompt", "seed", "steps", "guidance_scale", "scheduler", "size"),
    *("image", "mask", "strength"),
)
_MOST_CLIENTS = 1000


def add_commands(commands: Parsers) -> None:
    """`generate`, `models`, `jobs` and `bench`."""
    _add_generate(commands.add_parser("generate", help="paint pictures with a running server"))
    _add_models(commands.add_parser("models", help="list, load and unload a server's models"))
    _add_jobs(commands.add_parser("jobs", help="have a server paint while you are away"))
    _add_bench(commands.add_parser("bench", help="measure a server's throughput and latency"))


def painting(options: argparse.Namespace) -> dict[str, Any]:
    """The settings that were given."""
    given = {name: getattr(options, name) for name in PAINTING}
    return {name: value for name, value in given.items() if value is not None}


def _run(parser: argparse.ArgumentParser, name: str) -> None:
    """`nerite.commands.MODULE:FUNCTION`, imported when it is used."""
    module, _, function = name.partition(":")

    def run(options: argparse.Namespace) -> int:
        found = getattr(import_module(f"nerite.commands.{module}"), function)
        status: int = found(options)
        return status

    parser.set_defaults(run=run)


def _add_common(parser: argparse.ArgumentParser, *, verb: bool = False) -> None:
    """Which server, and how to answer. verb: what its command was told counts as well."""
    nothing, seconds_left = (argparse.SUPPRESS, argparse.SUPPRESS) if verb else (None, 600.0)
    add = parser.add_argument_group("the server").add_argument
    add("--url", default=nothing, help="NERITE_URL, or http://127.0.0.1:8000")
    add("--api-key", default=nothing, metavar="KEY", help="NERITE_API_KEY, or none")
    add("--timeout", default=seconds_left, type=seconds, metavar="SECONDS",
        help="for a whole call (default: 600)")  # fmt: skip


def _add_format(parser: argparse.ArgumentParser, *, verb: bool = False) -> None:
    default = argparse.SUPPRESS if verb else "text"
    parser.add_argument("--format", choices=["text", "json"], default=default, help="text")


def _add_painting(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group(
        "the picture; what is not said, the server decides"
    ).add_argument
    add("--seed", type=_seed, help="a number; the same one paints the same picture again")
    add("--steps", type=int, help="denoising steps")
    add("--size", type=_size, metavar="WxH", help="in pixels, as 128x192; one number is a square")
    add("--negative-prompt", metavar="TEXT", help="what to keep away from")
    add("--guidance-scale", type=_finite, metavar="X", help="how closely to follow the prompt")
    add("--scheduler", metavar="NAME", help="the sampler, as ddim or euler")
    add("--image", type=Path, metavar="FILE", help="a picture to start from")
    add(
        "--mask",
        type=Path,
        metavar="FILE",
        help="of that picture: transparent, or white, is painted anew",
    )
    add("--strength", type=_finite, metavar="X", help="how much of that picture may change, 0 to 1")
    add("--model", metavar="NAME", help="default: the server's default image model")


def _add_generate(parser: argparse.ArgumentParser) -> None:
    parser.description = "Paint pictures with a running server, and show how far they have come."
    _run(parser, "generate:run")
    add = parser.add_argument
    add("prompt", help="what to paint, in a sentence")
    add("-o", "--output", type=Path, metavar="FILE",
        help="a .png, .jpg or .webp file (default: a .png named after the prompt)")  # fmt: skip
    add("--n", type=count, default=1, metavar="N", help="how many pictures (default: 1)")
    add("--previews", type=Path, metavar="FOLDER", help="keep previews there as they come")
    _add_painting(parser)
    _add_common(parser)


def _add_models(parser: argparse.ArgumentParser) -> None:
    parser.description = "What a server has and what it has loaded; without a verb, the list."
    _run(parser, "models:run_list")
    _add_format(parser)
    _add_common(parser)
    verbs = parser.add_subparsers(metavar="VERB")
    for verb, text in (
        ("list", "all models of the repository"),
        ("state", "one model: whether it is ready, why not, what it takes; status 1 if not ready"),
        ("load", "load a model, or load it anew"),
        ("unload", "unload a model"),
    ):
        one = verbs.add_parser(verb, help=text, description=text.capitalize() + ".")
        _run(one, f"models:run_{verb}")
        if verb != "list":
            one.add_argument("name", metavar="MODEL")
        _add_format(one, verb=True)
        _add_common(one, verb=True)


def _add_jobs(parser: argparse.ArgumentParser) -> None:
    parser.description = "Work that a server keeps, also over a restart; without a verb, the list."
    parser.set_defaults(limit=20)
    _run(parser, "jobs:run_list")
    _add_format(parser)
    _add_common(parser)
    verbs = parser.add_subparsers(metavar="VERB")
    _add_submit(verbs.add_parser("submit", help="submit a job and print its name"))
    listing = verbs.add_parser("list", help="the newest jobs")
    listing.add_argument("--limit", type=count, default=20, metavar="N", help="%(default)s")
    waiting = verbs.add_parser("wait", help="wait for a job, and save its pictures")
    waiting.add_argument("-o", "--output", type=Path, metavar="FILE",
        help="a .png file (default: named after the prompt)")  # fmt: skip
    showing = verbs.add_parser("show", help="one job, and how far it has come")
    cancelling = verbs.add_parser("cancel", help="cancel a job; delete a finished one")
    for verb, one in (("wait", waiting), ("show", showing), ("cancel", cancelling)):
        one.add_argument("id", metavar="JOB")
        _run(one, f"jobs:run_{verb}")
    _run(listing, "jobs:run_list")
    for one in (listing, waiting, showing, cancelling):
        _add_format(one, verb=True)
        _add_common(one, verb=True)


def _add_submit(parser: argparse.ArgumentParser) -> None:
    parser.description = "Submit a job and print its name; `nerite jobs wait` fetches the picture."
    _run(parser, "jobs:run_submit")
    add = parser.add_argument
    add("prompt", help="what to paint, in a sentence")
    add("--n", type=count, default=1, metavar="N", help="how many pictures (default: 1)")
    add("--idempotency-key", metavar="KEY", help="submit only once, however often this is run")
    _add_format(parser, verb=True)
    _add_painting(parser)
    _add_common(parser, verb=True)


def _add_bench(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Measure a server: clients ask one picture after the other, or requests arrive at a rate."
    )
    _run(parser, "bench:run")
    add = parser.add_argument
    add("--clients", type=_clients, default=1, metavar="N", help="at the same time (default: 1)")
    add("--requests", type=count, default=1, metavar="N", help="of each client (default: 1)")
    add("--static-batch-size", type=count, default=1, metavar="N",
        help="pictures in a request (default: 1)")  # fmt: skip
    prompts = parser.add_mutually_exclusive_group()
    prompts.add_argument("--prompt", metavar="TEXT", help="of all requests")
    prompts.add_argument("--prompts", type=Path, metavar="FILE", help="one a line, in turns")
    add("--rate", type=_positive, metavar="R",
        help="requests arrive by chance, R a second, whether or not others are done")  # fmt: skip
    add("--previews", type=int, metavar="K",
        help="stream K previews, and measure the time to the first")  # fmt: skip
    add("--warm-up", type=int, default=0, metavar="N", help="requests before, not measured")
    add("--save-image", action="store_true", help="write client_C_generated_image_R.jpg files")
    add("--launch-nvidia-smi", action="store_true",
        help="run nvidia-smi dmon meanwhile, into nvidia_smi_output.txt")  # fmt: skip
    add("--histogram", type=Path, metavar="FILE", help="draw the latencies into a .png file")
    _add_format(parser)
    _add_painting(parser)
    _add_common(parser)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    try:
        return int(width), int(height or width)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size like 128x192") from None


def count(text: str) -> int:
    """From 1 up."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 up")
    return int(text)


def _clients(text: str) -> int:
    clients = count(text)
    if clients > _MOST_CLIENTS:
        raise argparse.ArgumentTypeError(f"{text} clients are more than {_MOST_CLIENTS}")
    return clients


def _seed(text: str) -> int:
    try:
        seed = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if not -(2**63) <= seed < 2**63:
        raise argparse.ArgumentTypeError(f"{text} does not fit into 64 bits")
    return seed


def _finite(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not a finite number")
    return number


def _positive(text: str) -> float:
    number = _finite(text)
    if number <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not more than 0")
    return number


def seconds(text: str) -> float:
    """More than none."""
    return _positive(text)
