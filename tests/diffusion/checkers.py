"""Small safety checkers, trained on nothing, that tell two pictures apart; painters with one."""

import json

import numpy as np

from nerite.painter import REPOSITORY

SIDE = 32
PLAIN = np.full((64, 96, 3), 240, np.uint8)
STRIPES = np.tile(np.array([[[250, 10, 10]], [[10, 10, 250]]], np.uint8), (32, 96, 1))


SMALL = """
backend: "diffusion"
parameters { key: "steps" value { string_value: "1" } }
parameters { key: "image_width" value { string_value: "64" } }
parameters { key: "image_height" value { string_value: "64" } }
"""


def add_painter(repository, name, *, checker="", mode="", pair=(STRIPES, PLAIN)):
    """A painter of small pictures with a ``checker`` as ``write`` makes it, its config's mode."""
    version = repository / name / "1"
    version.mkdir(parents=True)
    for part in (REPOSITORY / "painter" / "1").iterdir():
        (version / part.name).symlink_to(part)
    if checker:
        write(version, flags=checker, pair=pair)
    config = SMALL
    if mode:
        config += f'parameters {{ key: "safety_checker" value {{ string_value: "{mode}" }} }}\n'
    (version.parent / "config.pbtxt").write_text(config)


def write(folder, *, flags="first", pair=(STRIPES, PLAIN)):
    """In ``folder``: a checker that flags the first of the pair, or ``flags`` "all"."""
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
    checker.concept_embeds_weights.data.fill_(2 if flags == "first" else -2)
    if flags == "first":
        seen = embed(checker, folder, pair)
        middle = (seen[0] - seen[1]) / 2
        checker.concept_embeds.data[0] = middle
        near, far = torch.nn.functional.cosine_similarity(seen, middle[None])
        checker.concept_embeds_weights.data[0] = (near + far) / 2
    checker.save_pretrained(folder / "safety_checker", safe_serialization=True)
    return folder


def embed(checker, folder, pair):
    """What it sees in them, by transformers' own processor."""
    import torch

    with torch.no_grad():
        seen = checker.vision_model(prepare(folder, pair))[1]
        return checker.visual_projection(seen)


def prepare(folder, pair):
    from PIL import Image
    from transformers import CLIPImageProcessorPil

    processor = CLIPImageProcessorPil.from_pretrained(folder / "feature_extractor")
    pictures = [Image.fromarray(picture) for picture in pair]
    return processor(pictures, return_tensors="pt").pixel_values
