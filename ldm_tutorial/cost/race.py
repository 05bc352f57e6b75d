"""What this library and diffusers have learned after the same time.

Both train in float32 on the same images in the same order, with each of three learning
rates; only training steps count as time. The best runs are compared.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ldm_tutorial.codec import LatentCodec
from ldm_tutorial.cost.against import WORKS, Work, takes_part
from ldm_tutorial.cost.efficiency import synchronize
from ldm_tutorial.cost.peers import (
    LATENT,
    LIBRARIES,
    OURS,
    PATCHED,
    Library,
    autoencoder_loss,
    unet_loss,
)
from ldm_tutorial.data import load_dataset, whole
from ldm_tutorial.machine import best_device
from ldm_tutorial.metrics import psnr

RATES = dict.fromkeys((OURS, PATCHED, "diffusers"), (1e-3, 2e-3, 4e-3))
WARMUP = 20  # steps


@dataclass(frozen=True)
class Contest:
    """What is trained, on what, and how it is judged.

    Attributes:
        work: of one step.
        build: the module of a library.
        loss: of a batch.
        data: what batches are taken from, on the device.
        judge: a number for a trained module.
        best: max or min.
        unit: of the number.
    """

    work: Work
    build: Callable[[Library], nn.Module]
    loss: Callable[[Library, nn.Module, Tensor], Tensor]
    data: Tensor
    judge: Callable[[Library, nn.Module], float]
    best: Callable[..., float]
    unit: str


def race(
    seconds: float,
    images: int = 8192,
    judged: int = 1024,
    rates: Mapping[str, Sequence[float]] = RATES,
) -> dict[str, Any]:
    """Autoencoders on landscapes, by the PSNR of held-out reconstructions; and UNets on
    latents of vae-f8, by their loss on held-out latents under fixed times and noise.

    For each: unit; seconds; runs, each with system, learning_rate, steps, images seen
    and result, which is null if the run diverged; best, by system.

    Args:
        seconds: of training, for each run.
        images, judged: to train on, and held out.
        rates: learning rates by system, equally many for all.
    """
    found = {}
    for name, contest in contests(images, judged).items():
        there = [k for k in rates if takes_part(LIBRARIES[k](), contest.work)]
        turns = zip(*(rates[k] for k in there), strict=True)
        runs = [
            train_for(contest, k, rate, seconds)
            for turn in turns
            for k, rate in zip(there, turn, strict=True)
        ]
        best = {k: best_of(contest, runs, k) for k in there}
        told = {"unit": contest.unit, "seconds": seconds, "runs": runs}
        found[name] = told | {"best": best}
    return found


def best_of(
    contest: Contest, runs: Sequence[dict[str, Any]], system: str
) -> float | None:
    """The best result of a system's runs that did not diverge, if there is one."""
    results = [run["result"] for run in runs if run["system"] == system]
    return contest.best((r for r in results if r is not None), default=None)


def contests(images: int, judged: int) -> dict[str, Contest]:
    """The two contests, with their data."""
    device = best_device()
    codec = LatentCodec.load("vae-f8").to(device)
    x, x_held = (
        whole(load_dataset("landscapes", split=split, length=n), n)[0].to(device)
        for split, n in (("train", images), ("validation", judged))
    )
    generator = torch.Generator(device).manual_seed(0)
    z, z_held = (
        torch.cat([codec.encode(batch, generator) for batch in a.split(256)])
        for a in (x, x_held)
    )

    def reconstruct(library: Library, vae: nn.Module) -> float:
        found = [
            psnr(library.through(vae, batch)[0], batch) for batch in x_held.split(64)
        ]
        return float(torch.cat(found).mean())

    def denoise(library: Library, unet: nn.Module) -> float:
        found = [len(b) * unet_loss(library, unet, b) for b in z_held.split(256)]
        return float(sum(found)) / len(z_held)

    return {
        "autoencoder": Contest(
            WORKS["autoencoder step"],
            lambda library: library.autoencoder(),
            autoencoder_loss,
            x,
            reconstruct,
            max,
            "PSNR in dB",
        ),
        "latent UNet": Contest(
            WORKS["latent UNet step"],
            lambda library: library.unet(LATENT),
            unet_loss,
            z,
            denoise,
            min,
            "loss on held-out latents",
        ),
    }


def train_for(
    contest: Contest, system: str, learning_rate: float, seconds: float
) -> dict[str, Any]:
    """Train for so many seconds, and judge.

    AdamW, gradients clipped to norm 1; the learning rate rises over WARMUP steps and
    falls to 0 along a cosine of the time.
    """
    library = LIBRARIES[system]()
    torch.manual_seed(0)
    module = contest.build(library).to(best_device()).train()
    optimizer = torch.optim.AdamW(module.parameters(), betas=(0.9, 0.99), fused=True)
    generator = torch.Generator().manual_seed(0)
    spent, steps, n = 0.0, 0, contest.work.images
    while spent < seconds:
        chosen = torch.randint(len(contest.data), (n,), generator=generator)
        batch = contest.data[chosen.to(contest.data.device)]
        start = time.perf_counter()
        fall = 0.5 * (1 + math.cos(math.pi * spent / seconds))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * fall * min(1, (steps + 1) / WARMUP)
        contest.loss(library, module, batch).backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        synchronize()
        spent += time.perf_counter() - start
        steps += 1
    torch.manual_seed(1)  # the same noise for all
    with torch.no_grad():
        result = contest.judge(library, module.eval())
    return {
        "system": system,
        "learning_rate": learning_rate,
        "steps": steps,
        "images": steps * n,
        "result": result if math.isfinite(result) else None,
    }
