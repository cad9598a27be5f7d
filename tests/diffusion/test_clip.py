"""transformers' CLIP tokenizer is the oracle of ours, on the same files."""

import json

import pytest

from nerite.diffusion.clip import ClipTokenizer

TEXTS = [
    "",
    " ",
    "a red house in the snow at night",
    "A  RED\tHouse,\n\nin the SNOW!!",
    "they're don't we'll I'm it's you've he'd THEY'RE",
    "don\u2019t \u201cquote\u201d \u2014 dash\u2026 (brackets) [x:1.2] a_b-c/d\\e @#$%^&*",
    "in 2024 there were 1,234.56 houses, 50% off; ½ ² Ⅷ",
    "雪中的红房子，夜晚。月亮 and a house 日本語 한국어",
    "🏠🌙 house👨‍👩‍👧‍👦 ❄️ 🇨🇭",
    "Ünïcödé é e\u0301 ß İstanbul ﬁ Ａ",
    "عربى עברית हिन्दी ไทย",
    "tab\u00a0nbsp\u3000wide\u200bzero \x00 nul \x7f",
    "<|endoftext|> in the middle <|startoftext|> and <|ENDOFTEXT|> <|StartOfText|>",
    "!hello! wow !",
    "house " * 200,
    "雪" * 300,
    "x" * 5000,
    "a red house, " * 2_000,
]


def assert_same_ids(folder):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.CLIPTokenizer.from_pretrained(folder)
    ours = ClipTokenizer(folder)
    ids = ours.encode(TEXTS)
    assert ids.shape == (len(TEXTS), 77)
    for text, row in zip(TEXTS, ids, strict=True):
        expected = theirs(text, padding="max_length", truncation=True, max_length=77).input_ids
        assert row.tolist() == expected, text


def test_ids_equal_those_of_transformers(tmp_path, write_tokenizer):
    write_tokenizer(tmp_path / "tokenizer")
    assert_same_ids(tmp_path / "tokenizer")


def test_another_pad_token_as_in_stable_diffusion_2(tmp_path, write_tokenizer):
    write_tokenizer(tmp_path / "tokenizer", pad_token="!")
    assert_same_ids(tmp_path / "tokenizer")
    assert ClipTokenizer(tmp_path / "tokenizer").encode([""])[0, 2:].tolist() == [0] * 75


def test_special_tokens_map_wins_and_its_flags_count(tmp_path, write_tokenizer):
    write_tokenizer(tmp_path / "tokenizer", pad_token="<|endoftext|>")
    start = {"content": "<|startoftext|>", "normalized": True, "lstrip": False, "rstrip": False}
    special = {"pad_token": "!", "bos_token": {**start, "single_word": False}}
    (tmp_path / "tokenizer" / "special_tokens_map.json").write_text(json.dumps(special))
    assert_same_ids(tmp_path / "tokenizer")


def test_a_folder_that_holds_only_tokenizer_json(tmp_path, write_tokenizer):
    transformers = pytest.importorskip("transformers")
    write_tokenizer(tmp_path / "old")
    transformers.CLIPTokenizer.from_pretrained(tmp_path / "old").save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new" / "vocab.json").exists()
    expected = ClipTokenizer(tmp_path / "old").encode(TEXTS)
    assert (ClipTokenizer(tmp_path / "new").encode(TEXTS) == expected).all()


def test_the_length_is_the_configs_and_77_where_nobody_gave_one(tmp_path, write_tokenizer):
    write_tokenizer(tmp_path / "short", model_max_length=12)
    assert ClipTokenizer(tmp_path / "short").encode(["a red house " * 9]).shape == (1, 12)
    write_tokenizer(tmp_path / "unsaid", model_max_length=10**30)
    assert ClipTokenizer(tmp_path / "unsaid").length == 77


def test_what_is_missing_is_named(tmp_path, write_tokenizer):
    with pytest.raises(FileNotFoundError, match=r"vocab\.json and merges\.txt"):
        ClipTokenizer(tmp_path)
    write_tokenizer(tmp_path / "tokenizer")
    (tmp_path / "tokenizer" / "vocab.json").write_text('{"a": 0}')
    with pytest.raises(ValueError, match="special token|vocabulary"):
        ClipTokenizer(tmp_path / "tokenizer")
