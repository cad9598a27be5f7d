"""What a single-file checkpoint of Stable Diffusion is, told by its tensors' names and shapes.

These files carry no configuration. Most of it is in the shapes; what is not (heads, scaling, the
schedule of the noise) are facts of the two architectures that are read: 1.x and XL.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nerite.sources.weights import SourceError

Shapes = Mapping[str, tuple[int, ...]]
Json = dict[str, Any]

UNET, VAE = "model.diffusion_model.", "first_stage_model."
_CLIP = {False: "cond_stage_model.transformer.", True: "conditioner.embedders.0.transformer."}
_OPEN_CLIP = "conditioner.embedders.1.model."
_HEAD = 64  # the width of an attention head, but in the UNet of 1.x, which has eight


@dataclass(frozen=True, slots=True)
class Level:
    """What a UNet has at one resolution; depth 0 without attention."""

    channels: int
    layers: int
    depth: int


class Checkpoint:
    """Raises SourceError where it is neither Stable Diffusion 1.x nor XL."""

    def __init__(self, file: Path, shapes: Shapes) -> None:
        self._shapes = shapes
        self.xl = f"{_OPEN_CLIP}ln_final.weight" in shapes
        clip = f"{_CLIP[self.xl]}text_model.embeddings.token_embedding.weight"
        missing = [
            name
            for name in (f"{UNET}out.2.weight", f"{VAE}decoder.conv_in.weight", clip)
            if name not in shapes
        ]
        if missing:
            raise SourceError(f"{file} cannot be read: {_what_else(shapes, missing[0])}")
        self.vocabulary = shapes[clip][0]

    def configs(self) -> dict[str, Json]:
        """The JSON files of a diffusers folder, by their paths in it."""
        files = {
            "model_index.json": self._index(),
            "unet/config.json": self._unet(),
            "vae/config.json": self._vae(),
            "text_encoder/config.json": self._text_encoder(),
            "scheduler/scheduler_config.json": self._scheduler(),
        }
        if self.xl:
            files["text_encoder_2/config.json"] = self._text_encoder_2()
        return files

    def _index(self) -> Json:
        task = "Inpaint" if self._shapes[f"{UNET}input_blocks.0.0.weight"][1] == 9 else ""
        parts = {
            "scheduler": ["diffusers", self._scheduler()["_class_name"]],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
            "feature_extractor": [None, None],
            "image_encoder": [None, None],
        }
        if self.xl:
            further: Json = {
                "_class_name": f"StableDiffusionXL{task}Pipeline",
                "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
                "tokenizer_2": ["transformers", "CLIPTokenizer"],
                "force_zeros_for_empty_prompt": True,
            }
        else:
            further = {
                "_class_name": f"StableDiffusion{task}Pipeline",
                "safety_checker": [None, None],
                "requires_safety_checker": False,
            }
        return {**further, **parts}

    def _levels(self) -> list[Level]:
        levels, number = [Level(0, 0, 0)], 1
        while any(name.startswith(f"{UNET}input_blocks.{number}.") for name in self._shapes):
            block = f"{UNET}input_blocks.{number}"
            number += 1
            if f"{block}.0.op.weight" in self._shapes:
                levels.append(Level(0, 0, 0))
                continue
            channels = self._shapes[f"{block}.0.in_layers.2.weight"][0]
            depth = self._count(rf"{re.escape(block)}\.1\.transformer_blocks\.(\d+)\.")
            levels[-1] = Level(channels, levels[-1].layers + 1, depth)
        return levels

    def _count(self, pattern: str) -> int:
        """One more than the largest number at that place of a name; 0 where none has one."""
        found = (re.match(pattern, name) for name in self._shapes)
        return max((int(match[1]) + 1 for match in found if match), default=0)

    def _unet(self) -> Json:
        levels = self._levels()
        crossed = [level.depth > 0 for level in levels]
        channels = [level.channels for level in levels]
        context = next(s for n, s in self._shapes.items() if n.endswith("attn2.to_k.weight"))
        projected = next(s for n, s in self._shapes.items() if n.endswith(".1.proj_in.weight"))
        linear = len(projected) == 2
        middle = self._count(rf"{re.escape(UNET)}middle_block\.1\.transformer_blocks\.(\d+)\.")
        down = ["CrossAttnDownBlock2D" if one else "DownBlock2D" for one in crossed]
        up = ["CrossAttnUpBlock2D" if one else "UpBlock2D" for one in reversed(crossed)]
        config: Json = {
            "_class_name": "UNet2DConditionModel",
            "in_channels": self._shapes[f"{UNET}input_blocks.0.0.weight"][1],
            "out_channels": self._shapes[f"{UNET}out.2.weight"][0],
            "sample_size": 128 if self.xl else 64,
            "block_out_channels": channels,
            "layers_per_block": levels[0].layers,
            "down_block_types": down,
            "up_block_types": up,
            "cross_attention_dim": context[1],
            # diffusers takes that of the middle from the last.
            "transformer_layers_per_block": [max(1, one.depth) for one in levels[:-1]] + [middle],
            "use_linear_projection": linear,
            "attention_head_dim": [max(1, n // _HEAD) for n in channels] if linear else 8,
        }
        if self.xl:
            told = self._shapes[f"{UNET}label_emb.0.0.weight"][1]
            config |= {
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": (told - self._projection) // 6,
                "projection_class_embeddings_input_dim": told,
            }
        return config

    def _vae(self) -> Json:
        halved = self._count(rf"{re.escape(VAE)}encoder\.down\.(\d+)\.")
        layers = self._count(rf"{re.escape(VAE)}encoder\.down\.0\.block\.(\d+)\.")
        blocks = [f"{VAE}encoder.down.{level}.block.0.conv2.weight" for level in range(halved)]
        return {
            "_class_name": "AutoencoderKL",
            "block_out_channels": [self._shapes[name][0] for name in blocks],
            "layers_per_block": layers,
            "down_block_types": ["DownEncoderBlock2D"] * halved,
            "up_block_types": ["UpDecoderBlock2D"] * halved,
            "latent_channels": self._shapes[f"{VAE}decoder.conv_in.weight"][1],
            "sample_size": 1024 if self.xl else 512,
            "scaling_factor": 0.13025 if self.xl else 0.18215,
            "force_upcast": self.xl,
        }

    def _text_encoder(self) -> Json:
        text = f"{_CLIP[self.xl]}text_model."
        vocabulary, width = self._shapes[f"{text}embeddings.token_embedding.weight"]
        places = self._shapes[f"{text}embeddings.position_embedding.weight"]
        return {
            "architectures": ["CLIPTextModel"],
            "model_type": "clip_text_model",
            "vocab_size": vocabulary,
            "hidden_size": width,
            "intermediate_size": self._shapes[f"{text}encoder.layers.0.mlp.fc1.weight"][0],
            "num_hidden_layers": self._count(rf"{re.escape(text)}encoder\.layers\.(\d+)\."),
            "num_attention_heads": max(1, width // _HEAD),
            "max_position_embeddings": places[0],
            "projection_dim": width,
            "hidden_act": "quick_gelu",
            **_WORDS,
        }

    @property
    def _projection(self) -> int:
        return self._shapes[f"{_OPEN_CLIP}text_projection"][1]

    def _text_encoder_2(self) -> Json:
        vocabulary, width = self._shapes[f"{_OPEN_CLIP}token_embedding.weight"]
        blocks = f"{_OPEN_CLIP}transformer.resblocks."
        return {
            "architectures": ["CLIPTextModelWithProjection"],
            "model_type": "clip_text_model",
            "vocab_size": vocabulary,
            "hidden_size": width,
            "intermediate_size": self._shapes[f"{blocks}0.mlp.c_fc.weight"][0],
            "num_hidden_layers": self._count(rf"{re.escape(blocks)}(\d+)\."),
            "num_attention_heads": max(1, width // _HEAD),
            "max_position_embeddings": self._shapes[f"{_OPEN_CLIP}positional_embedding"][0],
            "projection_dim": self._projection,
            "hidden_act": "gelu",
            **_WORDS,
        }

    def _scheduler(self) -> Json:
        velocity = "v_pred" in self._shapes
        common = {
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "num_train_timesteps": 1000,
            "prediction_type": "v_prediction" if velocity else "epsilon",
            "steps_offset": 1,
            "clip_sample": False,
        }
        if not self.xl:
            rest: Json = {"skip_prk_steps": True, "set_alpha_to_one": False, "trained_betas": None}
            return {"_class_name": "PNDMScheduler", **common, **rest}
        rest = {"timestep_spacing": "leading", "interpolation_type": "linear"}
        if "ztsnr" in self._shapes:
            rest |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
        return {"_class_name": "EulerDiscreteScheduler", **common, **rest}


# An end token of 2 has transformers take the highest id for the end, as OpenAI's code did.
_WORDS = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}


def _what_else(shapes: Shapes, missing: str) -> str:
    names = tuple(shapes)
    if any(name.startswith("cond_stage_model.model.") for name in names):
        return "it is Stable Diffusion 2.x; of single files 1.x and XL are read"
    if any(name.startswith("conditioner.embedders.0.model.") for name in names):
        return "it is the refiner of Stable Diffusion XL, which paints over pictures only"
    if any("lora" in name.lower() for name in names):
        return "it is a LoRA, which changes a model and is none"
    if not any(name.startswith(UNET) for name in names):
        return f"it is no checkpoint of Stable Diffusion 1.x or XL, no name begins with {UNET}"
    return f"it lacks {missing}; a checkpoint has UNet, VAE and text encoder in one file"
