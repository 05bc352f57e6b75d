"""The loss in bands: what it sees, what it forgives, and that nothing is lost."""

import pytest
import torch
from torch.testing import assert_close

from ldm_tutorial.training.bands import (
    FLOOR,
    band_distance,
    haar,
    strength,
    wavelet,
)


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_bands_and_rest_hold_the_image_s_squares():
    """Parseval: the transform is orthonormal."""
    x = noise(2, 3, 32, 16)
    bands, rest = wavelet(x, 3)
    assert [b.shape for b in bands] == [
        (2, 3, 3, 16, 8),
        (2, 3, 3, 8, 4),
        (2, 3, 3, 4, 2),
    ]
    power = sum(b.square().sum() for b in bands) + rest.square().sum()
    assert_close(power, x.square().sum())


def test_a_band_answers_to_its_own_direction():
    """Stripes, bars and a checkerboard of period two, each in one band, whole."""
    sign = torch.tensor([1.0, -1.0]).repeat(4)
    patterns = {0: sign.expand(8, 8), 1: sign[:, None].expand(8, 8)}
    patterns[2] = sign * sign[:, None]
    for band, pattern in patterns.items():
        low, bands = haar(pattern.expand(1, 1, 8, 8))
        assert_close(bands[0, 0, band].abs(), torch.full((4, 4), 2.0))
        others = [b for b in range(3) if b != band]
        assert not bands[0, 0, others].any() and not low.any()


def test_the_strength_of_even_and_of_pointed_bands():
    """sqrt(w^2 + floor^2) where all is even; a single point among n counts 1/n in the
    mean, and (1/n)^(1/4) in the fourth power."""
    even = torch.full((1, 3, 3, 8, 8), 0.5)
    for power in (1, 4):
        expected = torch.full((1, 3, 3, 3), (0.25 + FLOOR**2) ** 0.5)
        assert_close(strength(even, power), expected)
    point = torch.zeros(1, 3, 3, 4, 4)
    point[..., 1, 2] = 1.0
    assert_close(
        strength(point, 1).mean(), torch.tensor((1 + 15 * FLOOR) / 16), **LOOSE
    )
    assert_close(strength(point, 4).mean(), torch.tensor(16**-0.25), **LOOSE)


LOOSE = {"atol": 1e-3, "rtol": 0}


def test_it_is_zero_for_equal_bands_whatever_is_below_them():
    x = 0.1 * noise(2, 3, 33, 40)
    assert not band_distance(x, x).any()
    assert_close(band_distance(x + 0.7, x), torch.zeros(2), atol=1e-5, rtol=0)
    assert (band_distance(x, 0.1 * noise(2, 3, 33, 40, seed=1)) > 0.1).all()


def test_half_the_contrast_costs_as_much_as_twice():
    """The logarithm of the ratio: log 2 for bands well above the floor."""
    x = noise(1, 3, 33, 33)
    for scale in (0.5, 2.0):
        found = band_distance(scale * x, x)
        assert_close(found, torch.tensor([0.6931]), atol=2e-3, rtol=0)


def night(*stars):
    x = torch.full((1, 3, 33, 33), -0.8)
    for row, column in stars:
        x[..., row, column] = 0.9
    return x


def test_stars_are_counted_and_may_stand_elsewhere():
    """A star moved by two pixels costs less than a lost one; pixel by pixel twice as
    much. Half-bright stars in twice as many places are no replacement."""
    real = night((8, 9), (20, 21))
    moved, lost = night((10, 11), (22, 23)), night()
    cost = [float(band_distance(x, real)) for x in (moved, lost)]
    assert cost[0] < 0.6 * cost[1]
    pixels = [float((x - real).abs().sum()) for x in (moved, lost)]
    assert pixels[0] == pytest.approx(2 * pixels[1])
    smeared = night()
    for row, column in ((8, 9), (20, 21)):
        for shift in range(4):
            smeared[..., row + shift // 2, column + 2 * (shift % 2)] += 1.7 / 4
    assert_close(smeared.sum(), real.sum())
    assert float(band_distance(smeared, real)) > cost[0]


def test_points_are_not_replaced_by_something_even_of_the_same_mean():
    """One point in every 8 x 8 pixels, or a sixteenth of it in every 2 x 2: the means
    of the finest bands agree, and their fourth powers do not."""
    points, even = torch.zeros(2, 1, 3, 33, 33)
    points[..., ::8, ::8] = 3.2
    even[..., ::2, ::2] = 0.2
    strengths = [
        [strength(haar(x[..., :32, :32])[1], p).mean() for x in (points, even)]
        for p in (1, 4)
    ]
    assert_close(*strengths[0], atol=0.02, rtol=0)
    assert strengths[1][0] > 7 * strengths[1][1]
    assert float(band_distance(even, points, levels=1)) > 0.8


def test_a_faint_weave_over_a_smooth_sky_costs_much():
    """Two hundredths of contrast, which an error per pixel hardly sees."""
    sky = torch.linspace(-0.5, 0.5, 33).view(1, 1, 33, 1).expand(1, 3, 33, 33)
    sign = torch.tensor([1.0, -1.0]).repeat(17)[:33]
    woven = sky + 0.02 * sign * sign[:, None]
    assert (woven - sky).abs().mean() < 0.021
    assert float(band_distance(woven, sky)) > 0.1


def test_one_pixel_further_is_the_same_to_it():
    """What falls into one pair of pixels and what falls between two: the two corners
    change places."""
    x = 0.3 * noise(1, 3, 34, 34)
    x_hat = 0.5 * x
    one = band_distance(x_hat[..., :33, :33], x[..., :33, :33])
    two = band_distance(x_hat[..., 1:, 1:], x[..., 1:, 1:])
    assert_close(one, two, atol=0.02, rtol=0)


def test_gradients_are_finite_where_nothing_is():
    x_hat = torch.zeros(1, 3, 17, 17, requires_grad=True)
    band_distance(x_hat, noise(1, 3, 17, 17)).sum().backward()
    assert x_hat.grad.isfinite().all()
    noisy = (0.01 * noise(1, 3, 17, 17)).requires_grad_()
    band_distance(noisy, noise(1, 3, 17, 17)).sum().backward()
    assert noisy.grad.isfinite().all() and noisy.grad.any()


@pytest.mark.parametrize(
    "one, two", [((1, 3, 16, 32),) * 2, ((2, 3, 32, 32), (1, 3, 32, 32))]
)
def test_images_that_do_not_fit_are_refused(one, two):
    with pytest.raises(ValueError, match="sides of 17 or more: give larger") as caught:
        band_distance(torch.zeros(one), torch.zeros(two))
    assert "\n" not in str(caught.value)
