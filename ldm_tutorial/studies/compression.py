"""The study ``compression_study``: what f and the latent channels cost in quality.

Autoencoders of one recipe that differ in shape alone. Two shapes hold the same 256
values and are trained from several seeds; the others bracket them.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

from ldm_tutorial.records import Row
from ldm_tutorial.storage import config_to_dict
from ldm_tutorial.studies.study import (
    Arm,
    Pictures,
    Scale,
    describe_vae,
    reconstructed,
    trained_vae,
    vae_recipe,
)

# f and latent channels: two that hold the same 256 values, trained with several seeds,
HEADLINE = ((8, 4), (16, 16))
# and some with 64, 256 and 1024 values.
GRID = ((4, 1), (4, 4), *HEADLINE, (16, 4))


def compression_arms(scale: Scale) -> dict[str, Arm]:
    return {
        f"f{f}-c{C}-seed{seed}": partial(train_shape, scale, f, C, seed)
        for f, C in GRID
        for seed in range(scale.seeds if (f, C) in HEADLINE else 1)
    }


def train_shape(
    scale: Scale, f: int, C: int, seed: int, folder: Path
) -> tuple[Row, Pictures]:
    recipe = vae_recipe(scale, seed, downsampling=f, latent_channels=C)
    short = replace(recipe.train, steps=recipe.train.steps * 2 // 5)
    recipe = replace(recipe, train=short)
    codec = trained_vae(recipe, folder / "vae")
    row = {"recipe": config_to_dict(recipe)}
    row |= describe_vae(codec, scale, recipe.train)
    return row, {"reconstruction": reconstructed(codec)} if seed == 0 else {}
