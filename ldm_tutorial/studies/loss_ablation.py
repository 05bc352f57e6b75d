"""The study ``loss_ablation``: what each term adds to an autoencoder's L1 loss."""

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from ldm_tutorial.machine import best_device
from ldm_tutorial.records import Row
from ldm_tutorial.storage import config_to_dict
from ldm_tutorial.studies.reconstructions import look
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
    return {name: partial(fine_tune, scale, name) for name in LOSSES}


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
    return VAERecipe(
        length=scale.images,
        init="vae-f8",
        loss=loss,
        train=replace(
            scale.vae, steps=steps, learning_rate=scale.vae.learning_rate / 2
        ),
    )


def fine_tune(scale: Scale, name: str, folder: Path) -> tuple[Row, Pictures]:
    recipe = loss_recipe(scale, name)
    codec = trained_vae(recipe, folder / "vae").to(best_device())
    row = {"recipe": config_to_dict(recipe), "loss": asdict(recipe.loss)}
    row |= describe_vae(codec, scale, recipe.train) | look(scale.judged, codec)
    return row, {"reconstruction": reconstructed(codec)}
