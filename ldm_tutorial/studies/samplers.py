"""Studies: the experiments of the book that take longer than a chapter.

A study is a list of arms that differ in one thing. ``ldm-tutorial reproduce NAME`` runs
them one after the other and records what came out in ``NAME.json``, with pictures
beside it. An arm that is done is not run again; one that was stopped goes on.
"""

from functools import partial
from pathlib import Path

import torch

from ldm_tutorial.data import whole
from ldm_tutorial.evaluation.batched import draw, in_batches
from ldm_tutorial.evaluation.features import JUDGE, feature_function
from ldm_tutorial.evaluation.sets import compare
from ldm_tutorial.landscapes.factors import CLASS_NAMES
from ldm_tutorial.noise import generators
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.records import Row
from ldm_tutorial.samplers import SAMPLERS
from ldm_tutorial.studies.study import DATA, SPLITS, Arm, Pictures, Scale


def sampler_arms(scale: Scale) -> dict[str, Arm]:
    return {name: partial(call, scale, name) for name in SAMPLERS}


@torch.no_grad()
def call(scale: Scale, sampler: str, folder: Path) -> tuple[Row, Pictures]:
    """The shipped model, the same starting noise for all, and more and more calls."""
    model, n = LatentDiffusion.load("ldm-f8"), scale.samples // 2
    embed = feature_function(JUDGE)
    real, other = (in_batches(embed, whole(DATA.load(s), n)[0]) for s in SPLITS)
    y = whole(DATA.load(SPLITS[1]), n)[1]
    quality, pictures = {}, []
    more = (scale.ancestral,) if sampler == "ddpm" else ()
    for steps in (*scale.calls, *more):
        x = draw(model, y, steps, 1.0, generators(0, n), sampler=sampler)
        quality[steps] = compare(in_batches(embed, x), real, other)
        pictures.append(x[0])
    row = {"model": "ldm-f8", "class": CLASS_NAMES[y[0]], "calls": quality}
    return row, {"sample": torch.stack(pictures)}
