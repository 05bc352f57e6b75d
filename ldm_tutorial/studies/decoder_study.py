"""The study ``decoder_study``: which remedy brings back what, and what a critic buys.

The arm ``all`` goes on from ``vae-f8-perceptual``, whose decoder weaves a grid, with
three remedies at once: a head that works at full resolution, a loss in bands of the
spectrum, and a critic held back by R1. Every other arm lacks one thing, or has three
times the critic's weight. All see the same images for the same steps from the same
start.

``c4`` and ``c8`` ask what twice the latent channels would bring: both are trained from
nothing, first on the plain loss and then as ``all``, and differ in their channels.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ldm_tutorial.codec import LatentCodec
from ldm_tutorial.evaluation.batched import through
from ldm_tutorial.evaluation.reports import evaluate_codec
from ldm_tutorial.landscapes.rulers import grid_peak
from ldm_tutorial.machine import best_device
from ldm_tutorial.records import Row
from ldm_tutorial.storage import config_to_dict
from ldm_tutorial.studies.reconstructions import look
from ldm_tutorial.studies.study import (
    DATA,
    Arm,
    Pictures,
    Scale,
    held_out,
    read_lines,
    reconstructed,
    trained_vae,
)
from ldm_tutorial.training.config import Log
from ldm_tutorial.training.presets import VAE_PRESETS
from ldm_tutorial.training.recipes import VAERecipe
from ldm_tutorial.vae import VAEConfig

DIFFERENT: dict[str, dict[str, Any]] = {
    "all": {},
    "no-critic": {"adversarial_weight": 0.0},
    "loud-critic": {"adversarial_weight": 0.3},
    "no-r1": {"r1_weight": 0.0},
    "no-bands": {"band_weight": 0.0},
}
CHANNELS = (4, 8)
SHARP = VAE_PRESETS["sharp"]
# Its head, its critic and its losses, in other amounts, and both halves are trained.
REMEDIES = replace(
    SHARP,
    init="vae-f8-perceptual",
    freeze_encoder=False,
    remove_checkerboard=False,
    loss=replace(
        SHARP.loss, contrast_weight=1.0, band_weight=0.2, adversarial_weight=0.1
    ),
    train=replace(
        SHARP.train,
        steps=600,
        learning_rate=5e-4,
        ema_decay=0.99,
        precision="bf16",
        seed=2,
    ),
)


def decoder_arms(scale: Scale) -> dict[str, Arm]:
    names = (*DIFFERENT, "no-head")
    arms: dict[str, Arm] = {name: partial(train_without, scale, name) for name in names}
    return arms | {f"c{C}": partial(train_channels, scale, C) for C in CHANNELS}


def decoder_recipe(scale: Scale, name: str) -> VAERecipe:
    """``REMEDIES`` but for one thing; at a smaller scale for fewer steps."""
    steps = min(REMEDIES.train.steps, 2 * scale.vae.steps)
    recipe = replace(
        REMEDIES,
        length=min(50_000, scale.images),
        loss=replace(REMEDIES.loss, adversarial_start=min(100, steps // 3)),
        train=replace(REMEDIES.train, steps=steps, warmup_steps=min(50, steps // 2)),
    )
    if name == "no-head":
        return replace(recipe, vae=VAEConfig())
    return replace(recipe, loss=replace(recipe.loss, **DIFFERENT[name]))


def train_without(scale: Scale, name: str, folder: Path) -> tuple[Row, Pictures]:
    recipe = decoder_recipe(scale, name)
    return trained(scale, recipe, config_to_dict(recipe), folder)


def train_channels(scale: Scale, C: int, folder: Path) -> tuple[Row, Pictures]:
    plain, sharp = channel_recipes(scale, C)
    trained_vae(plain, folder / "plain")
    described = {"plain": config_to_dict(plain), "sharp": config_to_dict(sharp)}
    sharp = replace(sharp, init=str(folder / "plain"))
    return trained(scale, sharp, described, folder)


def channel_recipes(scale: Scale, C: int) -> tuple[VAERecipe, VAERecipe]:
    """Both trainings of an arm; the second goes on from the first."""
    sharp = replace(decoder_recipe(scale, "all"), init="plain")
    sharp = replace(sharp, vae=replace(sharp.vae, latent_channels=C))
    vae = replace(sharp.vae, head_channels=0)
    return VAERecipe(length=sharp.length, vae=vae, train=scale.vae), sharp


def trained(
    scale: Scale, recipe: VAERecipe, described: Row, folder: Path
) -> tuple[Row, Pictures]:
    codec = trained_vae(recipe, folder / "vae").to(best_device())
    row: Row = {"recipe": described, "seed": recipe.train.seed}
    row |= {"game": standing(read_lines(folder / "vae"))}
    row |= {"reconstruction": evaluate_codec(codec, DATA, scale.judged)}
    row |= look(scale.judged, codec) | {"grid_parts": grid_parts(codec, scale.judged)}
    return row, {"reconstruction": reconstructed(codec)}


def grid_parts(codec: LatentCodec, n: int) -> list[float]:
    """``grid_peak`` of four parts of ``n`` images: how far one can trust the whole."""
    x_hat = through(codec, held_out(n), torch.Generator().manual_seed(0))
    return [grid_peak(part) for part in x_hat.clamp(-1, 1).chunk(4)]


def standing(log: list[Log]) -> dict[str, float]:
    """How the game stood over the last half of a training: the means of d_loss, d_real
    and d_fake, and the largest |logit| of both in the log; empty without a critic."""
    late = [line for line in log if 2 * line["step"] > log[-1]["step"]]
    if "d_loss" not in late[-1]:
        return {}
    names = ("d_loss", "d_real", "d_fake")
    row = {k: sum(line[k] for line in late) / len(late) for k in names}
    extreme = max(abs(line[k]) for line in late for k in names[1:])
    return row | {"largest_logit": extreme}
