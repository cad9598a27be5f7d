"""The folder in the wheel: small, stored once, and the same in onnxruntime and in diffusers."""

import hashlib

import numpy as np
import pytest

pytestmark = pytest.mark.filterwarnings("ignore")

BUDGET = 32_000_000
SIZES = ((8, 8), (16, 16), (9, 31), (15, 8), (17, 32))


@pytest.fixture(scope="module")
def sessions(exported):
    pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    from painter.paint import session

    parts = ("text_encoder", "unet", "vae_decoder", "vae_encoder")
    return {part: session(exported, part) for part in parts}


@pytest.fixture(scope="module")
def pipeline(exported):
    diffusers = pytest.importorskip("diffusers")
    return diffusers.StableDiffusionPipeline.from_pretrained(exported)


def test_the_weights_are_small_and_stored_once(exported):
    weights = list(exported.rglob("*.safetensors"))
    assert sum(file.stat().st_size for file in weights) <= BUDGET
    assert len({hashlib.sha256(file.read_bytes()).digest() for file in weights}) == len(weights)
    files = [file for file in exported.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= BUDGET


def test_the_graphs_hold_no_weights(exported):
    onnx = pytest.importorskip("onnx")
    for path in exported.rglob("model.onnx"):
        graph = onnx.load(str(path), load_external_data=False).graph
        stored = [t for t in graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
        assert stored
        assert all(t.data_type == onnx.TensorProto.FLOAT16 for t in stored)
        inside = [t for t in graph.initializer if t.data_location != onnx.TensorProto.EXTERNAL]
        assert sum(int(np.prod(t.dims)) for t in inside) < 1000


def test_both_tokenizers_agree(exported):
    transformers = pytest.importorskip("transformers")
    from painter import tokenizer

    theirs = transformers.CLIPTokenizer.from_pretrained(exported / "tokenizer")
    ours = tokenizer.load(exported / "tokenizer")
    texts = ["A red house", "", "Straße 你好 🎈 don't 4K!!", "ship " * 200, "a  b\n\tc", "<b>x</w>"]
    for text in texts:
        ids = theirs(text, padding="max_length", max_length=77, truncation=True).input_ids
        assert tokenizer.encode_all(ours, [text])[0] == ids


def test_words_give_the_same_hidden_states(sessions, pipeline):
    torch = pytest.importorskip("torch")
    texts = ["a red house at night", ""]
    ids = pipeline.tokenizer(texts, padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        theirs = pipeline.text_encoder(ids)[0].numpy()
    ours = sessions["text_encoder"].run(None, {"input_ids": ids.numpy()})[0]
    assert np.abs(ours - theirs).max() < 1e-3


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_networks_give_the_same_at_every_size(sessions, pipeline, height, width):
    torch = pytest.importorskip("torch")
    draw = torch.Generator().manual_seed(0)
    latents = torch.randn(2, 8, height, width, generator=draw)
    words = torch.randn(2, 77, 192, generator=draw)
    steps = torch.tensor([981, 3])
    with torch.no_grad():
        noise = pipeline.unet(latents, steps, words).sample.numpy()
        picture = pipeline.vae.decode(latents).sample
        code = pipeline.vae.encode(picture).latent_dist.mean.numpy()
    feeds = {
        "sample": latents.numpy(),
        "timestep": steps.numpy(),
        "encoder_hidden_states": words.numpy(),
    }
    assert np.abs(sessions["unet"].run(None, feeds)[0] - noise).max() < 1e-3
    ours = sessions["vae_decoder"].run(None, {"latent_sample": latents.numpy()})[0]
    assert np.abs(ours - picture.numpy()).max() < 1e-3
    ours = sessions["vae_encoder"].run(None, {"sample": picture.numpy()})[0]
    assert np.abs(ours - code).max() < 1e-3


def test_smallest_and_largest_pictures_run(sessions):
    for side in (8, 32):
        latents = np.zeros((1, 8, side, side), np.float32)
        feeds = {
            "sample": latents,
            "timestep": np.array([5]),
            "encoder_hidden_states": np.zeros((1, 77, 192), np.float32),
        }
        assert sessions["unet"].run(None, feeds)[0].shape == latents.shape
        picture = sessions["vae_decoder"].run(None, {"latent_sample": latents})[0]
        assert picture.shape == (1, 3, side * 8, side * 8)
