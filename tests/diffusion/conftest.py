"""A tiny Stable Diffusion 1.x with random weights, in diffusers' layout and exported to ONNX."""

import warnings

import pytest

from . import tiny as models


def _export(torch, path, network, call, example, names, dynamic):
    class Wrapped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network  # or its weights would be constants, not initializers

        def forward(self, *inputs):
            return call(*inputs)

    path.parent.mkdir(exist_ok=True)
    axes = {name: dict(enumerate(letters)) for name, letters in dynamic.items()}
    axes = {
        name: {i: letter for i, letter in sides.items() if letter != "?"}
        for name, sides in axes.items()
    }
    with torch.no_grad():
        torch.onnx.export(
            Wrapped().eval(),
            example,
            path,
            input_names=names,
            output_names=["output"],
            dynamic_axes=axes,
            opset_version=17,
            dynamo=False,
        )


def _export_unet(path, unet, *, times=2, letters="b", dtype="float32", squeeze=False):
    """A graph for ``times`` timesteps, 0 for a scalar; ``letters`` names its free dimensions.

    ``squeeze`` insists on a single timestep, whatever the letters say.
    """
    import torch

    timestep = (torch.arange(times) if times else torch.tensor(7)).to(getattr(torch, dtype))
    # Odd latents, so that the trace measures sizes on its way up where it would else double.
    example = (torch.randn(2, 4, 9, 9), timestep, torch.randn(2, 77, 16))

    def call(sample, timestep, context):
        return unet(sample, timestep.reshape(1) if squeeze else timestep, context)[0]

    names = ["sample", "timestep", "encoder_hidden_states"]
    dynamic = dict(zip(names, ("b?hw", letters, "bs?"), strict=True))
    _export(torch, path, unet, call, example, names, dynamic)


@pytest.fixture
def write_tokenizer():
    return models.write_tokenizer


@pytest.fixture
def export_unet():
    return _export_unet


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """(folder, diffusers pipeline) of the same weights; the folder runs on onnxruntime."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    pytest.importorskip("onnx")
    torch.set_num_threads(1)  # for networks this small, more only wait for each other
    folder = tmp_path_factory.mktemp("models") / "tiny"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline = models.make("sd", folder)
        text_encoder, unet, vae = pipeline.text_encoder, pipeline.unet, pipeline.vae
        for weights in folder.glob("*/*.safetensors"):
            weights.unlink()
        _export(
            torch,
            folder / "text_encoder" / "model.onnx",
            text_encoder,
            lambda ids: text_encoder(ids)[0],
            (torch.ones(2, 77, dtype=torch.int64),),
            ["input_ids"],
            {"input_ids": "bs"},
        )
        _export_unet(folder / "unet" / "model.onnx", unet)
        _export(
            torch,
            folder / "vae_decoder" / "model.onnx",
            vae,
            lambda latents: vae.decode(latents).sample,
            (torch.randn(1, 4, 9, 9),),
            ["latent_sample"],
            {"latent_sample": "b?hw"},
        )
    return folder, pipeline
