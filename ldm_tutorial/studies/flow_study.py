"""The study ``flow_study``: noise, v or a flow; a UNet or a transformer.

All arms see the latents of ``vae-f8`` and get the operations that ``Scale.ldm`` is for
the UNet; the transformer, which needs more for a step, gets fewer steps. Each arm
differs from the one before in one thing: what is predicted (``unet-v``), along which
path, its schedule and its times (``unet-v-cosine``, nearly that of a flow), whether the
target is the speed along it (``unet-flow``), by which network (``dit-flow``).
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ldm_tutorial.codec import LatentCodec
from ldm_tutorial.cost.efficiency import count_flops, count_parameters
from ldm_tutorial.diffusion import Objective
from ldm_tutorial.dit import DiTConfig
from ldm_tutorial.evaluation.samples import evaluate_samples
from ldm_tutorial.flow import FlowMatching
from ldm_tutorial.landscapes.factors import CLASS_NAMES
from ldm_tutorial.records import Row
from ldm_tutorial.schedule import ScheduleConfig
from ldm_tutorial.storage import config_to_dict
from ldm_tutorial.studies.study import (
    DATA,
    Arm,
    Pictures,
    Scale,
    last_line,
    ldm_recipe,
    sample_pictures,
    trained_ldm,
)
from ldm_tutorial.training.recipes import LDMRecipe, Network, build_denoiser

FLOW: Any = FlowMatching()
# v along nearly a flow's path, at the times that a flow draws
ON_COSINE = Objective(ScheduleConfig("cosine"), "v", logit_normal=FLOW.logit_normal)
# name: what is predicted and how, by which network
ARMS: dict[str, tuple[Any, Network]] = {
    "unet-eps": (Objective(), "unet"),
    "unet-v": (Objective(prediction_type="v"), "unet"),
    "unet-v-cosine": (ON_COSINE, "unet"),
    "unet-flow": (FLOW, "unet"),
    "dit-flow": (FLOW, "dit"),
}
TRANSFORMER = DiTConfig(width=96, depth=6, num_heads=4)


def flow_arms(scale: Scale) -> dict[str, Arm]:
    return {
        f"{name}-seed{seed}": partial(train_model, scale, name, seed)
        for name in ARMS
        for seed in range(scale.seeds if name != "unet-eps" else 1)
    }


def flow_recipe(scale: Scale, name: str, seed: int = 0) -> LDMRecipe:
    objective, network = ARMS[name]
    train = replace(scale.ldm, seed=seed)
    recipe = ldm_recipe(
        scale, objective=objective, denoiser=network, dit=TRANSFORMER, train=train
    )
    if network == "unet":
        return recipe
    share = step_gflops(replace(recipe, denoiser="unet")) / step_gflops(recipe)
    return replace(recipe, train=replace(train, steps=round(share * train.steps)))


@torch.no_grad()
def step_gflops(recipe: LDMRecipe) -> float:
    """Of a training step, whose backward pass counts as two forward passes."""
    codec = LatentCodec.load("vae-f8")
    network = build_denoiser(recipe, codec, len(CLASS_NAMES))
    n, y = recipe.train.batch_size, torch.zeros(1, dtype=torch.int64)
    z_t = torch.zeros(1, *codec.latent_shape(recipe.size))
    return 3 * n * count_flops(partial(network, z_t, y, y)) / 1e9


def train_model(
    scale: Scale, name: str, seed: int, folder: Path
) -> tuple[Row, Pictures]:
    recipe = flow_recipe(scale, name, seed)
    model = trained_ldm(recipe, LatentCodec.load("vae-f8"), folder / "ldm")
    gflops = step_gflops(recipe)
    row = {
        "recipe": config_to_dict(recipe),
        "prediction_type": recipe.objective.prediction_type,
        "network": recipe.denoiser,
        "seed": seed,
        "parameters": count_parameters(model.unet),
        "steps": recipe.train.steps,
        "step_gflops": gflops,
        "gflops": recipe.train.steps * gflops,
        "loss": last_line(folder / "ldm")["diffusion"],
        # "ddim" of a flow is Euler's method
        "nfe": {
            nfe: evaluate_samples(model, DATA, scale.samples, nfe)
            for nfe in scale.nfe[::2]
        },
    }
    return row, {"sample": sample_pictures(model, scale.steps)} if seed == 0 else {}
