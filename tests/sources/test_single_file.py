"""A checkpoint in one file becomes a folder that paints what the pipeline it is made of paints."""

import gzip
import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
from tests.diffusion import tiny
from tests.sources import checkpoints

from nerite.diffusion import Params
from nerite.sources import tokenizer
from nerite.sources.bring import Wish, bring
from nerite.sources.ldm import Checkpoint
from nerite.sources.weights import SourceError

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

pytestmark = pytest.mark.filterwarnings("ignore")

REQUEST = Params("a red house in the snow", seed=5, steps=4, width=64, height=64)


@pytest.fixture(scope="module", params=["sd", "sdxl"])
def checkpoint(request, tmp_path_factory):
    """(the file, the folder of the same weights)"""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp(request.param)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = checkpoints.make(folder, xl=request.param == "sdxl")
        pipe.save_pretrained(folder / "plain")
        checkpoints.write(pipe, folder / "model.safetensors")
    return folder / "model.safetensors", folder / "plain"


def test_it_paints_what_the_pipeline_paints(checkpoint, tmp_path):
    file, plain = checkpoint
    found = bring(str(file), tmp_path / "made", Wish(tokenizer=plain))
    assert all(part.dtype == "float32" for part in found.parts)
    painted = tiny.paint(tmp_path / "made", REQUEST)
    expected = tiny.paint(plain, REQUEST)
    assert painted.std() > 1
    assert np.abs(painted.astype(int) - expected).max() <= 1


def test_nothing_is_left_of_what_fails(checkpoint, tmp_path):
    file, plain = checkpoint
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(SourceError, match=r"cut\.safetensors has \d+ bytes, and its head says"):
        bring(str(cut), tmp_path / "made" / "1", Wish(tokenizer=plain))
    assert list((tmp_path / "made").iterdir()) == []


def test_a_tokenizer_of_another_vocabulary_is_refused(checkpoint, tmp_path):
    words = tmp_path / "words"
    words.mkdir()
    (words / "vocab.json").write_text(json.dumps({"<|startoftext|>": 0, "<|endoftext|>": 1}))
    (words / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(SourceError, match="vocabulary of 2 words, and the text encoder knows"):
        bring(str(checkpoint[0]), tmp_path / "made", Wish(tokenizer=words))


def test_without_a_tokenizer_it_says_where_to_find_one(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr(tokenizer, "_cached", lambda: None)
    with pytest.raises(SourceError, match="--tokenizer DIR"):
        bring(str(checkpoint[0]), tmp_path / "made", Wish())


def test_the_vocabulary_is_made_of_the_merges_of_a_package(tmp_path, monkeypatch):
    """As CLIP's own code does: bytes, bytes that end a word, merges, start and end."""
    package = tmp_path / "open_clip"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('only its data is wanted')")
    lines = ["#version: 0.2", "i n", "in g</w>", ""]
    (package / "bpe_simple_vocab_16e6.txt.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(tokenizer, "_cached", lambda: None)
    monkeypatch.setattr(tokenizer, "_MERGES", 2)
    tokenizer.write_tokenizer(tmp_path / "made", None, 516)
    words = json.loads((tmp_path / "made" / "vocab.json").read_text())
    assert (words["!"], words["!</w>"], words["in"], words["ing</w>"]) == (0, 256, 512, 513)
    assert (words["<|startoftext|>"], words["<|endoftext|>"]) == (514, 515)
    assert words["\u0120"] == 188 + 32


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["cond_stage_model.model.ln_final.weight"], "it is Stable Diffusion 2.x"),
        (["conditioner.embedders.0.model.ln_final.weight"], "the refiner"),
        (["lora_unet_down.weight"], "it is a LoRA"),
        (["double_blocks.0.weight"], "no checkpoint of Stable Diffusion 1.x or XL"),
        (["model.diffusion_model.out.2.weight"], "lacks first_stage_model"),
    ],
)
def test_another_kind_of_file_is_named(tmp_path, names, said):
    from safetensors.torch import save_file

    save_file({name: torch.zeros(1) for name in names}, tmp_path / "a.safetensors")
    with pytest.raises(SourceError, match=said):
        bring(str(tmp_path / "a.safetensors"), tmp_path / "made", Wish())


