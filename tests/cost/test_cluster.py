"""The arithmetic of a training at the scale of Stable Diffusion."""

from dataclasses import replace

import pytest
import torch

from ldm_tutorial.cost.cluster import (
    A100_PEAK,
    SD_UNET,
    SD_V1,
    Bill,
    Phase,
    bill,
    forward_flops,
)
from ldm_tutorial.cost.efficiency import count_flops
from ldm_tutorial.unet import UNet

SMALL = replace(SD_UNET, channels=(32, 32, 32, 32))


def test_operations_are_those_of_a_network_with_weights():
    unet = UNet(SMALL)
    z, t = torch.zeros(1, 4, 16, 16), torch.zeros(1, dtype=torch.int64)
    assert forward_flops(SMALL, 128)[0] == count_flops(lambda: unet(z, t)) > 0


def test_a_bill_adds_up_its_phases():
    one, two = Phase(3, 64, 8), Phase(5, 128, 2)
    (u1, e1), (u2, e2) = (forward_flops(SMALL, p.image_size) for p in (one, two))
    wanted = Bill(24 + 10, 3 * (24 * u1 + 10 * u2), 24 * e1 + 10 * e2)
    assert bill((one, two), SMALL) == wanted
    assert bill((one, one), SMALL).denoiser == 2 * bill((one,), SMALL).denoiser


def test_hours_are_operations_over_what_is_achieved():
    found = Bill(1, int(A100_PEAK) * 3600, int(A100_PEAK) * 1800)
    assert found.gpu_hours(1.0, cached=True) == pytest.approx(1)
    assert found.gpu_hours(0.5) == pytest.approx(3)
    for share in (0, -1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=r"share=.*; give more than 0"):
            found.gpu_hours(share)


def test_stable_diffusion_saw_two_billion_images():
    assert sum(p.steps * p.batch_size for p in SD_V1) == 2_336_768_000
