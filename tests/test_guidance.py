"""Guidance, by denoisers whose answers differ: exact values."""

import pytest
import torch
from torch.testing import assert_close

from ldm_tutorial.guidance import guided, spread

COND = torch.tensor([[[1.0, 3.0]], [[0.0, 4.0]]])
UNCOND = torch.tensor([[[1.0, 2.0]], [[-1.0, 0.0]]])
NO_CLASS = 7


def denoiser(z_t, t, y=None):
    """COND for rows with a class and UNCOND for the others."""
    if y is None or len(z_t) == 2:
        return UNCOND if y is None else COND
    assert y.tolist() == [0, 1, NO_CLASS, NO_CLASS] and t.tolist() == [3, 3, 3, 3]
    return torch.cat([COND, UNCOND])


def predict(scale: float, rescale: float = 0.0, no_class: int | None = None):
    y, t = torch.tensor([0, 1]), torch.tensor([3, 3])
    return guided(denoiser, y, scale, rescale, no_class)(torch.zeros_like(COND), t)


@pytest.mark.parametrize("no_class", [None, NO_CLASS])
@pytest.mark.parametrize(
    "scale, wanted",
    [
        (0.0, [[[1.0, 2.0]], [[-1.0, 0.0]]]),
        (1.0, [[[1.0, 3.0]], [[0.0, 4.0]]]),
        (2.0, [[[1.0, 4.0]], [[1.0, 8.0]]]),
        (-1.0, [[[1.0, 1.0]], [[-2.0, -4.0]]]),
    ],
)
def test_guidance_goes_on_from_no_class_through_the_class(scale, wanted, no_class):
    assert_close(predict(scale, no_class=no_class), torch.tensor(wanted))


def test_without_classes_none_are_asked():
    assert guided(denoiser, None, 5.0)(COND, torch.tensor([3, 3])) is UNCOND


def test_the_spread_is_the_standard_deviation_of_each_array():
    wanted = torch.tensor([[[2.0]], [[8.0]]]) ** 0.5
    assert_close(spread(COND), wanted)  # (1, 3) and (0, 4), with n - 1


def test_the_rescale_brings_each_array_back_to_the_spread_of_the_class():
    """Of (1, 4) and (1, 8), which spread over 3 and 7, to 2 and 4."""
    whole = torch.tensor([[[1.0, 4.0]], [[1.0, 8.0]]])
    back = whole * torch.tensor([2 / 3, 4 / 7]).view(2, 1, 1)
    assert_close(predict(2.0, 1.0), back)
    assert_close(predict(2.0, 0.25), 0.75 * whole + 0.25 * back)
    assert_close(predict(2.0, 0.0), whole)


def test_without_a_scale_the_model_is_plain():
    z_t, t, y = torch.randn(3, 4, 2, 2), torch.zeros(3).long(), torch.tensor([0, 1, 2])
    calls = []

    def denoiser(z_t, t, y=None):
        calls.append(y)
        return z_t if y is None else z_t + y.view(-1, 1, 1, 1)

    assert torch.equal(guided(denoiser, y)(z_t, t), denoiser(z_t, t, y))
    assert len(calls) == 2 and calls[0] is y


def test_an_odd_number_of_images_is_evaluated_as_one_batch():
    z_t, t, y = torch.randn(3, 4, 2, 2), torch.zeros(3).long(), torch.tensor([0, 1, 2])

    def denoiser(z_t, t, y):
        assert len(z_t) == len(t) == len(y) == 6
        return z_t * y.view(-1, 1, 1, 1)

    found = guided(denoiser, y, 2.0, no_class=3)(z_t, t)
    cond, uncond = z_t * y.view(-1, 1, 1, 1), 3 * z_t
    torch.testing.assert_close(found, uncond + 2 * (cond - uncond))
