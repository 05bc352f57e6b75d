"""The study ``own_images``: how many pictures does a model of one's own need, and when
does it give them back?

It takes a folder of pictures, or a set by name (``--data``). All arms train alike for
the same steps; they differ in how many of the pictures they see, or in one thing from
the arm with the fewest. Arms of one size share the autoencoder, which is trained on the
same pictures. No picture is recorded: a sample may be a copy of somebody's photograph.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ldm_tutorial.data import DataConfig
from ldm_tutorial.evaluation.copies import find_copies, miniature
from ldm_tutorial.evaluation.reports import evaluate_codec
from ldm_tutorial.evaluation.samples import evaluate_samples
from ldm_tutorial.machine import best_device
from ldm_tutorial.records import Row
from ldm_tutorial.storage import config_to_dict
from ldm_tutorial.studies.study import (
    Arm,
    Pictures,
    Scale,
    ldm_recipe,
    read_lines,
    trained_ldm,
    trained_vae,
)
from ldm_tutorial.training.recipes import LDMRecipe, VAERecipe
from ldm_tutorial.vae import VAEConfig

LONGER = 4  # times the steps
VALIDATED = 256  # held-out pictures that the validation loss is a mean over


@dataclass(frozen=True)
class OwnArm:
    """One use of a folder: so many pictures, and what is changed in the trainings."""

    vae: VAERecipe
    ldm: LDMRecipe


def own_arms(scale: Scale, data: str) -> dict[str, Arm]:
    return {
        name: partial(train_own, scale, arm)
        for name, arm in own_recipes(scale, data).items()
    }


def own_recipes(scale: Scale, data: str) -> dict[str, OwnArm]:
    """Recipes by the name of the arm."""
    sizes = {n: at_64(scale, data, n) for n in scale.pictures}
    few, some = list(sizes)[:2]
    ldm, vae = sizes[few].ldm, sizes[some].vae
    longer = replace(ldm.train, steps=LONGER * ldm.train.steps)
    dropout = replace(ldm.unet, dropout=0.2)
    arms = {f"{n}": arm for n, arm in sizes.items()}
    arms |= {
        f"{few}-longer": replace(sizes[few], ldm=replace(ldm, train=longer)),
        f"{few}-flip": replace(sizes[few], ldm=replace(ldm, flip=True)),
        f"{few}-dropout": replace(sizes[few], ldm=replace(ldm, unet=dropout)),
        f"{some}-from-nothing": replace(sizes[some], vae=replace(vae, init=None)),
    }
    return arms | {f"{n}-32px": at_32(sizes[n]) for n in list(sizes)[1:]}


def at_64(scale: Scale, data: str, n: int) -> OwnArm:
    """``n`` pictures of 64 pixels a side, and the shipped autoencoder to start from."""
    steps = scale.vae.steps // 2
    fine_tuning = replace(scale.vae, steps=steps, learning_rate=1e-3)
    vae = VAERecipe(data=data, length=n, init="vae-f8", train=fine_tuning)
    batch, looks = scale.ldm.batch_size // 2, scale.ldm.steps // 4
    train = replace(scale.ldm, batch_size=batch, validate_every=max(1, looks))
    return OwnArm(vae, ldm_recipe(scale, data=data, length=n, train=train))


def at_32(arm: OwnArm) -> OwnArm:
    """The same pictures at half the side: f = 4 leaves as many latents."""
    vae = replace(arm.vae, size=32, init=None, vae=VAEConfig(downsampling=4))
    return OwnArm(vae, replace(arm.ldm, size=32))


def train_own(scale: Scale, arm: OwnArm, folder: Path) -> tuple[Row, Pictures]:
    shared = folder.parent / "shared" / vae_name(arm.vae)
    codec = trained_vae(arm.vae, shared).to(best_device())
    held_out = arm.ldm.load("validation", VALIDATED)
    model = trained_ldm(arm.ldm, codec, folder / "ldm", validate=held_out)
    data = DataConfig(arm.ldm.data, size=arm.ldm.size)
    small: list[Tensor] = []
    quality = evaluate_samples(
        model,
        data,
        scale.samples,
        scale.steps,
        seen=lambda x: small.append(miniature(x)),
    )
    found = find_copies(torch.cat(small), arm.ldm, codec)
    row = {
        "recipe": {"vae": config_to_dict(arm.vae), "ldm": config_to_dict(arm.ldm)},
        "pictures": len(arm.ldm.load("train", arm.ldm.length)),
        "seed": arm.ldm.train.seed,
        "steps": arm.ldm.train.steps,
        "reconstruction": evaluate_codec(codec, data, scale.judged),
        "samples": quality,
        "copies": found.report,
        "losses": losses(folder / "ldm"),
    }
    return row, {}


def vae_name(recipe: VAERecipe) -> str:
    """The folder of an autoencoder that several arms share."""
    start = "" if recipe.init else "-from-nothing"
    return f"vae-{recipe.length}-{recipe.size}px{start}"


def losses(training: Path) -> dict[str, list[list[float]]]:
    """(step, loss) of the training pictures, in the mean over the lines since the one
    before, and of held-out ones, wherever the training looked at these."""
    found: dict[str, list[list[float]]] = {"training": [], "validation": []}
    since: list[float] = []
    for line in read_lines(training):
        if "loss" in line:
            since.append(line["loss"])
        if "validation_loss" in line and since:
            found["training"].append([line["step"], sum(since) / len(since)])
            found["validation"].append([line["step"], line["validation_loss"]])
            since = []
    return found
