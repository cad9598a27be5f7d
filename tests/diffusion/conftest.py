"""A tiny Stable Diffusion 1.x with random weights, in diffusers' layout and exported to ONNX."""

import json
import warnings
from pathlib import Path

import pytest

WORDS = (
    "a red house in the snow at night with a moon, they're don't we'll i'm it's you've he'd "
    "lighthouse sailboat mountain balloon painting photograph watercolour"
)


def _write_tokenizer(folder: Path, **config) -> int:
    """CLIP's tokenizer files with a small vocabulary trained on WORDS; returns its size."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=700, end_of_word_suffix="</w>", initial_alphabet=letters, show_progress=False
    )
    trained.train_from_iterator([WORDS] * 5, trainer)
    merges = [
        pair.split() if isinstance(pair, str) else pair
        for pair in json.loads(trained.to_str())["model"]["merges"]
    ]
    tokens = [*letters, *(letter + "</w>" for letter in letters)]
    tokens += ["".join(pair) for pair in merges] + ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    options = {"model_max_length": 77, "tokenizer_class": "CLIPTokenizer", **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(options))
    return len(vocabulary)


def _make_networks(vocabulary_size):
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary_size,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            bos_token_id=vocabulary_size - 2,
            eos_token_id=vocabulary_size - 1,
            pad_token_id=vocabulary_size - 1,
            attn_implementation="eager",
        )
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
    )
    for name, weight in unet.named_parameters():
        if "attn2.to_out.0.weight" in name:
            weight.data *= 20  # or the words, and the guidance, would hardly show
    return text_encoder.eval(), unet.eval(), vae.eval()


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
    return _write_tokenizer


@pytest.fixture
def export_unet():
    return _export_unet


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """(folder, diffusers pipeline) of the same weights; the folder runs on onnxruntime."""
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    pytest.importorskip("onnx")
    torch.set_num_threads(1)  # for networks this small, more only wait for each other
    folder = tmp_path_factory.mktemp("models") / "tiny"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import CLIPTokenizer

        size = _write_tokenizer(folder / "tokenizer")
        torch.manual_seed(0)
        text_encoder, unet, vae = _make_networks(size)
        pipeline = diffusers.StableDiffusionPipeline(
            text_encoder=text_encoder,
            unet=unet,
            vae=vae,
            tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
            scheduler=diffusers.PNDMScheduler(
                beta_start=0.00085,
                beta_end=0.012,
                beta_schedule="scaled_linear",
                skip_prk_steps=True,
                steps_offset=1,
            ),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        pipeline.save_config(folder)
        for part in ("unet", "vae", "scheduler"):
            getattr(pipeline, part).save_config(folder / part)
        # Read back, its options all count as given: so they do for whoever has but the folder.
        pipeline.scheduler = diffusers.PNDMScheduler.from_pretrained(folder / "scheduler")
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