def test_a_pickled_checkpoint_is_converted_where_it_is_allowed(checkpoint, tmp_path):
    from safetensors.torch import load_file

    file, plain = checkpoint
    torch.save({"state_dict": load_file(file)}, tmp_path / "model.ckpt")
    with pytest.raises(SourceError, match="model.ckpt is a pickle"):
        bring(str(tmp_path / "model.ckpt"), tmp_path / "made", Wish(tokenizer=plain))
    wish = Wish(tokenizer=plain, allow_pickle=True)
    bring(str(tmp_path / "model.ckpt"), tmp_path / "made", wish)
    assert (tiny.paint(tmp_path / "made", REQUEST) == tiny.paint(plain, REQUEST)).mean() > 0.99


def test_the_command_needs_no_network(checkpoint, tmp_path):
    file, plain = checkpoint
    command = [sys.executable, "-m", "nerite", "import", str(file), "mine", "--repository", "here"]
    done = subprocess.run(
        [*command, "--tokenizer", str(plain)],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "nerite serve --model-repository here" in done.stdout
    assert (tmp_path / "here" / "mine" / "1" / "model_index.json").is_file()


UNET = (
    "in_channels", "out_channels", "block_out_channels", "layers_per_block", "down_block_types",
    "up_block_types", "cross_attention_dim", "use_linear_projection",
)  # fmt: skip
VAE = ("block_out_channels", "layers_per_block", "latent_channels", "down_block_types")
CLIP = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size",
    "max_position_embeddings", "projection_dim",
)  # fmt: skip
VARIED = ("attention_head_dim", "transformer_layers_per_block")


def _real(xl):
    """The networks of the two architectures in their real size, without memory for it."""
    import diffusers
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    vae = {
        "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
    }  # fmt: skip
    small = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
             "num_attention_heads": 12, "projection_dim": 768}  # fmt: skip
    large = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32,
             "num_attention_heads": 20, "projection_dim": 1280}  # fmt: skip
    unet = {"cross_attention_dim": 768}
    if xl:
        unet = {
            "block_out_channels": (320, 640, 1280), "cross_attention_dim": 2048,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 10), "attention_head_dim": (5, 10, 20),
            "use_linear_projection": True, "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
        }  # fmt: skip
    with torch.device("meta"):
        parts = {
            "unet": diffusers.UNet2DConditionModel(**unet),
            "vae": diffusers.AutoencoderKL(**vae),
            "text_encoder": CLIPTextModel(CLIPTextConfig(**small)),
        }
        if xl:
            config = CLIPTextConfig(**large)
            parts["text_encoder_2"] = CLIPTextModelWithProjection(config)
    return parts


@pytest.mark.parametrize("xl", [False, True])
def test_the_real_architectures_are_told_by_their_shapes(xl):
    parts = _real(xl)
    shapes = {name: tuple(value.shape) for name, value in checkpoints.tensors(parts).items()}
    configs = Checkpoint("real.safetensors", shapes).configs()
    kinds = {"unet": UNET, "vae": VAE, "text_encoder": CLIP, "text_encoder_2": CLIP}
    for name, network in parts.items():
        told = configs[f"{name}/config.json"]
        known = {key: getattr(network.config, key) for key in kinds[name]}
        assert {key: told[key] for key in known} == {
            key: list(value) if isinstance(value, tuple) else value for key, value in known.items()
        }
    heads, depths = (configs["unet/config.json"][key] for key in VARIED)
    assert (heads, depths) == (([5, 10, 20], [1, 2, 10]) if xl else (8, [1, 1, 1, 1]))
    told = configs["vae/config.json"]["scaling_factor"], configs["unet/config.json"]["sample_size"]
    assert told == ((0.13025, 128) if xl else (0.18215, 64))
    assert configs["model_index.json"]["_class_name"].startswith("StableDiffusion")
