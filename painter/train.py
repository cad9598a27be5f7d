"""Trains the painter, stage by stage: ``python -m painter.train vae --minutes 60``.

Stages in order: vae, text, unet, checker. Each resumes from its checkpoint in ``--runs``; with
``--init-from`` a new run starts from the weights of an exported folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.distributed as dist
from diffusers import AutoencoderKL, UNet2DConditionModel
from tokenizers import Tokenizer
from torch import multiprocessing
from transformers import CLIPTextModel

from painter import latents, tokenizer, train_checker, train_text, train_unet, train_vae
from painter.device import Device
from painter.loop import Plan, load_average, rank
from painter.networks import new_text_encoder, new_unet, new_vae


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=tuple(STAGES))
    parser.add_argument("--runs", type=Path, default=Path("painter/runs"))
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--rate", type=float, help="peak learning rate, if not the stage's own")
    parser.add_argument("--batch", type=int, help="pictures in a worker's step")
    parser.add_argument("--init-from", type=Path, help="an exported folder to start from")
    parser.add_argument("--scenes", type=int, default=20_000, help="how many the unet learns from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread each")
    parser.add_argument("--port", type=int, default=29511, help="where the workers meet")
    return parser.parse_args()


def run_vae(given: argparse.Namespace, device: Device) -> None:
    vae = new_vae()
    if given.init_from:
        vae.load_state_dict(AutoencoderKL.from_pretrained(given.init_from / "vae").state_dict())
    plan = Plan("vae", given.runs, given.minutes, given.rate or 1e-3)
    train_vae.train(vae, plan, given.batch or 8, device)
    if rank() > 0:
        return
    load_average(vae, plan.checkpoint)
    latents.whiten(vae, given.runs, device)
    torch.save({"average": vae.state_dict()}, given.runs / "vae-white.pt")


def text_encoder(given: argparse.Namespace) -> tuple[CLIPTextModel, Tokenizer]:
    words = tokenizer.ready((given.init_from or given.runs) / "tokenizer")
    encoder = new_text_encoder(words.get_vocab_size(), *tokenizer.edges(words))
    if given.init_from:
        stored = CLIPTextModel.from_pretrained(given.init_from / "text_encoder")
        encoder.load_state_dict(stored.state_dict())
    return encoder, words


def run_text(given: argparse.Namespace, device: Device) -> None:
    encoder, words = text_encoder(given)
    plan = Plan("reader", given.runs, given.minutes, given.rate or 1e-3, weight_decay=0.01)
    train_text.train(encoder, words, plan, device)


def known_latents(given: argparse.Namespace, device: Device) -> latents.Known:
    vae = new_vae()
    if given.init_from:
        vae.load_state_dict(AutoencoderKL.from_pretrained(given.init_from / "vae").state_dict())
    else:
        load_average(vae, given.runs / "vae-white.pt")
    return latents.cached(vae, given.runs, given.scenes, device)


def run_unet(given: argparse.Namespace, device: Device) -> None:
    encoder, words = text_encoder(given)
    unet = new_unet()
    if given.init_from:
        stored = UNet2DConditionModel.from_pretrained(given.init_from / "unet")
        unet.load_state_dict(stored.state_dict())
    else:
        load_average(encoder, given.runs / "text.pt")
    plan = Plan("unet", given.runs, given.minutes, given.rate or 8e-4, weight_decay=0.01)
    listener = train_unet.Words(encoder, words, device)
    known = known_latents(given, device)
    train_unet.train(unet, listener, known, plan, given.batch or 32)


def run_checker(given: argparse.Namespace, device: Device) -> None:
    plan = Plan("checker", given.runs, given.minutes, given.rate or 2e-3)
    train_checker.train(plan, device)


STAGES = {"vae": run_vae, "text": run_text, "unet": run_unet, "checker": run_checker}


def work(number: int, given: argparse.Namespace) -> None:
    """One worker; all start from the same weights."""
    if given.workers > 1:
        torch.set_num_threads(1)
        place = f"tcp://127.0.0.1:{given.port}"
        dist.init_process_group("gloo", init_method=place, rank=number, world_size=given.workers)
    torch.manual_seed(given.seed)
    STAGES[given.stage](given, Device.best())


def main() -> None:
    given = arguments()
    if given.workers > 1:
        multiprocessing.spawn(work, (given,), nprocs=given.workers)
    else:
        work(0, given)


if __name__ == "__main__":
    main()
