"""A config.pbtxt as it was written: every error of its text, and where its fields stand."""

from pathlib import Path

import pytest

from nerite.repository.problem import Breach, nearest
from nerite.repository.text import ConfigText


def text_of(folder: Path, text: str) -> ConfigText:
    file = folder / "config.pbtxt"
    file.write_bytes(text.encode())
    return ConfigText(file)


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ('name: "m"\nbackend: "python"', []),
        # Of a list, each wrong item; of a message, each wrong field.
        ('input { dims: [ "x", 2, "y" ] }', [(1, 17), (1, 25)]),
        ('input [ { dims: "x" nam: "b" }, 3, { dims: a } ]', [(1, 17), (1, 21), (1, 33), (1, 44)]),
        # What an unknown field holds is unknown too.
        ("mispelt { and: 1 this { is: [ 1, 2 ] } }\nname: 3", [(1, 1), (2, 7)]),
        ("max_batch_size 8\nmax_batch_size = 8\nname: 3", [(1, 16), (2, 16), (3, 7)]),
        ("dynamic_batching: true\n@\n}\nname: 3", [(1, 19), (2, 1), (3, 1), (4, 7)]),
        ('name: "m\nname: "n"\nname: "o"', [(1, 7), (3, 7)]),
        ("dynamic_batching {} sequence_batching {} nam: 3", [(1, 21), (1, 42)]),
        ("input [ { dims: [ 1, 2 } ]\nname: 3", [(1, 24), (2, 7)]),
        ('name: "a" \'b\' # "c\n"d"\nnam: 3', [(3, 1)]),
        ("input < dims: < > >\r\nname: 3\r\n", [(1, 15), (2, 7)]),
        # protobuf takes any number for an enum's value.
        ("input { data_type: 99 } input { data_type: 3 }", [(1, 9)]),
        ("instance_group [ {}, { kind: 2 kind: 9 } ] nam: 3", [(1, 38), (1, 44)]),
        (
            "batch_input { kind: 7 } model_warmup { inputs { key: 'a' value { data_type: 99 } } }",
            [(1, 15), (1, 66)],
        ),
        ("mispelt {" * 5000, [(1, 1)]),
        # What follows cannot be told from what is missing.
        ('nam: 3 input { dims: 3\nname: "m"', [(1, 1), (2, 7)]),
        ("nam: 3 name:\nbackend: 3", [(1, 1), (2, 1)]),
    ],
)
def test_every_error_has_its_place(
    tmp_path: Path, text: str, places: list[tuple[int, int]]
) -> None:
    found = list(text_of(tmp_path, text).problems())
    assert [(one.line, one.column) for one in found] == places
    assert all(one.shown == text.splitlines()[one.line - 1] for one in found if one.line)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("max_batchsize: 1", "Did you mean max_batch_size?"),
        ("maxBatchSize: 1", "Did you mean max_batch_size?"),
        ("sequence_batching { xyz: 1 }", "Its fields are direct, oldest, max_sequence_idle_micro"),
        ("input { data_type: fp16 }", "Did you mean TYPE_FP16?"),
        ("input { data_type: TYPE_FLOAT }", "Its values are TYPE_INVALID, TYPE_BOOL, TYPE_UINT8"),
        ("instance_group { kind: KIND_TPU }", "Did you mean KIND_GPU?"),
        ("\ufeffname: 'm'", "Save it without a byte order mark."),
        ("name: 'm' name: 'm'", "Remove one of them."),
    ],
)
def test_remedies(tmp_path: Path, text: str, remedy: str) -> None:
    (found,) = text_of(tmp_path, text).problems()
    assert found.remedy is not None and found.remedy.startswith(remedy)


def test_what_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "config.pbtxt"
    file.write_bytes('name: "m"'.encode("utf-16"))
    (found,) = ConfigText(file).problems()
    assert str(found) == (
        f"{file}: not UTF-8 text: invalid start byte at byte 0. Save it as UTF-8."
    )


TEXT = """# name: "no"
max_batch_size: 4
input [ { name: "a" dims: [ 1, 2 ] },
        { name: "b" } ]
output { name: "c" }
output { name: "d", dims: 3; dims: [] }
parameters { key: "k" value { string_value: "}" } }
parameters: { key: 'l' value: { } }
ensemble_scheduling { step { input_map { key: "x" value: "y" } } }
"""


@pytest.mark.parametrize(
    ("at", "place"),
    [
        ((), None),
        (("name",), None),
        (("max_batch_size",), (2, 1)),
        (("input", 0, "dims"), (3, 21)),
        (("input", 0, "dims", 1), (3, 32)),
        (("input", 1, "name"), (4, 11)),
        (("input", 1, "data_type"), (4, 9)),
        (("output", 1, "dims", 0), (6, 21)),
        (("output", 2), (5, 1)),
        (("parameters", "k", "string_value"), (7, 31)),
        (("parameters", "l", "string_value"), (8, 24)),
        (("ensemble_scheduling", "step", 0, "input_map", "x"), (9, 51)),
    ],
)
def test_a_field_is_found_or_what_it_would_be_in(
    tmp_path: Path, at: tuple[str | int, ...], place: tuple[int, int] | None
) -> None:
    (found,) = text_of(tmp_path, TEXT).locate([Breach("wrong", at, "Mend it.")])
    assert (found.line, found.column) == (place or (None, None))
    assert (found.message, found.remedy) == ("wrong", "Mend it.")


def test_nearest() -> None:
    assert nearest("pyton", ["onnxruntime", "python"]) == "Did you mean python?"
    assert nearest("INPUT", ["input"]) == "Did you mean input?"
    assert nearest("x", []) is None
