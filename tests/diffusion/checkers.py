"""A small safety checker, trained on nothing, that tells two pictures apart."""

import json

import numpy as np

SIDE = 32
PLAIN = np.full((64, 96, 3), 240, np.uint8)
STRIPES = np.tile(np.array([[[250, 10, 10]], [[10, 10, 250]]], np.uint8), (32, 96, 1))


def write(folder, *, flags="stripes"):
    """In ``folder``: a checker that flags STRIPES and not PLAIN, or ``flags`` "all"."""
    import torch
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    torch.manual_seed(0)
    vision = {
        "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "patch_size": 8,
        "num_attention_heads": 2, "image_size": SIDE, "projection_dim": 16,
    }  # fmt: skip
    checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, projection_dim=16))
    checker = checker.eval()
    (folder / "feature_extractor").mkdir(parents=True)
    settings = {
        "image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": SIDE},
        "crop_size": {"height": SIDE, "width": SIDE}, "resample": 3,
    }  # fmt: skip
    (folder / "feature_extractor" / "preprocessor_config.json").write_text(json.dumps(settings))
    checker.special_care_embeds_weights.data.fill_(2)
    checker.concept_embeds_weights.data.fill_(2 if flags == "stripes" else -2)
    if flags == "stripes":
        seen = embed(checker, folder)
        middle = (seen[0] - seen[1]) / 2
        checker.concept_embeds.data[0] = middle
        near, far = torch.nn.functional.cosine_similarity(seen, middle[None])
        checker.concept_embeds_weights.data[0] = (near + far) / 2
    checker.save_pretrained(folder / "safety_checker", safe_serialization=True)
    return folder


def embed(checker, folder):
    """What it sees in STRIPES and PLAIN, by transformers' own processor."""
    import torch

    with torch.no_grad():
        seen = checker.vision_model(prepare(folder))[1]
        return checker.visual_projection(seen)


def prepare(folder):
    from PIL import Image
    from transformers import CLIPImageProcessorPil

    processor = CLIPImageProcessorPil.from_pretrained(folder / "feature_extractor")
    pictures = [Image.fromarray(picture) for picture in (STRIPES, PLAIN)]
    return processor(pictures, return_tensors="pt").pixel_values
