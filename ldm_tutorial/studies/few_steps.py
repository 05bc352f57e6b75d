"""The study ``few_steps``: what is lost when ``ldm-f8`` is distilled to a few steps.

``teacher`` draws with DDIM in few steps and in many. ``distilled`` is halved again and
again, as ``training.distillation`` does: to eight steps, four, two, one. All students
are trained alike, on the same latents.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import TensorDataset

from ldm_tutorial.evaluation.batched import draw
from ldm_tutorial.evaluation.samples import evaluate_samples
from ldm_tutorial.noise import generators
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.records import Row
from ldm_tutorial.storage import config_to_dict
from ldm_tutorial.studies.study import (
    DATA,
    SHOWN,
    Arm,
    Pictures,
    Scale,
    done,
    last_line,
)
from ldm_tutorial.training.config import TrainConfig
from ldm_tutorial.training.distillation import Distillation, student_of
from ldm_tutorial.training.fit import cache_latents
from ldm_tutorial.training.loop import train

TEACHER = "ldm-f8"
LADDER = (8, 4, 2, 1)  # steps of the students, each taught by the one before
UNSEEN = (8, 2)  # steps whose pictures are not kept
FIRST = 2  # times the steps: the first also has to learn v


def few_arms(scale: Scale) -> dict[str, Arm]:
    return {
        "teacher": partial(judge_teacher, scale),
        "distilled": partial(halve, scale),
    }


def judge_teacher(scale: Scale, folder: Path) -> tuple[Row, Pictures]:
    model = LatentDiffusion.load(TEACHER)
    calls = (*reversed(LADDER), scale.nfe[-2])
    row = {
        "recipe": {"model": TEACHER, "sampler": "ddim"},
        "nfe": {nfe: judged(model, scale, nfe) for nfe in calls},
    }
    kept = [nfe for nfe in calls if nfe not in UNSEEN]
    return row, {f"sample-{nfe}": pictures(model, nfe) for nfe in kept}


def halve(scale: Scale, folder: Path) -> tuple[Row, Pictures]:
    teacher = LatentDiffusion.load(TEACHER)
    quality, shown, trained, losses = {}, {}, {}, {}
    latents: TensorDataset | None = None
    for steps in LADDER:
        settings, here = student_training(scale, steps), folder / f"student-{steps}"
        student = done(LatentDiffusion, here)
        if student is None:
            images = DATA.load("train", 2 * scale.latents)
            latents = latents or cache_latents(teacher.codec, images)  # type: ignore
            torch.manual_seed(settings.seed)
            student = student_of(teacher)
            train(Distillation(student, teacher, steps), latents, settings, here)
            student.save(here)
        trained[str(steps)] = config_to_dict(settings)
        losses[str(steps)] = last_line(here)["loss"]
        quality[steps] = judged(student, scale, steps)
        if steps not in UNSEEN:
            shown[f"sample-{steps}"] = pictures(student, steps)
        teacher = student
    row = {
        "recipe": {"model": TEACHER, "sampler": "ddim", "students": trained},
        "latents": 2 * scale.latents,
        "losses": losses,
        "nfe": quality,
    }
    return row, shown


def student_training(scale: Scale, steps: int) -> TrainConfig:
    longer = FIRST if steps == LADDER[0] else 1
    return replace(
        scale.ldm, steps=longer * scale.ldm.steps, learning_rate=5e-4, precision="no"
    )


def judged(model: LatentDiffusion, scale: Scale, nfe: int) -> dict[str, Any]:
    return evaluate_samples(model, DATA, 2 * scale.samples, nfe)


def pictures(model: LatentDiffusion, nfe: int) -> torch.Tensor:
    """The same noise and classes for all."""
    y = torch.arange(SHOWN) * len(model.classes) // SHOWN
    return draw(model, y, nfe, 1.0, generators(0, SHOWN))
