"""Artifact attribution: rulers answer to what they measure, and to nothing else."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from ldm_tutorial import landscapes
from ldm_tutorial.metrics import blur
from ldm_tutorial.studies import attribution
from ldm_tutorial.studies.attribution import (
    COMPARED,
    RECONSTRUCTED,
    TOPS,
    bill,
    differences,
)
from ldm_tutorial.studies.study import SCALES
from ldm_tutorial.studies.textures import (
    BANDS,
    band_powers,
    half_width,
    measure,
    ratio,
    ratios,
    spectrum,
    strong_edge,
)

N = 192  # twelve images of each class


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
    water = landscapes.WATER * landscapes.light(c)
    c.paint(water.expand_as(c.image), c.inside(c.y - 0.56).expand_as(c.image[:, :1]))


def bare(shape):
    """The same tree without its trunk."""
    return lambda u, v: (torch.full_like(u + v, -1.0), shape(u, v)[1])


def smooth_ridge(c, layer, coarse, fine, draw=landscapes.draw_ridge):
    draw(c, layer, coarse, torch.zeros_like(fine))


# What the renderer is told to leave out, and how much of the ruler's value may stay.
WITHOUT = {
    "stars": ({"draw_stars": lambda c: None}, 0.1),
    "lit windows": ({"LAMP": landscapes.GLASS}, 0.15),
    "wave lines": ({"draw_water": plain_sea}, 0.2),
    "trunks": (
        {k: bare(getattr(landscapes, k)) for k in ("conifer", "cactus", "palm")},
        0.4,
    ),
    "texture": ({"draw_ridge": smooth_ridge}, 0.6),
}


@pytest.mark.parametrize("ruler", WITHOUT)
def test_a_ruler_answers_to_its_detail_alone(ruler, real, monkeypatch):
    factors, _, strong, values = real
    changed, most = WITHOUT[ruler]
    for name, value in changed.items():
        monkeypatch.setattr(landscapes, name, value)
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


# --- ratios ---------------------------------------------------------------------------


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


def test_a_difference_of_ratios_forgets_what_they_share():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 50, generator=generator) + 0.5
    found = differences({"x": ratio(a + 0.1, b), "y": ratio(a, b)}, {"x": ratio(a, b)})
    assert found.keys() == {"x"}
    assert_close(found["x"]["difference"], 0.1 / float(b.mean()))
    assert found["x"]["ci95"] < 0.2 * half_width(ratio(a, b)[1])


# --- the study ------------------------------------------------------------------------

TINY = replace(SCALES["smoke"], judged=32, steps=1)


@pytest.fixture(scope="module")
def rows():
    """Two arms, and the pictures of one."""
    arms = attribution.attribution_arms(TINY)
    assert list(arms) == list(COMPARED)
    found = {k: arms[k](Path("unused")) for k in ("second-decoder", "samples")}
    return {k: row for k, (row, _) in found.items()}, found["samples"][1]


def test_a_row_says_what_is_shown_and_what_is_right(rows):
    rows, pictures = rows
    for name, row in rows.items():
        assert row["n"] == 64  # twice what is judged
        assert set(row["against"]) == set(COMPARED[name])
        assert set(BANDS) <= set(row["measures"])
        assert ("reconstruction" in row) == (name in RECONSTRUCTED)
        assert len(row["spectrum"]) > 32
    error = rows["second-decoder"]["reconstruction"]["error"]
    assert error["2 to 4 cycles"]["ratio"] < 0.1 < error["16 cycles and up"]["ratio"]
    assert pictures["crops"].shape == (len(TOPS), 3, 128, 128)
    small = attribution.crops("samples", 64, 2)
    assert torch.equal(pictures["crops"][:, :, 3::4, ::4], small)


def test_the_bill_adds_up(rows):
    rows, _ = rows
    account = bill(rows)
    assert set(BANDS) <= set(account)
    for name, parts in account.items():
        lost, diffusion = parts["lost"][0], parts["diffusion"][0]
        shown = rows["samples"]["measures"][name]["ratio"]
        assert_close(1 - lost - diffusion, shown)
