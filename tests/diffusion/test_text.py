"""compel is the oracle of what brackets and long prompts mean."""

from dataclasses import replace

import numpy as np
import pytest

from nerite.diffusion import InvalidParams, Params, open_pipeline
from nerite.diffusion.embeddings import Embeddings
from nerite.diffusion.prompts import parse
from nerite.diffusion.text import Text

from . import tiny as models

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

pytestmark = pytest.mark.filterwarnings("ignore")

SENTENCES = "a red house in the snow at night. the moon, and a boat; "
WEIGHTED = [
    "a red house",
    "a red++ house",
    "a red house--",
    "a (red house)1.4 in the snow",
    "a (red house)0.5 in the (snow)0.2",
    "(a (red)1.5 house)++ at night",
    'a "red house"-- at night, they\'re++ well-known',
    "a \\(red\\) house++",
    "(red)0 house",
]
LONG = [
    SENTENCES * 12,
    "a house, " * 60,
    "house " * 200,
    "x" * 400,
    "a (red house)1.3 in the snow. " * 20,
    "a (red house)0.7 at night. " + SENTENCES * 8,
]


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """kind -> (diffusers' pipeline, our family)"""
    made = {}

    def get(kind):
        if kind not in made:
            folder = tmp_path_factory.mktemp("text") / kind
            theirs = models.make(kind, folder)
            made[kind] = theirs, open_pipeline(folder, threads=1, runtime="torch")
        return made[kind]

    return get


@pytest.mark.parametrize("prompt", [*WEIGHTED, *LONG], ids=lambda text: text[:30])
def test_a_prompt_is_encoded_as_by_compel(opened, prompt):
    compel = pytest.importorskip("compel")
    theirs, ours = opened("sd")
    oracle = compel.Compel(
        tokenizer=theirs.tokenizer, text_encoder=theirs.text_encoder, truncate_long_prompts=False
    )
    expected = oracle(prompt).numpy()
    (row,) = ours._family.encode([Text(prompt)])
    found = row["encoder_hidden_states"].numpy()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("prompt", [WEIGHTED[3], WEIGHTED[4], LONG[0]], ids=lambda text: text[:30])
def test_both_encoders_of_xl_are_weighted(opened, prompt):
    compel = pytest.importorskip("compel")
    theirs, ours = opened("sdxl")
    kind = compel.ReturnedEmbeddingsType.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED
    oracle = compel.Compel(
        tokenizer=[theirs.tokenizer, theirs.tokenizer_2],
        text_encoder=[theirs.text_encoder, theirs.text_encoder_2],
        returned_embeddings_type=kind,
        requires_pooled=[False, True],
        truncate_long_prompts=False,
    )
    expected, _ = oracle(prompt)
    (row,) = ours._family.encode([Text(prompt)])
    np.testing.assert_allclose(row["encoder_hidden_states"], expected, rtol=0, atol=2e-4)


def test_prompts_of_any_length_are_painted_together(opened):
    _, ours = opened("sd")
    requests = [
        Params(prompt, negative_prompt=negative, steps=2, width=64, height=64)
        for prompt, negative in [("a house", SENTENCES * 4), (SENTENCES * 12, "a boat"), ("a", "")]
    ]
    jobs = ours.start(requests)
    for job in jobs:
        assert job.positive["encoder_hidden_states"].shape == (
            job.negative["encoder_hidden_states"].shape
        )
    assert len({job.key for job in jobs}) > 1


@pytest.mark.parametrize(
    ("prompt", "fragments"),
    [
        ("a (red) house", [("a (red) house", 1.0)]),
        ("1.5 meters (tall)", [("1.5 meters (tall)", 1.0)]),
        ("low quality - bad + worse", [("low quality - bad + worse", 1.0)]),
        ("an unclosed (red++ house", [("an", 1.0), ("(red++", 1.0), ("house", 1.0)]),
        ("a red+ house", [("a", 1.0), ("red", 1.1), ("house", 1.0)]),
        ("((red)2 house)1.5", [("red", 3.0), ("house", 1.5)]),
        ("", [("", 1.0)]),
    ],
)
def test_how_a_prompt_is_read(prompt, fragments):
    found = parse(prompt)
    if all(weight == 1 for _, weight in fragments):
        assert found == [(prompt, 1.0)]
        return
    assert [text for text, _ in found] == [text for text, _ in fragments]
    np.testing.assert_allclose([f.weight for f in found], [weight for _, weight in fragments])


def test_brackets_without_end_are_only_text():
    parse("(" * 10_000 + "a++")
    parse('"' * 10_001)
    parse("(a" * 500 + ")1.1" * 500)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("(house)1000", "prompt: 'house' has weight 1000: at most 20"),
        ("house " * 2000, "prompt: it has 2000 tokens, of which about 1200 are served"),
        ("a-- red " * 80, "prompt: it weakens .* of its parts, more than are served"),
    ],
)
def test_what_would_take_too_long_is_refused(opened, prompt, message):
    params = Params(prompt, steps=2, width=64, height=64)
    with pytest.raises(InvalidParams, match=message) as refusal:
        opened("sd")[1].check(params)
    assert refusal.value.field == "prompt"
    with pytest.raises(InvalidParams, match="negative_prompt: "):
        opened("sd")[1].check(replace(params, prompt="", negative_prompt=prompt))


def test_a_prompt_that_was_encoded_is_not_encoded_again(opened):
    _, ours = opened("sd")
    params = Params("a lighthouse", steps=2, width=64, height=64)
    (first,) = ours.start([params])
    hits, misses = ours.embeddings.hits, ours.embeddings.misses
    (again,) = ours.start([replace(params, seed=4)])
    assert (ours.embeddings.misses, ours.embeddings.hits) == (misses, hits + 2)
    assert (
        first.positive["encoder_hidden_states"] == again.positive["encoder_hidden_states"]
    ).all()


def test_embeddings_are_bounded_by_bytes_and_the_oldest_goes():
    kept, row = Embeddings(3000, 100), {"a": np.zeros(250, np.float32)}
    for key in "abc":
        kept.put(key, row)
    assert kept.get("a") is row
    kept.put("d", row)
    assert kept.get("b") is None
    assert kept.get("a") is row
    assert kept.bytes == 3000
    kept.put("large", {"a": np.zeros(1000, np.float32)})
    assert kept.get("large") is None
    assert (kept.hits, kept.misses) == (2, 2)


def test_embeddings_are_bounded_in_number_too():
    kept, row = Embeddings(1 << 20, 2), {"a": np.zeros(1, np.float32)}
    for key in "abc":
        kept.put(key, row)
    assert kept.get("a") is None
    assert kept.get("b") is row
    assert kept.bytes == 8
