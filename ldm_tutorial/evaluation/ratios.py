"""Ratios of means of paired sets, with intervals by the influence of each pair."""

import torch
from torch import Tensor

from ldm_tutorial.landscapes.rulers import Values


def ratio(a: Tensor, b: Tensor) -> tuple[float, Tensor]:
    """Ratio of the means of values (n,) and (n,), and each pair's influence on it.

    Image i of both sets has the same class, or is the same scene, so the pairs are what
    was drawn. To first order the ratio moves by the sum of the influences; values that
    are nan do not count.

    Raises:
        ValueError: if there are no two values in a set, or the second mean is zero.
    """
    known = [v.isfinite() for v in (a, b)]
    if min(int(k.sum()) for k in known) < 2 or float(b.nanmean()) == 0:
        raise ValueError("too few values for a ratio; give two or more that apply")
    value = float(a.nanmean() / b.nanmean())
    own, other = (
        ((v - v.nanmean()) / k.sum()).where(k, torch.zeros(()))
        for v, k in zip((a, b), known, strict=True)
    )
    return value, (own - value * other) / b.nanmean()


def half_width(influence: Tensor) -> float:
    """Half-width of the 95 % interval of what pairs have these influences (n,) on."""
    return float(1.96 * influence.square().sum().sqrt())


def ratios(a: Values, b: Values) -> dict[str, tuple[float, Tensor]]:
    """``ratio`` of each measure that both sets have values of."""
    found = {}
    for name in a:
        try:
            found[name] = ratio(a[name], b[name])
        except ValueError:  # so few images that none shows what is measured
            continue
    return found
