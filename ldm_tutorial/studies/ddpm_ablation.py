"""The study ``ddpm_ablation``: what to predict, on which schedule, with which weights.

The same small diffusion model on the latents of ``vae-f8``; every arm changes one field
of the recipe of the first, ``eps``, or says which two.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ldm_tutorial.codec import LatentCodec
from ldm_tutorial.diffusion import Objective
from ldm_tutorial.records import Row
from ldm_tutorial.schedule import ScheduleConfig
from ldm_tutorial.storage import config_to_dict
from ldm_tutorial.studies.study import (
    Arm,
    Pictures,
    Scale,
    ldm_recipe,
    sample_pictures,
    train_small_ldm,
)

# Stable Diffusion's schedule, as Lin et al. (2024) mend it
MENDED = ScheduleConfig("scaled_linear", 1000, 0.00085, 0.012, zero_terminal_snr=True)
# Esser et al. draw the logit of the flow's time from N(0, 1), so that the log-SNR,
# minus twice that logit, has median 0 and standard deviation 2. On the linear schedule
# a logit of mean -1.05 gives nearly the same log-SNR: a test compares the quartiles.
MATCHED = (-1.05, 1.0)
DDPM_ARMS: dict[str, dict[str, Any]] = {
    "eps": {},
    "eps-cosine": {"objective": Objective(ScheduleConfig("cosine"))},
    "eps-min-snr": {"objective": Objective(min_snr_gamma=5.0)},
    "eps-logit-normal": {"objective": Objective(logit_normal=(-0.4, 1.0))},
    "eps-logit-normal-matched": {"objective": Objective(logit_normal=MATCHED)},
    "v": {"objective": Objective(prediction_type="v")},
    "v-zero-snr": {"objective": Objective(MENDED, "v")},
    "v-min-snr": {"objective": Objective(prediction_type="v", min_snr_gamma=5.0)},
    "x0": {"objective": Objective(prediction_type="x0")},
    "x0-min-snr": {"objective": Objective(prediction_type="x0", min_snr_gamma=5.0)},
}


def ddpm_arms(scale: Scale) -> dict[str, Arm]:
    arms: dict[str, Arm] = {
        name: partial(train_arm, scale, changes) for name, changes in DDPM_ARMS.items()
    }
    no_ema = replace(scale.ldm, ema_decay=0.0)
    return arms | {"eps-no-ema": partial(train_arm, scale, {"train": no_ema})}


def train_arm(
    scale: Scale, changes: dict[str, Any], folder: Path
) -> tuple[Row, Pictures]:
    recipe = ldm_recipe(scale, **changes)
    quality, model = train_small_ldm(
        LatentCodec.load("vae-f8"), scale, folder / "ldm", recipe
    )
    row = {
        "recipe": config_to_dict(recipe),
        "prediction_type": recipe.objective.prediction_type,
        "schedule": config_to_dict(recipe.objective.schedule),
        "min_snr_gamma": recipe.objective.min_snr_gamma,
        "logit_normal": recipe.objective.logit_normal,
        "ema_decay": recipe.train.ema_decay,
        "samples": quality,
    }
    return row, {"sample": sample_pictures(model, scale.steps)}
