"""The study ``time_to_quality``: what the same time buys in pixels and in latents.

Time is counted at a *price list* that is measured side by side in one run: so many
seconds for a training step here, so many there. A training then gets as many steps as
its budget buys, and a busy moment of the machine changes nothing.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ldm_tutorial.codec import Codec, LatentCodec, PixelCodec
from ldm_tutorial.cost.efficiency import (
    count_flops,
    count_parameters,
    time_side_by_side,
    training_step,
)
from ldm_tutorial.cost.spaces import SPACES, Space
from ldm_tutorial.diffusion import Objective
from ldm_tutorial.disk import read_json, write_json
from ldm_tutorial.evaluation.reports import evaluate_codec
from ldm_tutorial.evaluation.samples import evaluate_samples
from ldm_tutorial.machine import best_device
from ldm_tutorial.records import Row
from ldm_tutorial.storage import config_to_dict
from ldm_tutorial.studies.study import (
    DATA,
    Arm,
    Pictures,
    Scale,
    loss_alone,
    read_lines,
    sample_pictures,
    trained_ldm,
    trained_vae,
)
from ldm_tutorial.training.config import Precision, TrainConfig
from ldm_tutorial.training.loop import autocast
from ldm_tutorial.training.losses import VAELossConfig
from ldm_tutorial.training.recipes import LDMRecipe, VAERecipe
from ldm_tutorial.training.tasks import VAETraining
from ldm_tutorial.vae import AutoencoderKL


def price_list(
    batch: int,
    repeats: int,
    vae_precision: Precision = "no",
    spaces: dict[str, Space] | None = None,
) -> dict[str, dict[str, float]]:
    """Seconds of a training step of the UNet and of the autoencoder of each space, and
    of encoding a batch, measured in turns; gflops of each for a batch.

    Of each the fastest call: a price list should not contain what other programs did
    meanwhile. A backward pass counts as two forward passes.
    """
    calls: dict[str, Callable[[], Any]] = {}
    prices: dict[str, dict[str, float]] = {}
    device = best_device()
    x = torch.randn(batch, 3, DATA.size, DATA.size, device=device)
    t = torch.zeros(batch, dtype=torch.int64, device=device)
    for name, space in (SPACES if spaces is None else spaces).items():
        model = space.model(DATA.size).to(device)
        z = model.codec.encode(x)
        loss = partial(model.loss, z, t)
        calls[f"{name}/step"] = training_step(model.unet, partial(loss_alone, loss))
        prices[name] = {
            "parameters": count_parameters(model.unet),
            "step_gflops": 3 * count_flops(partial(model.unet, z, t)) / 1e9,
        }
        if isinstance(model.codec, LatentCodec):
            codec = model.codec
            calls[f"{name}/encode"] = partial(codec.encode, x)
            module = VAETraining(AutoencoderKL(space.vae), VAELossConfig())
            precision = autocast(device, TrainConfig(precision=vae_precision))
            loss = precision(partial(module.to(device), x, t))
            calls[f"{name}/vae_step"] = training_step(module, partial(loss_alone, loss))
            gflops = {
                "vae_step_gflops": 3 * count_flops(partial(module.vae, x)) / 1e9,
                "encode_gflops": count_flops(partial(codec.encode, x)) / 1e9,
            }
            prices[name] |= gflops
    for name, timing in time_side_by_side(calls, repeats).items():
        space_name, _, what = name.partition("/")
        prices[space_name][f"{what}_seconds"] = timing.spread[0]
    return prices


FRACTIONS = (1 / 16, 1 / 4, 1)  # of what is left: each is a training of its own
MAIN_PAIR = ("patch 4", "f8")  # get several seeds


def time_arms(scale: Scale) -> dict[str, Arm]:
    return {
        f"{name.replace(' ', '-')}-seed{seed}": partial(
            train_within_budget, scale, name, seed
        )
        for name in SPACES
        for seed in range(scale.seeds if name in MAIN_PAIR else 1)
    }


def train_within_budget(
    scale: Scale, name: str, seed: int, folder: Path
) -> tuple[Row, Pictures]:
    """What a budget buys in one space, in finished trainings of rising length.

    All take batches of the same size. The autoencoders, one for each f, are trained for
    the same number of images first, and the diffusion model gets the seconds that they
    leave.
    """
    shared = folder.parent / "shared"
    batch = scale.ldm.batch_size // 2
    price = shared_prices(shared, batch, scale)[name]
    codec, row = codec_within_budget(scale, name, SPACES[name], price, batch, shared)
    left = scale.seconds - row.get("vae_seconds", 0) - row.get("encode_seconds", 0)
    points, pictures, recipe = [], {}, {}
    for fraction in FRACTIONS:
        seconds = round(max(fraction * left, 0), 1)
        steps = max(2, round(seconds / price["step_seconds"]))
        objective = Objective(prediction_type="v")
        diffusion = space_recipe(scale, SPACES[name], steps, objective, seed)
        recipe = {"space": name, "ldm": config_to_dict(diffusion)}  # of the longest
        here = folder / f"ldm-{seconds:g}"
        model = trained_ldm(diffusion, codec, here)
        quality = evaluate_samples(
            model, DATA, scale.samples // 4, 10, sampler="dpm-solver++"
        )
        points.append(
            {
                "seconds": seconds,
                "steps": steps,
                "images_seen": steps * batch,
                "gflops": steps * price["step_gflops"],
                "losses": [[line["step"], line["loss"]] for line in read_lines(here)],
                "samples": quality,
            }
        )
        if seed == 0 and fraction == FRACTIONS[-1]:
            pictures[f"sample-{seconds:g}"] = sample_pictures(model, 10)
    row |= {
        "recipe": recipe,
        "space": name,
        "seed": seed,
        "batch_size": batch,
        "price": price,
    }
    return row | {"points": points}, pictures


def space_recipe(
    scale: Scale, space: Space, steps: int, objective: Objective, seed: int = 0
) -> LDMRecipe:
    """The diffusion model of a space, trained for so many steps of half a batch."""
    train = TrainConfig(
        steps=steps,
        batch_size=scale.ldm.batch_size // 2,
        warmup_steps=min(50, steps // 2),
        log_every=max(1, steps // 20),
        ema_decay=scale.ldm.ema_decay,
        seed=seed,
    )
    return LDMRecipe(
        length=scale.latents, unet=space.unet, objective=objective, train=train
    )


def shared_prices(
    shared: Path,
    batch: int,
    scale: Scale,
    spaces: dict[str, Space] | None = None,
) -> dict[str, dict[str, float]]:
    """The price list that all arms of a study use; measured by the first of them."""
    path = shared / "prices.json"
    if not path.exists():
        shared.mkdir(parents=True, exist_ok=True)
        prices = price_list(batch, scale.repeats, scale.vae.precision, spaces)
        write_json(path, prices)
    return read_json(path)


def codec_within_budget(
    scale: Scale,
    name: str,
    space: Space,
    price: dict[str, float],
    batch: int,
    shared: Path,
) -> tuple[Codec, Row]:
    """The codec of a space, with what it cost and how well it reconstructs."""
    shape = space.vae
    if shape is None:
        return PixelCodec(), {}
    recipe = VAERecipe(
        length=scale.images,
        vae=replace(shape, channels=scale.channels),
        train=scale.vae,
    )
    codec = trained_vae(recipe, shared / f"vae-{name}")
    seen = recipe.train.steps * recipe.train.batch_size
    return codec, {
        "vae_images": seen,
        "vae_seconds": seen / batch * price["vae_step_seconds"],
        "vae_gflops": seen / batch * price["vae_step_gflops"],
        "encode_seconds": scale.latents / batch * price["encode_seconds"],
        "reconstruction": evaluate_codec(codec, DATA, scale.judged),
    }
