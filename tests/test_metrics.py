"""Quality measures against closed forms and known values."""

import math

import pytest
import torch
from torch.testing import assert_close

from ldm_tutorial.landscapes.dataset import Landscapes, detail_masks
from ldm_tutorial.metrics import (
    ClassJudge,
    blur,
    detail_psnr,
    detail_recall,
    psnr,
    ssim,
    thumbnails,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# --- psnr and ssim --------------------------------------------------------------------


@pytest.mark.parametrize("error, expected", [(2.0, 0.0), (0.2, 20.0), (0.02, 40.0)])
def test_psnr_of_a_constant_error(error, expected):
    x = torch.zeros(2, 3, 4, 4)
    x_hat = x + torch.tensor([error, -error]).view(2, 1, 1, 1)
    assert_close(psnr(x_hat, x), torch.full((2,), expected), atol=1e-3, rtol=0)


def test_psnr_is_of_each_image_and_finite_for_equal_ones():
    x = torch.rand(3, 3, 8, 8, generator=seeded())
    x_hat = x.clone()
    x_hat[1, 0, 0, 0] += 1.0  # a mean squared error of 1 / 192
    values = psnr(x_hat, x)
    assert_close(values[1], torch.tensor(10 * math.log10(4 * 192)))
    assert_close(values[[0, 2]], torch.full((2,), 10 * math.log10(4e10)))


def pair(size=24):
    x = torch.rand(3, 3, size, size, generator=seeded()) * 2 - 1
    return (x + 0.3 * torch.randn(x.shape, generator=seeded(1))).clamp(-1, 1), x


def test_ssim_has_the_values_of_torchmetrics():
    """Recorded from torchmetrics 1.9, whose import takes seconds; see the next test."""
    assert_close(
        ssim(*pair()), torch.tensor([0.57082, 0.59580, 0.61211]), atol=1e-5, rtol=0
    )


@pytest.mark.slow
def test_psnr_and_ssim_agree_with_torchmetrics():
    from torchmetrics.functional import image

    for size in (8, 24, 64):
        x_hat, x = pair(size)
        expected = [
            image.peak_signal_noise_ratio(a, b, data_range=2.0)
            for a, b in zip(x_hat, x, strict=True)
        ]
        assert_close(psnr(x_hat, x), torch.stack(expected))
        expected = image.structural_similarity_index_measure(
            x_hat, x, data_range=2.0, reduction="none"
        )
        assert_close(ssim(x_hat, x), expected, atol=1e-5, rtol=0)


def test_ssim_of_equal_and_of_constant_images():
    x = torch.rand(2, 3, 32, 32, generator=seeded()) * 2 - 1
    assert_close(ssim(x, x), torch.ones(2))
    # Of two constants a and b only the luminance term is left:
    # (2ab + c) / (a^2 + b^2 + c) with c = (0.01 * 2)^2.
    a, b, c = 0.5, 0.25, (0.01 * 2.0) ** 2
    flat = torch.ones(1, 3, 32, 32)
    expected = torch.tensor([(2 * a * b + c) / (a * a + b * b + c)])
    assert_close(ssim(a * flat, b * flat), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [8, 16])
def test_ssim_falls_with_noise_and_works_on_small_images(size):
    x = torch.rand(1, 3, size, size, generator=seeded()) * 2 - 1
    noise = torch.randn(x.shape, generator=seeded(1))
    values = [float(ssim(x + s * noise, x)) for s in (0.0, 0.1, 0.5, 2.0)]
    assert (
        values == sorted(values, reverse=True) and values[0] > 0.999 > 0.5 > values[3]
    )


def test_detail_psnr_looks_at_the_pixels_of_each_kind():
    x = torch.zeros(2, 3, 4, 4)
    left = torch.zeros(2, 4, 4, dtype=torch.bool)
    left[:, :, :2] = True
    corner = torch.zeros_like(left)
    corner[1, 0, 3] = True
    none = torch.zeros_like(left)
    x_hat = torch.where(left[:, None], x + 0.2, x - 0.02)
    x_hat[1, :, 0, 3] = torch.tensor([2.0, 0.0, 0.0])  # mean square 4 / 3
    found = detail_psnr(x_hat, x, {"left": left, "corner": corner, "none": none})
    assert found.keys() == {"left", "corner"}
    assert found["left"] == pytest.approx(20.0, abs=1e-3)
    assert found["corner"] == pytest.approx(10 * math.log10(3))
    perfect = detail_psnr(x, x, {"left": left})
    assert perfect["left"] == pytest.approx(float(psnr(x, x)[0]))


def test_detail_psnr_takes_the_masks_of_landscapes():
    data = Landscapes("test", 16)
    x = torch.stack([x for x, _ in data.__getitems__(range(16))])
    masks = detail_masks(data.factors(range(16)))
    found = detail_psnr(x + 0.2, x, masks)
    assert {"sky", "texture", "ridge edges"} <= found.keys() <= masks.keys()
    assert list(found.values()) == pytest.approx([20.0] * len(found), abs=1e-3)


def landscapes_with_masks(n=16):
    data = Landscapes("test", n)
    x = torch.stack([x for x, _ in data.__getitems__(range(n))])
    return x, detail_masks(data.factors(range(n)))


def test_detail_recall_is_the_contrast_that_is_left():
    x, masks = landscapes_with_masks()
    for contrast in (1.0, 0.3, 0.0, 1.5, -1.0):
        found = detail_recall(contrast * x + 0.1, x, masks)  # a new colour is no loss
        assert {"stars", "texture", "ridge edges"} <= found.keys()
        assert list(found.values()) == pytest.approx([contrast] * len(found), abs=1e-4)


def test_detail_recall_forgets_what_is_blurred_or_painted_over():
    x, masks = landscapes_with_masks()
    soft = detail_recall(blur(x, sigma=2.0, radius=6), x, masks)
    assert soft["stars"] < 0.05 and max(soft.values()) < 0.3
    sky = x.median(3, keepdim=True).values.expand_as(x)
    assert abs(detail_recall(sky, x, {"stars": masks["stars"]})["stars"]) < 0.05


def test_noise_is_no_recall_and_takes_none_away():
    """Texture of the same strength in the wrong place has a PSNR, and no recall."""
    x, masks = landscapes_with_masks()
    noise = 0.2 * torch.randn(x.shape, generator=seeded())
    busy, noisy = detail_recall(noise, x, masks), detail_recall(x + noise, x, masks)
    for name in ("waves", "ridge edges", "texture"):
        assert abs(busy[name]) < 0.05 and noisy[name] == pytest.approx(1, abs=0.05)


def test_recall_of_one_star_by_hand():
    """A point of light on black: h is 1 less the window's centre there, and minus the
    window elsewhere."""
    x = torch.zeros(1, 3, 33, 33)
    x[..., 16, 16] = 1.0
    star = x[:, 0] > 0
    moved = x.roll(1, 3)
    weight = torch.exp(-(torch.arange(-6.0, 7.0) ** 2) / 8)
    weight = weight / weight.sum()
    centre, beside = weight[6] ** 2, weight[6] * weight[7]
    found = detail_recall(moved, x, {"star": star})["star"]
    assert found == pytest.approx(float(-beside / (1 - centre)), abs=1e-5)


def test_details_that_are_not_there_have_no_recall():
    x = torch.zeros(2, 3, 16, 16)
    everywhere = torch.ones(2, 16, 16, dtype=torch.bool)
    faint = x + 0.5 * (2 / 255) * torch.randn(x.shape, generator=seeded())
    strong = x + 4 * (2 / 255) * torch.randn(x.shape, generator=seeded())
    masks = {"all": everywhere, "none": ~everywhere}
    assert detail_recall(faint, faint, masks) == {}
    assert detail_recall(strong, strong, masks) == {"all": pytest.approx(1)}


def test_blur_keeps_constants_and_is_the_window_around_a_point():
    assert_close(blur(torch.full((1, 2, 8, 12), 0.7)), torch.full((1, 2, 8, 12), 0.7))
    x = torch.zeros(1, 1, 15, 21)
    x[..., 7, 10] = 1
    offset = torch.arange(-5.0, 6.0)
    line = torch.exp(-(offset**2) / (2 * 1.5**2))
    line = line / line.sum()
    expected = torch.zeros_like(x)
    expected[0, 0, 2:13, 5:16] = line[:, None] * line
    assert_close(blur(x), expected)


# --- thumbnails -----------------------------------------------------------------------


def test_thumbnails_are_means_of_blocks():
    x = torch.arange(2 * 3 * 16 * 16, dtype=torch.float32).view(2, 3, 16, 16)
    found = thumbnails(x, side=2).view(2, 3, 2, 2)
    assert_close(found[1, 2, 0, 1], x[1, 2, :8, 8:].mean())
    assert thumbnails(x).shape == (2, 192)


# --- the judge of classes -------------------------------------------------------------


def landscapes(split, n):
    items = Landscapes(split).__getitems__(range(n))
    return torch.stack([x for x, _ in items]), torch.tensor([y for _, y in items])


@pytest.fixture(scope="module")
def judge():
    return ClassJudge.fit(*landscapes("train", 2000), hidden=1000)


def test_the_judge_knows_real_landscapes(judge):
    x, y = landscapes("test", 500)
    assert float((judge(x) == y).float().mean()) >= 0.98  # measured: 1.0


def test_the_judge_is_at_chance_when_images_say_nothing(judge):
    y = torch.arange(1600) % 16
    x = torch.randn(1600, 3, 64, 64, generator=seeded())
    assert float((judge(x) == y).float().mean()) < 0.11  # chance is 1/16 = 0.0625
    images, classes = landscapes("test", 200)
    wrong = classes.roll(1)
    agreement = float((judge(images) == wrong).float().mean())
    assert agreement == pytest.approx(
        float((classes == wrong).float().mean()), abs=0.02
    )


def test_the_judge_works_at_other_sizes_and_with_missing_classes():
    dark, light = -torch.ones(20, 3, 16, 16), torch.ones(20, 3, 16, 16)
    x = torch.cat([dark, light]) * 0.5 + 0.1 * torch.randn(40, 3, 16, 16)
    y = torch.tensor([0] * 20 + [3] * 20)  # classes 1 and 2 have no image
    judge = ClassJudge.fit(x, y, hidden=50)
    assert torch.equal(judge(x), y)
