"""The settings as text: the help of a command, and docs/flags.md."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from nerite.settings import kinds
from nerite.settings.options import OPTIONS, Option
from nerite.settings.others import DEPRECATED, IGNORED

_HEAD = """\
# Flags and environment variables

<!-- Generated from src/nerite/settings; tests/settings/test_reference.py says how. -->

`nerite serve` takes every flag of Triton's server, and some of its own (marked *nerite*).
`tritonserver` and `fastdeployserver` are the same command at Triton's own address, 0.0.0.0, and ask
for a `--model-repository`. [security.md](security.md) explains the flags that keep others out.

- `--flag=value` and `--flag value` are the same, and a flag may be shortened to a beginning that no
  other flag has: `--log-verb 1`.
- `true`, `on`, `1` and `false`, `off`, `0` are booleans, in any case; a boolean flag alone is true.
- Flags marked *repeatable* may be given several times. In a variable, `;` stands between values.
- A flag wins over its variable, a variable over the default. An empty variable is as good as none.
- Flags marked *not yet* are read and checked, and a line at start says that they change nothing.
- An unknown flag, a wrong value and two services on one port end the server with status 1.
"""


def usage(program: str, defaults: Mapping[str, Any]) -> str:
    """All flags by group, for --help. defaults: where the program's differ from ours."""
    lines = [f"Usage: {program} [options]", ""]
    lines.append("Serve a Triton model repository, or without one the embedded painter.")
    for group, options in itertools.groupby(OPTIONS, lambda option: option.group):
        lines += ["", f"{group}:"]
        for option in options:
            names = ", ".join(f"--{name}" for name in (option.flag, *option.aliases))
            lines.append(f"  {names} <{option.kind.shown.strip('<>')}>")
            own = replace(option, default=defaults.get(option.name, option.default))
            text = f"{option.text}{_marks(option, ' (%s)')}{_default(own)} [{option.variable}]"
            lines += textwrap.wrap(
                text, 92, initial_indent=" " * 8, subsequent_indent=" " * 8, break_on_hyphens=False
            )
    lines += ["", "Accepted, and without effect here:"]
    names = ", ".join(f"--{option.flag}" for option in IGNORED)
    lines += textwrap.wrap(
        names, 96, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False
    )
    lines += ["", "Deprecated:"]
    lines += [f"  --{option.flag}: use {option.text}" for option in DEPRECATED]
    return "\n".join(lines)


def document() -> str:
    """docs/flags.md."""
    parts = [_HEAD]
    for group, options in itertools.groupby(OPTIONS, lambda option: option.group):
        rows = (
            (
                ", ".join(f"`--{name}`" for name in (option.flag, *option.aliases)),
                f"`{option.variable}`",
                f"`{option.kind.shown}`",
                f"`{_shown(option)}`" if _shown(option) else "",
                f"{option.text}{_marks(option, ' *%s*')}",
            )
            for option in options
        )
        parts.append(f"## {group}\n")
        parts.append(_table(("flag", "variable", "value", "default", ""), rows))
    parts.append("## Accepted, and without effect here\n")
    parts.append("A line at start names those that were given.\n")
    rows2 = ((f"`--{one.flag}`", f"`{one.kind.shown}`", one.text) for one in IGNORED)
    parts.append(_table(("flag", "value", "why"), rows2))
    parts.append("## Deprecated\n")
    rows3 = ((f"`--{one.flag}`", f"`{one.kind.shown}`", one.text.strip("'")) for one in DEPRECATED)
    parts.append(_table(("flag", "value", "instead"), ((a, b, f"`{c}`") for a, b, c in rows3)))
    return "\n".join(parts)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([*lines, ""])


def _marks(option: Option, form: str) -> str:
    words = [
        word
        for word, holds in (
            ("nerite", option.ours),
            ("repeatable", option.repeat),
            ("not yet", option.pending),
        )
        if holds
    ]
    return form % ", ".join(words) if words else ""


def _shown(option: Option) -> str:
    if option.kind is kinds.BOOLEAN:
        return str(option.default).lower()
    return "" if option.default in ("", []) else str(option.default)


def _default(option: Option) -> str:
    return f" (default: {_shown(option)})" if _shown(option) else ""
