"""Stable Diffusion 1.5, XL and 3 medium in their real sizes with random weights, for speed only."""

import shutil
from pathlib import Path
from typing import Any

from nerite.painter import REPOSITORY

KINDS = ("sd", "sdxl", "sd3")
_CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
           "num_attention_heads": 12, "projection_dim": 768}  # fmt: skip
_CLIP_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32,
           "num_attention_heads": 20, "projection_dim": 1280, "hidden_act": "gelu"}  # fmt: skip
_NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
          "steps_offset": 1}  # fmt: skip


def make(kind: str, folder: Path) -> Path:
    """A diffusers folder of that architecture in bfloat16."""
    import torch

    torch.manual_seed(0)
    for suffix in ("",) if kind == "sd" else ("", "_2"):
        shutil.copytree(REPOSITORY / "painter" / "1" / "tokenizer", folder / f"tokenizer{suffix}")
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        pipeline = {"sd": _sd, "sdxl": _sdxl, "sd3": _sd3}[kind](folder)
    pipeline.to(torch.bfloat16).save_pretrained(folder)
    return folder


def _tokenizer(folder: Path, suffix: str = "") -> Any:
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder / f"tokenizer{suffix}")


def _text(sizes: dict[str, Any], tokenizer: Any, *, projected: bool) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(tokenizer), bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, **sizes,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def _vae(channels: int, **options: Any) -> Any:
    import diffusers

    return diffusers.AutoencoderKL(
        latent_channels=channels,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        **options,
    )


def _sd(folder: Path) -> Any:
    import diffusers

    tokenizer = _tokenizer(folder)
    return diffusers.StableDiffusionPipeline(
        text_encoder=_text(_CLIP_L, tokenizer, projected=False),
        unet=diffusers.UNet2DConditionModel(sample_size=64, cross_attention_dim=768),
        vae=_vae(4),
        tokenizer=tokenizer,
        scheduler=diffusers.PNDMScheduler(skip_prk_steps=True, **_NOISE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _sdxl(folder: Path) -> Any:
    import diffusers

    first, second = _tokenizer(folder), _tokenizer(folder, "_2")
    unet = diffusers.UNet2DConditionModel(
        sample_size=128,
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(5, 10, 20),
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )
    return diffusers.StableDiffusionXLPipeline(
        text_encoder=_text(_CLIP_L, first, projected=False),
        text_encoder_2=_text(_CLIP_G, second, projected=True),
        unet=unet,
        vae=_vae(4, scaling_factor=0.13025),
        tokenizer=first,
        tokenizer_2=second,
        scheduler=diffusers.EulerDiscreteScheduler(timestep_spacing="leading", **_NOISE),
        add_watermarker=False,
    )


def _sd3(folder: Path) -> Any:
    import diffusers

    first, second = _tokenizer(folder), _tokenizer(folder, "_2")
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=128, num_layers=24, num_attention_heads=24, attention_head_dim=64,
        joint_attention_dim=4096, caption_projection_dim=1536, pooled_projection_dim=2048,
        pos_embed_max_size=192,
    )  # fmt: skip
    return diffusers.StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_vae(16, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False),
        text_encoder=_text(_CLIP_L, first, projected=True),
        tokenizer=first,
        text_encoder_2=_text(_CLIP_G, second, projected=True),
        tokenizer_2=second,
        text_encoder_3=None,
        tokenizer_3=None,
    )
