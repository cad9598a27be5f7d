"""Stage ``text``: the text encoder learns to say what a caption tells, and is then frozen.

Every attribute can then be read off each position from the last word on by a linear map, so that
the UNet learns to follow words quickly. The maps themselves are thrown away.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import CLIPTextModel

from painter.captions import Caption, caption
from painter.data import held_out_scene, training_scene
from painter.device import Device
from painter.loop import Loop, Plan, load_average, rank
from painter.networks import TOKENS, WIDTH
from painter.scenes import HUES, LANDS, PLACES, SUBJECTS, THINGS, TIMES
from painter.tokenizer import encode_all

CLASSES = (
    ("subject", SUBJECTS),
    ("colour", HUES),
    ("time", TIMES),
    ("ground", LANDS),
    ("place", PLACES),
)
BATCH = 64


def labels(told: Caption) -> list[int]:
    """One number per attribute; one past the last name, or 2 for the sky, means untold."""
    found = []
    for attribute, names in CLASSES:
        name = getattr(told, attribute)
        found.append(len(names) if name is None else names.index(name))
    for thing in THINGS:
        found.append(2 if told.sky is None else int(thing in told.sky))
    return found


class Reader(nn.Module):
    """The text encoder with the linear maps that read attributes off its hidden states."""

    def __init__(self, encoder: CLIPTextModel) -> None:
        super().__init__()
        self.encoder = encoder
        sizes = [len(names) + 1 for _, names in CLASSES] + [3] * len(THINGS)
        self.sizes = sizes
        self.heads = nn.Linear(WIDTH, sum(sizes))

    def forward(self, ids: Tensor, positions: Tensor) -> tuple[Tensor, ...]:
        hidden = self.encoder(input_ids=ids).last_hidden_state
        rows = torch.arange(len(ids), device=ids.device)[:, None]
        picked = self.heads(hidden[rows, positions].float())
        return torch.split(picked, self.sizes, dim=-1)


@dataclass(frozen=True, slots=True)
class Batch:
    """Token ids, positions to read at, and the right answers."""

    ids: Tensor
    positions: Tensor
    answers: Tensor


def draw(tokenizer: Tokenizer, rng: random.Random, count: int, held_out: bool) -> Batch:
    """Fresh captions, read at the end of the words and at three paddings after it."""
    scene = held_out_scene if held_out else training_scene
    told = [caption(scene(rng), rng) for _ in range(count)]
    ids = torch.tensor(encode_all(tokenizer, [one.text for one in told]))
    ends = (ids != ids[0, -1]).sum(1, keepdim=True)
    length = max(int(ends.max()) + 1, rng.choice((24, 32, 48, TOKENS)))
    ids = ids[:, :length]
    beyond = (torch.rand(count, 3) * (length - ends)).long() + ends
    positions = torch.cat([ends, beyond.clamp(max=length - 1)], 1)
    return Batch(ids, positions, torch.tensor([labels(one) for one in told]))


def train(encoder: CLIPTextModel, tokenizer: Tokenizer, plan: Plan, device: Device) -> None:
    """Leaves the encoder alone, without the maps, in ``text.pt``."""
    reader = Reader(encoder).to(device.name)
    rng = random.Random(f"text {rank()}")

    def step(share: float) -> Tensor:
        batch = draw(tokenizer, rng, BATCH, held_out=False)
        read = reader(batch.ids.to(device.name), batch.positions.to(device.name))
        answers = batch.answers.to(device.name)
        return torch.stack(
            [
                F.cross_entropy(
                    scores.float().flatten(0, 1), answers[:, n, None].expand(-1, 4).flatten()
                )
                for n, scores in enumerate(read)
            ]
        ).sum()

    Loop(plan, reader).run(step)
    if rank() > 0:
        return
    load_average(reader, plan.checkpoint)
    torch.save({"average": reader.encoder.state_dict()}, plan.folder / "text.pt")
    print(f"held-out captions read wholly right: {accuracy(reader, tokenizer, device):.4f}")


@torch.no_grad()
def accuracy(reader: Reader, tokenizer: Tokenizer, device: Device) -> float:
    """The share of held-out captions of which every attribute is read right everywhere."""
    batch = draw(tokenizer, random.Random("text test"), 1000, held_out=True)
    read = reader.eval()(batch.ids.to(device.name), batch.positions.to(device.name))
    guesses = torch.stack([scores.argmax(-1) for scores in read], -1).cpu()
    return float((guesses == batch.answers[:, None]).all(-1).all(-1).float().mean())
