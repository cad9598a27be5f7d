"""Single-file checkpoints as their trainers wrote them, made of small pipelines of diffusers."""

import re
import warnings

from tests.diffusion import tiny

_UNET = (
    (r"^time_embedding\.linear_(\d)", lambda m: f"time_embed.{(int(m[1]) - 1) * 2}"),
    (r"^add_embedding\.linear_(\d)", lambda m: f"label_emb.0.{(int(m[1]) - 1) * 2}"),
    (r"^conv_in", "input_blocks.0.0"),
    (r"^conv_norm_out", "out.0"),
    (r"^conv_out", "out.2"),
    (r"^mid_block\.resnets\.(\d)", lambda m: f"middle_block.{int(m[1]) * 2}"),
    (r"^mid_block\.attentions\.0", "middle_block.1"),
)
_RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection",
}  # fmt: skip
_VAE = (
    (r"down_blocks\.(\d)\.resnets\.", r"down.\1.block."),
    (r"down_blocks\.(\d)\.downsamplers\.0\.", r"down.\1.downsample."),
    (r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}"),
    (r"mid_block\.attentions\.0\.", "mid.attn_1."),
    (r"conv_norm_out", "norm_out"),
    (r"conv_shortcut", "nin_shortcut"),
    (r"attn_1\.group_norm", "attn_1.norm"),
    (r"attn_1\.to_out\.0", "attn_1.proj_out"),
    (r"attn_1\.to_([qkv])", r"attn_1.\1"),
)
_OPEN_CLIP = (
    (r"^text_model\.", ""),
    (r"^embeddings\.token_embedding", "token_embedding"),
    (r"^embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"^encoder\.layers\.", "transformer.resblocks."),
    (r"self_attn\.out_proj", "attn.out_proj"),
    (r"layer_norm(\d)", r"ln_\1"),
    (r"mlp\.fc1", "mlp.c_fc"),
    (r"mlp\.fc2", "mlp.c_proj"),
    (r"^final_layer_norm", "ln_final"),
)


def make(folder, *, xl):
    """A small pipeline of diffusers, as wide as these files' layers must be."""
    import diffusers
    import torch
    from transformers import CLIPTokenizer

    torch.manual_seed(0)
    size = tiny.write_tokenizer(folder / "words")
    words = CLIPTokenizer.from_pretrained(folder / "words")
    shared = {"block_out_channels": (32, 64), "norm_num_groups": 32}
    parts = {
        "vae": diffusers.AutoencoderKL(
            latent_channels=4,
            block_out_channels=(32, 32, 32, 32),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            scaling_factor=0.13025 if xl else 0.18215,
        ).eval(),
        "text_encoder": tiny.text_encoder(size, layers=3, width=64, num_attention_heads=1),
        "tokenizer": words,
    }
    if not xl:
        scheduler = diffusers.PNDMScheduler(**tiny.SCHEDULER, set_alpha_to_one=False)
        unet = tiny.unet(64, attention_head_dim=8, **shared)
        return diffusers.StableDiffusionPipeline(
            **parts, unet=unet, scheduler=scheduler, safety_checker=None, feature_extractor=None,
            requires_safety_checker=False,
        )  # fmt: skip
    return diffusers.StableDiffusionXLPipeline(
        **parts,
        text_encoder_2=tiny.text_encoder(
            size, projected=True, layers=3, width=128, hidden_act="gelu"
        ),
        tokenizer_2=CLIPTokenizer.from_pretrained(folder / "words", pad_token="!"),
        unet=tiny.unet(
            64 + 128, **shared, attention_head_dim=(1, 1), use_linear_projection=True,
            addition_embed_type="text_time", addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=128 + 6 * 8, transformer_layers_per_block=(1, 2),
        ),
        scheduler=diffusers.EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1,
            timestep_spacing="leading",
        ),
        add_watermarker=False,
    )  # fmt: skip


def write(pipe, file):
    """The pipeline in one file, named as the checkpoints that people share."""
    from safetensors.torch import save_file

    found = tensors(pipe.components)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save_file({name: value.clone().contiguous() for name, value in found.items()}, file)


def tensors(parts):
    """What such a file holds of the networks ``parts``, by their names in a pipeline."""
    xl = "text_encoder_2" in parts
    clip = "conditioner.embedders.0." if xl else "cond_stage_model."
    found = {f"model.diffusion_model.{k}": v for k, v in _unet(parts["unet"]).items()}
    found |= {f"first_stage_model.{k}": v for k, v in _vae(parts["vae"]).items()}
    for name, value in parts["text_encoder"].state_dict().items():
        name = name.removeprefix("text_model.")
        found[f"{clip}transformer.text_model.{name}"] = value
    if xl:
        encoder = _open_clip(parts["text_encoder_2"])
        found |= {f"conditioner.embedders.1.model.{k}": v for k, v in encoder.items()}
    return found


def _renamed(name, rules):
    for pattern, new in rules:
        name = re.sub(pattern, new, name)
    return name


def _unet(unet):
    levels = unet.config.layers_per_block + 1
    crossed = ["Cross" in kind for kind in unet.config.up_block_types]
    found = {}
    for name, value in unet.state_dict().items():
        inner = ".resnets." in name
        block = re.match(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.*)", name)
        name = _block(block, levels, crossed) if block else _renamed(name, _UNET)
        if inner:
            name = ".".join(_RESNET.get(part, part) for part in name.split("."))
        found[name] = value
    return found


def _block(match, levels, crossed):
    way, block, kind, layer, rest = match.groups()
    block, layer = int(block), int(layer)
    where = "input_blocks" if way == "down" else "output_blocks"
    place = block * levels + layer + (way == "down")
    if kind == "downsamplers":
        return f"{where}.{block * levels + levels}.0.{rest.replace('conv', 'op')}"
    if kind == "upsamplers":
        return f"{where}.{block * levels + levels - 1}.{2 if crossed[block] else 1}.{rest}"
    return f"{where}.{place}.{int(kind == 'attentions')}.{rest}"


def _vae(vae):
    last = len(vae.config.block_out_channels) - 1
    rules = (
        (r"up_blocks\.(\d)\.resnets\.", lambda m: f"up.{last - int(m[1])}.block."),
        (r"up_blocks\.(\d)\.upsamplers\.0\.", lambda m: f"up.{last - int(m[1])}.upsample."),
        *_VAE,
    )
    found = {}
    for name, value in vae.state_dict().items():
        name = _renamed(name, rules)
        matrix = "attn_1" in name and "norm" not in name and name.endswith("weight")
        found[name] = value[:, :, None, None] if matrix else value
    return found


def _open_clip(encoder):
    import torch

    state = encoder.state_dict()
    found = {}
    for name, value in state.items():
        if name == "text_projection.weight":
            found["text_projection"] = value.T
        elif ".q_proj." in name:
            whole = [state[name.replace("q_proj", f"{one}_proj")] for one in "qkv"]
            name = _renamed(name, _OPEN_CLIP).replace("self_attn.q_proj.", "attn.in_proj_")
            found[name] = torch.cat(whole)
        elif ".k_proj." not in name and ".v_proj." not in name:
            found[_renamed(name, _OPEN_CLIP)] = value
    return found
