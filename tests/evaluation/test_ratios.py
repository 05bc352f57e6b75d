"""Ratios of means: their values, the influence of each pair, their intervals."""

import pytest
import torch
from torch.testing import assert_close

from ldm_tutorial.evaluation.ratios import half_width, ratio


def test_a_set_against_itself_is_one_without_doubt():
    a = torch.rand(20, generator=torch.Generator().manual_seed(0))
    value, influence = ratio(a, a)
    assert value == 1
    assert_close(influence, torch.zeros(20))


def test_what_does_not_apply_does_not_count():
    a, b = torch.tensor([1.0, torch.nan, 3.0, 8.0]), torch.tensor([2.0, 4.0, 6.0, 8.0])
    value, influence = ratio(a, b)
    assert value == pytest.approx(0.8)
    assert influence.isfinite().all()
    with pytest.raises(ValueError, match="too few"):
        ratio(torch.full((4,), torch.nan), b)
    with pytest.raises(ValueError, match="too few"):
        ratio(a, torch.zeros(4))


def test_an_influence_is_what_leaving_a_pair_out_takes():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 400, generator=generator, dtype=torch.float64) + 0.5
    a[::3], b[::5] = torch.nan, torch.nan
    value, influence = ratio(a, b)
    rows = torch.arange(400)
    left = [ratio(a[rows != i], b[rows != i])[0] for i in range(60)]
    moved = value - torch.tensor(left, dtype=torch.float64)
    assert_close(influence[:60], moved, atol=2e-5, rtol=0.02)


def test_nothing_at_all_is_a_ratio_of_zero():
    value, influence = ratio(torch.zeros(5), torch.rand(5) + 1)
    assert value == 0 and half_width(influence) == 0


@pytest.mark.parametrize("paired", [False, True])
def test_intervals_cover_the_truth_nineteen_times_in_twenty(paired):
    generator = torch.Generator().manual_seed(0)
    covered = []
    for _ in range(400):
        b = torch.rand(80, generator=generator).square() + 0.2  # mean 8 / 15
        noise = torch.rand(80, generator=generator)
        a = (b + noise) if paired else noise  # means 31 / 30 and 1 / 2
        value, influence = ratio(a, b)
        truth = (31 / 30 if paired else 1 / 2) / (8 / 15)
        covered.append(abs(value - truth) < half_width(influence))
    assert 0.91 < sum(covered) / 400 < 0.985
