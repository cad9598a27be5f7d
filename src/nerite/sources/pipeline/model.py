"""Stable Diffusion in steps: asks text_encoder, denoises with the UNet here, asks vae.

On a GPU where there is one, else on the CPU. Written by `nerite export --pipeline`; change it as
you like.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from transformers import CLIPTokenizer

import triton_python_backend_utils as pb_utils

STEPS, GUIDANCE_SCALE = 50, 7.5


class TritonPythonModel:
    """prompt, and what may be said besides, to generated_image."""

    def initialize(self, args: dict[str, str]) -> None:
        folder = Path(__file__).parent
        self.device = "cpu"
        if torch.cuda.is_available():
            self.device = f"cuda:{args.get('model_instance_device_id', 0)}"
        self.dtype = torch.float32 if self.device == "cpu" else torch.float16
        self.tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        self.unet = diffusers.UNet2DConditionModel.from_pretrained(
            folder / "unet", use_safetensors=True, torch_dtype=self.dtype
        ).to(self.device)
        config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
        self.scheduler = getattr(diffusers, config["_class_name"]).from_config(config)
        vae = json.loads((folder / "vae.json").read_text())
        self.scale = vae.get("scaling_factor", 0.18215)

    def execute(self, requests: list[Any]) -> list[Any]:
        responses = []
        for request in requests:
            try:
                images = self.paint(request)
            except pb_utils.TritonModelException as error:
                responses.append(pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error))))
                continue
            tensor = pb_utils.Tensor("generated_image", images)
            responses.append(pb_utils.InferenceResponse([tensor]))
        return responses

    def paint(self, request: Any) -> Any:
        """Float32 [n, h, w, 3], from 0 to 255: a picture for each prompt."""
        prompts = texts(request, "prompt", [])
        avoided = texts(request, "negative_prompt", [""] * len(prompts))
        context = self.encode(avoided + prompts)
        seed = number(request, "seed", None)
        generator = torch.Generator()
        if seed is None:
            generator.seed()
        else:
            generator.manual_seed(seed)
        side = self.unet.config.sample_size
        shape = (len(prompts), self.unet.config.in_channels, side, side)
        latents = torch.randn(shape, generator=generator).to(self.device)
        steps = number(request, "steps", STEPS)
        latents = self.denoise(
            latents, context, steps, number(request, "guidance_scale", GUIDANCE_SCALE)
        )
        image = self.decode(latents / self.scale)
        image = (image / 2 + 0.5).clip(0, 1).transpose(0, 2, 3, 1)
        return (image * 255).round().astype(np.float32)

    def encode(self, prompts: list[str]) -> Any:
        tokens = self.tokenizer(
            prompts,
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="np",
        )
        ids = pb_utils.Tensor("input_ids", tokens.input_ids.astype(np.int32))
        context = ask("text_encoder", [ids], "last_hidden_state")
        return torch.from_numpy(context).to(self.device, self.dtype)

    def denoise(self, latents: Any, context: Any, steps: int, guidance_scale: float) -> Any:
        scheduler = type(self.scheduler).from_config(self.scheduler.config)  # it counts its steps
        scheduler.set_timesteps(steps)
        latents = latents * scheduler.init_noise_sigma
        for timestep in scheduler.timesteps:
            both = scheduler.scale_model_input(torch.cat([latents] * 2), timestep)
            with torch.no_grad():
                noise = self.unet(both.to(self.dtype), timestep, encoder_hidden_states=context)
            without, towards = noise.sample.float().chunk(2)
            guided = without + guidance_scale * (towards - without)
            latents = scheduler.step(guided, timestep, latents).prev_sample
        return latents

    def decode(self, latents: Any) -> Any:
        tensor = pb_utils.Tensor("latent_sample", latents.cpu().numpy())
        return ask("vae", [tensor], "sample")


def ask(model: str, inputs: list[Any], output: str) -> Any:
    """What another model of this server answers, as a numpy array."""
    request = pb_utils.InferenceRequest(
        model_name=model, requested_output_names=[output], inputs=inputs
    )
    response = request.exec()
    if response.has_error():
        raise pb_utils.TritonModelException(response.error().message())
    tensor: Any = pb_utils.get_output_tensor_by_name(response, output)
    return tensor.as_numpy()


def texts(request: Any, name: str, default: list[str]) -> list[str]:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return default if tensor is None else [text.decode() for text in tensor.as_numpy().flatten()]


def number(request: Any, name: str, default: Any) -> Any:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return default if tensor is None else tensor.as_numpy().flatten()[0].item()
