"""The study ``scaling_study``: what it costs if latents have not unit scale.

One autoencoder, trained with Stable Diffusion's KL weight, whose latents reach the
same small diffusion model at several scales.
"""

from functools import partial
from pathlib import Path

import torch

from ldm_tutorial.codec import LatentCodec
from ldm_tutorial.data import images
from ldm_tutorial.records import Row
from ldm_tutorial.storage import config_to_dict
from ldm_tutorial.studies.kl import STABLE_DIFFUSION
from ldm_tutorial.studies.study import (
    DATA,
    Arm,
    Pictures,
    Scale,
    ldm_recipe,
    sample_pictures,
    train_small_ldm,
    trained_vae,
    vae_recipe,
)

# What the latents are multiplied by after they were brought to unit scale. Stable
# Diffusion's come at a scale of 1 / 0.18215 = 5.5.
FACTORS = (1 / 5.5, 1 / 2, 2, 5.5)


def scaling_arms(scale: Scale) -> dict[str, Arm]:
    arms: dict[str, Arm] = {
        kind: partial(train_at_scale, scale, kind, 1.0)
        for kind in ("none", "scalar", "per-channel")
    }
    return arms | {
        f"scalar-times-{factor:.2g}": partial(train_at_scale, scale, "scalar", factor)
        for factor in FACTORS
    }


def train_at_scale(
    scale: Scale, kind: str, factor: float, folder: Path
) -> tuple[Row, Pictures]:
    """The same autoencoder, with Stable Diffusion's KL weight, in every arm."""
    recipe = vae_recipe(scale, kl_weight=STABLE_DIFFUSION)
    fitted = trained_vae(recipe, folder.parent / "shared" / "vae")
    batches = images(DATA.load("train"), 256)
    codec = {
        "none": LatentCodec(fitted.vae),
        "scalar": LatentCodec.fit(fitted.vae, batches, per_channel=False),
        "per-channel": fitted,
    }[kind]
    if factor != 1:
        codec = LatentCodec(fitted.vae, codec.mean, codec.std / factor)
    diffusion = ldm_recipe(scale)
    quality, model = train_small_ldm(codec, scale, folder / "ldm", diffusion)
    z = torch.cat([codec.encode(x) for x in batches])
    row = {
        "recipe": {
            "vae": config_to_dict(recipe),
            "scaling": kind,
            "factor": factor,
            "ldm": config_to_dict(diffusion),
        },
        "kl_weight": STABLE_DIFFUSION,
        "std_raw": fitted.std.flatten().tolist(),
        "scaling_factor": codec.scaling_factor.tolist(),
        "std_seen": float(z.std()),
        "samples": quality,
    }
    return row, {"sample": sample_pictures(model, scale.steps)}
