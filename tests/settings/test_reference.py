"""The documentation of the flags is what the list of settings says."""

import re
from pathlib import Path

import pytest

from nerite import cli
from nerite.settings import OPTIONS, parse
from nerite.settings.others import DEPRECATED, IGNORED
from nerite.settings.reference import document

ROOT = Path(__file__).parents[2]
FLAGS = ROOT / "docs" / "flags.md"


def test_the_document_is_current() -> None:
    assert FLAGS.read_text(encoding="utf-8") == document(), (
        "write it anew: python -c "
        "'from nerite.settings.reference import document; print(document(), end=\"\")'"
        " > docs/flags.md"
    )


def test_help_names_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        parse(["--help"], program="tritonserver")
    assert left.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith("Usage: tritonserver [options]")
    for option in (*OPTIONS, *IGNORED, *DEPRECATED):
        assert f"--{option.flag}" in said
    assert max(map(len, said.splitlines())) <= 120


@pytest.mark.parametrize("program", ["serve", "tritonserver", "fastdeployserver"])
def test_help_says_the_programs_own_address(
    program: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", [program, "--help"])
    with pytest.raises(SystemExit):
        cli.main(["serve", "--help"]) if program == "serve" else getattr(cli, program)()
    said = " ".join(capsys.readouterr().out.split())
    own = "127.0.0.1" if program == "serve" else "0.0.0.0"
    assert f"to other machines (nerite) (default: {own}) [NERITE_HOST]" in said


def test_what_has_no_effect_yet_says_so() -> None:
    """A setting that nothing reads is marked `pending`, and one that something reads is not."""
    files = (ROOT / "src" / "nerite").rglob("*.py")
    texts = [
        file.read_text(encoding="utf-8")
        for file in files
        # The table of options shows settings, which is no effect.
        if file.parent.name != "settings" and file.name != "overview.py"
    ]
    code = "\n".join(texts)
    wrong = {
        option.name: option.pending
        for option in OPTIONS
        if option.name != "host"  # the addresses take its place
        and bool(re.search(rf"\b_?(options|settings)\.{option.name}\b", code)) is option.pending
    }
    assert not wrong, f"of these settings `pending` is wrong: {wrong}"
