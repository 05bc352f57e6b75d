"""The study ``frozen_vs_joint``: should the autoencoder be frozen while the diffusion
model is trained?

All arms start from the same trained autoencoder and differ in what becomes of it.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import get_args

import torch

from ldm_tutorial.codec import LatentCodec
from ldm_tutorial.disk import read_json, write_json
from ldm_tutorial.evaluation import latents
from ldm_tutorial.evaluation.reports import evaluate_codec
from ldm_tutorial.evaluation.samples import evaluate_samples
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.records import Row
from ldm_tutorial.storage import config_to_dict
from ldm_tutorial.studies.study import (
    DATA,
    LOOKS,
    Arm,
    Pictures,
    Scale,
    held_out,
    ldm_recipe,
    read_lines,
    reconstructed,
    sample_pictures,
    train_small_ldm,
)
from ldm_tutorial.training.config import Log
from ldm_tutorial.training.recipes import Autoencoder
from ldm_tutorial.training.tasks import autoencoder

HEADLINE = ("frozen", "joint")  # get several seeds


def joint_arms(scale: Scale) -> dict[str, Arm]:
    arms: dict[str, Arm] = {
        kind: partial(train_both, scale, kind, 0) for kind in get_args(Autoencoder)
    }
    return arms | {
        f"{kind}-seed{seed}": partial(train_both, scale, kind, seed)
        for seed in range(1, scale.seeds)
        for kind in HEADLINE
    }


def train_both(
    scale: Scale, kind: str, seed: int, folder: Path
) -> tuple[Row, Pictures]:
    """All arms start from the same trained autoencoder; those of one seed see the same
    batches."""
    every = max(1, scale.ldm.steps // (4 * LOOKS))
    train = replace(
        scale.ldm, batch_size=scale.vae.batch_size, log_every=every, seed=seed
    )
    recipe = ldm_recipe(scale, autoencoder=kind, train=train)
    seen = folder / "quality.json"

    def watch(model: LatentDiffusion, line: Log) -> None:
        if line["step"] % (4 * every) == 0:
            quality = evaluate_samples(model, DATA, scale.samples // 2, scale.steps)
            known = read_json(seen) if seen.exists() else {}
            write_json(seen, known | {str(line["step"]): quality})

    quality, model = train_small_ldm(
        LatentCodec.load("vae-f8"), scale, folder / "ldm", recipe, watch
    )
    codec = autoencoder(model)
    x, generator = held_out(1000), torch.Generator().manual_seed(0)
    row = {
        "recipe": config_to_dict(recipe),
        "autoencoder": kind,
        "seed": seed,
        "log": read_lines(folder / "ldm"),
        "reconstruction": evaluate_codec(codec, DATA, scale.judged),
        "latent_std": raw_spread(codec),
        "dimensions": latents.effective_dimensions(codec.encode(x, generator)),
        "samples_along": read_json(seen),
        "samples": quality,
    }
    return row, {
        "reconstruction": reconstructed(codec),
        "sample": sample_pictures(model, scale.steps),
    }


@torch.no_grad()
def raw_spread(codec: LatentCodec) -> float:
    """Standard deviation of what the autoencoder puts out for held-out images."""
    q = codec.vae.encode(held_out(256))
    return float(q.sample(torch.Generator().manual_seed(0)).std())
