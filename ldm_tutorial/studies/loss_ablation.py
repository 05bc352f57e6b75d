"""Studies: the experiments of the book that take longer than a chapter.

A study is a list of arms that differ in one thing. ``ldm-tutorial reproduce NAME`` runs
them one after the other and records what came out in ``NAME.json``, with pictures
beside it. An arm that is done is not run again; one that was stopped goes on.
"""

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from ldm_tutorial.records import Row
from ldm_tutorial.studies.study import (
    Arm,
    Pictures,
    Scale,
    describe_vae,
    reconstructed,
    trained_vae,
)
from ldm_tutorial.training.losses import VAELossConfig
from ldm_tutorial.training.recipes import VAERecipe

LOSSES = ("l1", "perceptual", "contrast", "adversarial")


def loss_arms(scale: Scale) -> dict[str, Arm]:
    return {name: partial(ablate, scale, name) for name in LOSSES}


def loss_recipe(scale: Scale, name: str) -> VAERecipe:
    """All arms go on from the same shipped autoencoder, for the same steps, each with
    one term more than the one before."""
    steps = 2 * scale.vae.steps
    losses = [VAELossConfig()]
    for more in (
        {"perceptual": "scenenet"},
        {"contrast_weight": 1.0},
        {"adversarial_weight": 0.3, "adversarial_start": steps * 3 // 5},
    ):
        losses.append(replace(losses[-1], **more))
    loss = losses[LOSSES.index(name)]
    train = replace(scale.vae, steps=steps, learning_rate=scale.vae.learning_rate / 2)
    return VAERecipe(length=scale.images, init="vae-f8", loss=loss, train=train)


def ablate(scale: Scale, name: str, folder: Path) -> tuple[Row, Pictures]:
    recipe = loss_recipe(scale, name)
    codec = trained_vae(recipe, folder / "vae")
    row = describe_vae(codec, scale, recipe.train) | {"loss": asdict(recipe.loss)}
    return row, {"reconstruction": reconstructed(codec)}
