"""The ruler for grids sees what repeats with a decoder's periods, and nothing else."""

import pytest
import torch

from ldm_tutorial.landscapes.rulers import grid_peak
from ldm_tutorial.metrics import blur


def noise(n=64, size=64):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0))


def weave(period, size=64):
    """One bright row and column in every so many."""
    line = (torch.arange(size) % period == 0).float()
    return period * (line + line[:, None]).clamp(max=1)  # as strong at any period


def test_noise_has_no_grid():
    assert grid_peak(noise(256)) < 1.5


@pytest.mark.parametrize("period", [2, 4, 8])
def test_a_weave_stands_out_whatever_lies_below(period):
    """Also a faint one, on images whose power falls with frequency as real ones do."""
    x = blur(noise(), sigma=0.7, radius=3)
    plain = grid_peak(x)
    found = [grid_peak(x + a * weave(period)) for a in (0.02, 0.1)]
    assert plain < 2 < found[0] < found[1]
    assert grid_peak(100 * (x + 0.1 * weave(period))) == pytest.approx(
        found[1], rel=0.01
    )


def test_other_periods_are_no_grid_of_a_decoder():
    """Waves of 5 cycles lie on no frequency of a period of 8 pixels, nor near one."""
    place = torch.arange(64) / 64
    x = noise() + 3 * (2 * torch.pi * 5 * place).sin()
    assert grid_peak(x) < 1.7
