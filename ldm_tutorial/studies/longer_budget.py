"""The study ``longer_budget``: the headline of ``time_to_quality`` with five times the
time, and with the patched rivals as strong as they are known to be.

Large patches are known to do better when the network predicts the image itself, z_0,
than when it predicts v (Li & He, arXiv:2511.13720): there are arms for both. As in
``time_to_quality`` seconds are steps times a price that was measured side by side, and
the autoencoder is paid for.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

from ldm_tutorial.cost.spaces import SPACES, Space, narrow
from ldm_tutorial.diffusion import Objective, PredictionType
from ldm_tutorial.evaluation.samples import evaluate_samples
from ldm_tutorial.records import Row
from ldm_tutorial.storage import config_to_dict
from ldm_tutorial.studies.study import (
    DATA,
    Arm,
    Pictures,
    Scale,
    read_lines,
    sample_pictures,
    trained_ldm,
)
from ldm_tutorial.studies.time_to_quality import (
    codec_within_budget,
    shared_prices,
    space_recipe,
)

LONGER = 5  # times the seconds; the autoencoder's steps and the images twice as many
RIVALS = {
    "patch 4": SPACES["patch 4"],
    "patch 8": Space(narrow(0, 1, patch_size=8)),
    "f8": SPACES["f8"],
}
# name: space, what is predicted; neighbours differ in one of the two
LONGER_ARMS: dict[str, tuple[str, PredictionType]] = {
    "f8-v": ("f8", "v"),
    "patch-4-v": ("patch 4", "v"),
    "patch-4-x0": ("patch 4", "x0"),
    "patch-8-x0": ("patch 8", "x0"),
}


def longer_arms(scale: Scale) -> dict[str, Arm]:
    return {
        name: partial(train_longer, longer(scale), space, target)
        for name, (space, target) in LONGER_ARMS.items()
    }


def longer(scale: Scale) -> Scale:
    """The same scale with ``LONGER`` times the seconds, and for all arms twice as many
    images; the autoencoder is trained for twice as many steps, in float32."""
    return replace(
        scale,
        vae=replace(scale.vae, steps=2 * scale.vae.steps, precision="no"),
        latents=2 * scale.latents,
        seconds=LONGER * scale.seconds,
    )


def train_longer(
    scale: Scale, name: str, target: PredictionType, folder: Path
) -> tuple[Row, Pictures]:
    """One training that costs all of the seconds, in one space, of one target."""
    shared = folder.parent / "shared"
    batch, space = scale.ldm.batch_size // 2, RIVALS[name]
    price = shared_prices(shared, batch, scale, RIVALS)[name]
    codec, row = codec_within_budget(scale, name, space, price, batch, shared)
    left = scale.seconds - row.get("vae_seconds", 0) - row.get("encode_seconds", 0)
    steps = max(2, round(left / price["step_seconds"]))
    recipe = space_recipe(scale, space, steps, Objective(prediction_type=target))
    model = trained_ldm(recipe, codec, folder / "ldm")
    row |= {
        "recipe": {"space": name, "ldm": config_to_dict(recipe)},
        "space": name,
        "price": price,
        "seconds": round(scale.seconds, 1),
        "steps": steps,
        "images_seen": steps * batch,
        "gflops": steps * price["step_gflops"],
        "losses": [[line["step"], line["loss"]] for line in read_lines(folder / "ldm")],
        "samples": evaluate_samples(
            model, DATA, scale.samples, scale.steps, sampler="dpm-solver++"
        ),
    }
    return row, {"sample": sample_pictures(model, scale.steps)}
