"""Diffusers folders of each architecture, with random weights and a few thousand parameters."""

import json
import warnings
from pathlib import Path

WORDS = (
    "a red house in the snow at night with a moon, they're don't we'll i'm it's you've he'd "
    "lighthouse sailboat mountain balloon painting photograph watercolour"
)
SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "skip_prk_steps": True,
    "steps_offset": 1,
}
WIDTH = 16


def write_tokenizer(folder: Path, **config) -> int:
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


def _write_t5_tokenizer(folder: Path) -> int:
    """A tokenizer.json as T5's: a unigram model over letters, ended by </s>."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    letters = sorted({*WORDS, "\u2581"} - {" "})
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -10.0)]
    pieces += [(letter, -2.0 - i / 100) for i, letter in enumerate(letters)]
    pieces += [(f"\u2581{word}", -1.0) for word in ("red", "house", "snow")]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    options = {
        "tokenizer_class": "T5Tokenizer",
        "extra_ids": 0,
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "model_max_length": 512,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(options))
    return len(pieces)


def text_encoder(size, *, projected=False, layers=2, width=WIDTH, **options):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    settings = {"num_attention_heads": 2, **options}
    config = CLIPTextConfig(
        vocab_size=size,
        hidden_size=width,
        projection_dim=width,
        intermediate_size=32,
        num_hidden_layers=layers,
        bos_token_id=size - 2,
        eos_token_id=size - 1,
        pad_token_id=size - 1,
        attn_implementation="eager",
        **settings,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config).eval()


def unet(context=WIDTH, **options):
    from diffusers import UNet2DConditionModel

    settings = {
        "sample_size": 8,
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": context,
        "attention_head_dim": 4,
        "norm_num_groups": 8,
    }
    network = UNet2DConditionModel(**(settings | options))
    for name, weight in network.named_parameters():
        if "attn2.to_out.0.weight" in name:
            weight.data *= 20  # or the words, and the guidance, would hardly show
    return network.eval()


def vae(channels=4, **options):
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        latent_channels=channels,
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
        **options,
    ).eval()


def _stable_diffusion(folder, **options):
    import diffusers
    from transformers import CLIPTokenizer

    size = write_tokenizer(folder / "tokenizer")
    scheduler = {"prediction_type": options.pop("prediction_type", "epsilon")}
    return diffusers.StableDiffusionPipeline(
        text_encoder=text_encoder(size, layers=3),
        unet=unet(**options),
        vae=vae(),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        scheduler=diffusers.PNDMScheduler(**SCHEDULER, **scheduler),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _stable_diffusion_2(folder):
    """v-prediction, linear projections, wider heads, and a text encoder that pads with "!"."""
    return _stable_diffusion(
        folder,
        prediction_type="v_prediction",
        use_linear_projection=True,
        attention_head_dim=(2, 4),
    )


def _stable_diffusion_xl(folder):
    import diffusers
    from transformers import CLIPTokenizer

    size = write_tokenizer(folder / "tokenizer")
    write_tokenizer(folder / "tokenizer_2", pad_token="!")
    return diffusers.StableDiffusionXLPipeline(
        text_encoder=text_encoder(size, layers=3),
        text_encoder_2=text_encoder(size, projected=True, layers=3, width=24),
        unet=unet(
            WIDTH + 24,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=24 + 6 * 8,
            transformer_layers_per_block=(1, 2),
            use_linear_projection=True,
        ),
        vae=vae(scaling_factor=0.13025, force_upcast=True),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        tokenizer_2=CLIPTokenizer.from_pretrained(folder / "tokenizer_2"),
        scheduler=diffusers.EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            steps_offset=1,
            timestep_spacing="leading",
        ),
        add_watermarker=False,
    )


def _stable_diffusion_3(folder, *, t5=True):
    import diffusers
    from transformers import CLIPTokenizer, T5Config, T5EncoderModel, T5TokenizerFast

    size = write_tokenizer(folder / "tokenizer")
    write_tokenizer(folder / "tokenizer_2", pad_token="!")
    encoder, tokenizer = None, None
    if t5:
        words = _write_t5_tokenizer(folder / "tokenizer_3")
        config = T5Config(
            vocab_size=words, d_model=48, d_kv=8, d_ff=32, num_layers=2, num_heads=2,
            decoder_start_token_id=0,
        )  # fmt: skip
        encoder = T5EncoderModel(config).eval()
        tokenizer = T5TokenizerFast.from_pretrained(folder / "tokenizer_3")
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=48,
        caption_projection_dim=16,
        pooled_projection_dim=WIDTH + 24,
        pos_embed_max_size=24,
    )
    return diffusers.StableDiffusion3Pipeline(
        transformer=transformer.eval(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(16, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False),
        text_encoder=text_encoder(size, projected=True, layers=3),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        text_encoder_2=text_encoder(size, projected=True, layers=3, width=24),
        tokenizer_2=CLIPTokenizer.from_pretrained(folder / "tokenizer_2"),
        text_encoder_3=encoder,
        tokenizer_3=tokenizer,
    )


def _pixart(folder):
    import diffusers
    from transformers import T5Config, T5EncoderModel, T5TokenizerFast

    words = _write_t5_tokenizer(folder / "tokenizer")
    config = T5Config(
        vocab_size=words, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2,
        decoder_start_token_id=0,
    )  # fmt: skip
    transformer = diffusers.PixArtTransformer2DModel(
        sample_size=8,
        num_layers=1,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_channels=16,
        in_channels=4,
        cross_attention_dim=16,
        out_channels=8,
        norm_num_groups=1,
    )
    return diffusers.PixArtAlphaPipeline(
        tokenizer=T5TokenizerFast.from_pretrained(folder / "tokenizer"),
        text_encoder=T5EncoderModel(config).eval(),
        vae=vae(),
        transformer=transformer.eval(),
        scheduler=diffusers.DDIMScheduler(clip_sample=False),
    )


_MAKERS = {
    "sd": _stable_diffusion,
    "sd inpaint": lambda folder: _stable_diffusion(folder, in_channels=9),
    "lcm": lambda folder: _stable_diffusion(folder, time_cond_proj_dim=16),
    "sd2": _stable_diffusion_2,
    "sdxl": _stable_diffusion_xl,
    "sd3": _stable_diffusion_3,
    "sd3 without t5": lambda folder: _stable_diffusion_3(folder, t5=False),
}
KINDS = tuple(_MAKERS)
_MAKERS["pixart"] = _pixart  # the general family's


def make(kind: str, folder: Path):
    """diffusers' pipeline of that kind, saved in ``folder``."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        pipeline = _MAKERS[kind](folder)
        pipeline.set_progress_bar_config(disable=True)
        pipeline.save_pretrained(folder)
        # Read back, the scheduler's options all count as given, as for whoever has the folder.
        scheduler = type(pipeline.scheduler)
        pipeline.scheduler = scheduler.from_pretrained(folder / "scheduler")
    return pipeline


def paint(folder, params, runtime="torch"):
    """What our engine makes of a folder, uint8 [n, h, w, 3]; raises what became of it."""
    from nerite.diffusion import Engine, open_pipeline

    engine, events = Engine(open_pipeline(folder, threads=1, runtime=runtime)), []
    engine.add(params, events.append)
    while engine.step():
        pass
    if isinstance(events[0], BaseException):
        raise events[0]
    return events[0].images


def paint_together(pipeline, *requests):
    """The pictures of several requests, each of which joins a step after the one before."""
    from nerite.diffusion import Engine

    engine, painted = Engine(pipeline, max_running_images=16), {}
    for index, request in enumerate(requests):
        engine.add(request, lambda event, index=index: painted.update({index: event}))
        engine.step()
    while engine.step():
        pass
    return [painted[index].images for index in range(len(requests))]
