"""Studies: the experiments of the book that take longer than a chapter.

A study is a list of arms that differ in one thing. ``ldm-tutorial reproduce NAME`` runs
them one after the other and records what came out in ``NAME.json``, with pictures
beside it. An arm that is done is not run again; one that was stopped goes on.
"""

from functools import partial
from pathlib import Path

import torch

from ldm_tutorial.codec import LatentCodec
from ldm_tutorial.data import images
from ldm_tutorial.records import Row
from ldm_tutorial.studies.kl import STABLE_DIFFUSION
from ldm_tutorial.studies.study import (
    DATA,
    Arm,
    Pictures,
    Scale,
    sampled,
    small_ldm,
    trained_vae,
    vae_recipe,
)


def scaling_arms(scale: Scale) -> dict[str, Arm]:
    return {
        kind: partial(rescale, scale, kind)
        for kind in ("none", "scalar", "per-channel")
    }


def rescale(scale: Scale, kind: str, folder: Path) -> tuple[Row, Pictures]:
    """The same autoencoder, with Stable Diffusion's KL weight, in every arm."""
    recipe = vae_recipe(scale, kl_weight=STABLE_DIFFUSION)
    fitted = trained_vae(recipe, folder.parent / "shared" / "vae")
    batches = images(DATA.load("train"), 256)
    codec = {
        "none": LatentCodec(fitted.vae),
        "scalar": LatentCodec.fit(fitted.vae, batches, per_channel=False),
        "per-channel": fitted,
    }[kind]
    quality, model = small_ldm(codec, scale, folder / "ldm")
    z = torch.cat([codec.encode(x) for x in batches])
    row = {
        "kl_weight": STABLE_DIFFUSION,
        "std_raw": fitted.std.flatten().tolist(),
        "scaling_factor": codec.scaling_factor.tolist(),
        "std_seen": float(z.std()),
        "samples": quality,
    }
    return row, {"sample": sampled(model, scale.steps)}
