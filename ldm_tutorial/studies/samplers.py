"""The study ``samplers``: how good samples are after how many function evaluations."""

from functools import partial
from pathlib import Path

import torch

from ldm_tutorial.data import whole
from ldm_tutorial.disk import replacing
from ldm_tutorial.evaluation.batched import draw, in_batches
from ldm_tutorial.evaluation.features import JUDGE, feature_function
from ldm_tutorial.evaluation.sets import compare_features
from ldm_tutorial.landscapes.factors import CLASS_NAMES
from ldm_tutorial.noise import generators
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.records import Row
from ldm_tutorial.samplers import SAMPLERS
from ldm_tutorial.studies.study import DATA, SPLITS, Arm, Pictures, Scale


def sampler_arms(scale: Scale) -> dict[str, Arm]:
    return {name: partial(judge_sampler, scale, name) for name in SAMPLERS}


@torch.no_grad()
def judge_sampler(scale: Scale, sampler: str, folder: Path) -> tuple[Row, Pictures]:
    """The shipped model, the same starting noise for all, and more and more
    function evaluations."""
    model, n = LatentDiffusion.load("ldm-f8"), 2 * scale.samples
    embed = feature_function(JUDGE)
    real, other = (in_batches(embed, whole(DATA.load(s), n)[0]) for s in SPLITS)
    y = whole(DATA.load(SPLITS[1]), n)[1]
    quality, pictures = {}, []
    recipe = {"model": "ldm-f8", "n": n, "guidance_scale": 1.0, "sampler": sampler}
    more = (scale.ancestral_nfe,) if sampler == "ddpm" else ()
    for steps in (*scale.nfe, *more):
        seen = folder / f"{steps}.pt"
        if not seen.exists():
            x = draw(model, y, steps, 1.0, generators(0, n), sampler=sampler)
            with replacing(seen) as new:
                torch.save((in_batches(embed, x), x[0].clone()), new)
        features, first = torch.load(seen)
        quality[steps] = compare_features(features, real, other)
        pictures.append(first)
    row = {"recipe": recipe, "class": CLASS_NAMES[y[0]], "nfe": quality}
    return row, {"sample": torch.stack(pictures)}
