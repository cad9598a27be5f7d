"""The documentation of the flags is what the list of settings says."""

from pathlib import Path

import pytest

from nerite.settings import OPTIONS, parse
from nerite.settings.others import DEPRECATED, IGNORED
from nerite.settings.reference import document

FLAGS = Path(__file__).parents[2] / "docs" / "flags.md"


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
