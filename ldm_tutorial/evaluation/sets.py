"""How near one set of images is to another, and how near real images are."""

import torch
from torch import Tensor

from ldm_tutorial.evaluation.batched import in_batches
from ldm_tutorial.evaluation.distances import (
    GROUPS,
    frechet_distance,
    jackknife,
    precision_recall,
)
from ldm_tutorial.evaluation.features import FeatureFunction

NEIGHBOURS = 3  # of precision and recall


@torch.no_grad()
def set_quality(
    fake: Tensor, real: Tensor, other: Tensor, features: FeatureFunction
) -> dict[str, float]:
    """How near a set of images is to real ones, and how near other real images are.

    frechet, precision, recall: of ``fake`` (n, 3, H, W) against ``real`` (m, 3, H, W),
    as in ``distances.py``, with 95 % intervals under NAME_ci95. NAME_real: the same of
    ``other`` real images against ``real``, the floor. Both depend on how many images
    there are, so ``fake`` and ``other`` are cut to the same number, n_fake.

    Args:
        features: as ``feature_function`` gives them.

    What cannot be measured is left out: a distance with a single image, precision with
    fewer than four, intervals with fewer than twenty.
    """
    return compare_features(*(in_batches(features, x) for x in (fake, real, other)))


def compare_features(fake: Tensor, real: Tensor, other: Tensor) -> dict[str, float]:
    """``set_quality`` of features (n, d), (m, d) and (k, d)."""
    n = min(len(fake), len(other))
    report = figures(fake[:n], real)
    if not report:
        return {}
    names = list(report)
    if min(n, len(real)) >= 2 * GROUPS:
        widths = jackknife(lambda a, b: tuple(figures(a, b).values()), fake[:n], real)
        for name, width in zip(names, widths, strict=True):
            report[f"{name}_ci95"] = width
    report |= {f"{k}_real": v for k, v in figures(other[:n], real).items()}
    return {"n_fake": n, "n_real": len(real)} | report


def figures(fake: Tensor, real: Tensor) -> dict[str, float]:
    """What can be measured of two sets of features of these sizes."""
    n = min(len(fake), len(real))
    report = {"frechet": frechet_distance(fake, real)} if n > 1 else {}
    if n > NEIGHBOURS:
        precision, recall = precision_recall(real, fake, NEIGHBOURS)
        report |= {"precision": precision, "recall": recall}
    return report
