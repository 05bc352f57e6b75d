"""Rulers answer to what they measure, and to nothing else."""

import pytest
import torch
from torch.testing import assert_close

from ldm_tutorial import landscapes
from ldm_tutorial.evaluation.features import load_judge
from ldm_tutorial.evaluation.ratios import half_width, ratios
from ldm_tutorial.landscapes import painting, rulers
from ldm_tutorial.landscapes.rulers import (
    BANDS,
    band_powers,
    spectrum,
    strong_edge,
)
from ldm_tutorial.metrics import blur

N = 192  # twelve images of each class


def measure(x, y, strong):
    return rulers.measure(x, y, strong, load_judge())


def scenes(seed=0):
    label = torch.arange(N) % len(landscapes.CLASS_NAMES)
    return landscapes.sample_factors(N, torch.Generator().manual_seed(seed), label)


@pytest.fixture(scope="module")
def real():
    factors = scenes()
    x = landscapes.render(factors)
    strong = strong_edge(x)
    return factors, x, strong, measure(x, factors.label, strong)


# --- spectra --------------------------------------------------------------------------


def waves(cycles, angle=0.0, size=64):
    """A plane wave (1, 3, size, size) of so many cycles per image."""
    place = torch.arange(size) / size
    x = cycles * (torch.tensor(angle).cos() * place + 0 * place[:, None])
    y = cycles * torch.tensor(angle).sin() * place[:, None]
    return (2 * torch.pi * (x + y)).sin().expand(1, 3, size, size)


def test_the_rings_add_up_to_the_power_under_the_window():
    x = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    hann = torch.hann_window(64)
    total = (x.mean(1) * hann[:, None] * hann).square().sum((1, 2))
    assert_close(spectrum(x).sum(1), total)
    low = spectrum(x)[:, :2].sum(1)
    assert_close(low + torch.stack(list(band_powers(x).values())).sum(0), total)


@pytest.mark.parametrize("angle", [0.0, 1.57079633, 0.6])
@pytest.mark.parametrize(
    ("cycles", "band"), list(zip((2.5, 5.5, 11.5, 24.0), BANDS, strict=True))
)
def test_a_wave_falls_into_its_octave(cycles, band, angle):
    power = {name: float(p) for name, p in band_powers(waves(cycles, angle)).items()}
    assert power[band] > 0.8 * sum(power.values())


def test_brightness_is_in_no_band():
    power = band_powers(torch.full((2, 3, 64, 64), 0.7))
    for value in power.values():
        assert_close(value, torch.zeros(2), atol=1e-6, rtol=0)


def test_blur_takes_the_high_bands_and_the_strong_edges(real):
    factors, x, strong, values = real
    soft = measure(blur(x, sigma=1.0), factors.label, strong)
    found = {name: value for name, (value, _) in ratios(soft, values).items()}
    kept = [found[name] for name in BANDS]
    assert kept == sorted(kept, reverse=True) and kept[0] > 0.9 and kept[-1] < 0.2
    assert found["strong edges"] < 0.8 and found["stars"] < 0.2


# --- rulers ---------------------------------------------------------------------------


def plain_sea(c):
    """Water that neither waves nor glitters."""
    c = c.below(0.54)
    water = painting.WATER * painting.light(c)
    c.paint(water.expand_as(c.image), c.inside(c.y - 0.56).expand_as(c.image[:, :1]))


def bare(shape):
    """The same tree without its trunk."""
    return lambda u, v: (torch.full_like(u + v, -1.0), shape(u, v)[1])


def smooth_ridge(c, layer, coarse, fine, draw=painting.draw_ridge):
    draw(c, layer, coarse, torch.zeros_like(fine))


# What the renderer is told to leave out, and how much of the ruler's value may stay.
WITHOUT = {
    "stars": ({"draw_stars": lambda c: None}, 0.1),
    "lit windows": ({"LAMP": painting.GLASS}, 0.15),
    "wave lines": ({"draw_water": plain_sea}, 0.2),
    "trunks": (
        {k: bare(getattr(painting, k)) for k in ("conifer", "cactus", "palm")},
        0.4,
    ),
    "texture": ({"draw_ridge": smooth_ridge}, 0.6),
}


@pytest.mark.parametrize("ruler", WITHOUT)
def test_a_ruler_answers_to_its_detail_alone(ruler, real, monkeypatch):
    factors, _, strong, values = real
    changed, most = WITHOUT[ruler]
    for name, value in changed.items():
        monkeypatch.setattr(painting, name, value)
    without = measure(landscapes.render(factors), factors.label, strong)
    found = {name: value for name, (value, _) in ratios(without, values).items()}
    assert found[ruler] < most
    for other in WITHOUT.keys() - {ruler}:
        assert 0.85 < found[other] < 1.15, other


def test_houses_are_counted_where_they_stand(real):
    factors, _, strong, values = real
    for house, low, high in ((False, 0.0, 0.1), (True, 0.9, 1.0)):
        x = landscapes.render(factors.replace(house=house))
        share = measure(x, factors.label, strong)["houses"].nanmean()
        assert low <= share <= high
    land = factors.biome != landscapes.SEA
    assert torch.equal(values["houses"].isfinite(), land)


def test_other_real_images_show_as_much_of_everything(real):
    _, _, strong, values = real
    factors = scenes(seed=1)
    other = measure(landscapes.render(factors), factors.label, strong)
    found = ratios(other, values)
    assert found.keys() == values.keys()
    for name, (value, influence) in found.items():
        assert abs(value - 1) < 2 * half_width(influence), name
