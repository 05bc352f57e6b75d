"""The study ``star_probe``: how much of the stars do latents hold?

A decoder that draws no stars may have been given none, or may not have learned to draw
them. A probe asks the latents themselves: a small network sees the 3 x 3 latents around
a cell of the night sky and predicts how many of its pixels belong to stars (Alain and
Bengio 2016, arXiv:1610.01644). What it explains of the held-out nights is a lower bound
of what the latents tell; a better probe may find more.
"""

from functools import cache, partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm_tutorial.codec import LatentCodec
from ldm_tutorial.evaluation.batched import in_batches
from ldm_tutorial.evaluation.ratios import half_width, ratio
from ldm_tutorial.landscapes.dataset import Landscapes, render_with_masks
from ldm_tutorial.landscapes.factors import NIGHT, TIMES
from ldm_tutorial.records import Row
from ldm_tutorial.studies.study import DATA, Arm, Pictures, Scale

CELL = 8  # pixels of a side: what one latent of f = 8 stands for
BASELINE = "visibility"  # of how much sky a cell shows, and how high it stands
PROBED = (BASELINE, "vae-f8", "vae-f8-perceptual")
WIDTH, STEPS, BATCH, LEARNING_RATE = 128, 1500, 1024, 2e-3  # of the probe

Nights = tuple[Tensor, Tensor, Tensor]


def probe_arms(scale: Scale) -> dict[str, Arm]:
    return {
        f"{name}-seed{seed}": partial(probe, scale, name, seed)
        for name in PROBED
        for seed in range(scale.seeds)
    }


def probe(scale: Scale, name: str, seed: int, folder: Path) -> tuple[Row, Pictures]:
    """R2 of the star pixels in each cell of clear sky, over held-out nights."""
    trained, held_out = 4 * scale.judged, scale.judged * 6 // 5
    torch.manual_seed(seed)  # of the network's weights
    generator = torch.Generator().manual_seed(seed)
    features, stars, sky = cells(name, "train", trained)
    network = nn.Sequential(
        nn.Linear(features.shape[-1], WIDTH),
        nn.SiLU(),
        nn.Linear(WIDTH, WIDTH),
        nn.SiLU(),
        nn.Linear(WIDTH, 1),
    )
    fit(network, features[sky], stars[sky], generator)
    features, stars, sky = cells(name, "test", held_out)
    with torch.no_grad():
        told = network(features).squeeze(-1)
    error = ((told - stars).square() * sky).sum(1)
    spread = ((stars - stars[sky].mean()).square() * sky).sum(1)
    unexplained, influence = ratio(error, spread)
    return {
        "recipe": {
            "latents": name,
            "seed": seed,
            "nights": trained,
            "width": WIDTH,
            "steps": STEPS,
            "batch_size": BATCH,
            "learning_rate": LEARNING_RATE,
        },
        "n": held_out,
        "cells": int(sky.sum()),
        "stars_per_cell": float(stars[sky].mean()),
        "r2": 1 - unexplained,
        "r2_ci95": half_width(influence),
    }, {}


def fit(
    network: nn.Module,
    features: Tensor,
    stars: Tensor,
    generator: torch.Generator | None = None,
) -> None:
    """Train a probe on cells (n, d) and their numbers of star pixels (n,)."""
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        chosen = torch.randint(len(features), (BATCH,), generator=generator)
        loss = F.mse_loss(network(features[chosen]).squeeze(-1), stars[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


@cache
def nights(split: str, n: int) -> Nights:
    """The first n nights of a split: images (n, 3, 64, 64), star pixels of each cell
    (n, 64), and the share of it that shows the sky (n, 64)."""
    drawn = 2 * len(TIMES) * n
    factors = Landscapes(split, drawn, size=DATA.size).factors(range(drawn))
    factors = factors[(factors.time == NIGHT).nonzero().flatten()[:n]]
    x, masks = render_with_masks(factors, DATA.size)
    stars, sky = (
        F.avg_pool2d(mask[:, None].float(), CELL).flatten(1)
        for mask in (masks["stars"], masks["stars"] | masks["sky"])
    )
    return x, stars * CELL**2, sky


@torch.no_grad()
def cells(name: str, split: str, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """What the probe sees of each cell (n, 64, d), its star pixels (n, 64), and whether
    it is one that counts: of nothing but sky. All arms see where the cell is, and how
    much sky its neighbourhood shows; the latents of an autoencoder come in addition."""
    x, stars, sky = nights(split, n)
    side = DATA.size // CELL
    seen = [sky.view(-1, 1, side, side)]
    if name != BASELINE:
        codec, generator = LatentCodec.load(name), torch.Generator().manual_seed(0)
        seen.append(in_batches(lambda part: codec.encode(part, generator), x))
    around = F.unfold(torch.cat(seen, dim=1), 3, padding=1).mT  # (n, 64, 9 C)
    row = torch.linspace(-1, 1, side).repeat_interleave(side).expand(n, -1)
    return torch.cat([around, row[..., None]], dim=-1), stars, sky == 1
