"""The star probe: nights by the cell, neighbourhoods, and a probe that learns."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from ldm_tutorial.landscapes import NIGHT, Landscapes, detail_masks
from ldm_tutorial.studies import star_probe
from ldm_tutorial.studies.star_probe import BASELINE, cells, fit, nights

N = 6


def test_cells_hold_the_star_pixels_of_the_first_nights():
    x, stars, sky = nights("test", N)
    factors = Landscapes("test", 100).factors(range(100))
    factors = factors[(factors.time == NIGHT).nonzero().flatten()[:N]]
    masks = detail_masks(factors)
    assert x.shape == (N, 3, 64, 64) and stars.shape == sky.shape == (N, 64)
    assert_close(stars.sum(1), masks["stars"].sum((1, 2)).float())
    row, column = 1, 5  # any cell: rows first
    corner = masks["stars"][:, 8:16, 40:48].sum((1, 2)).float()
    assert_close(stars[:, 8 * row + column], corner)
    assert 0 < float((sky == 1).float().mean()) < 1


def test_the_neighbourhood_of_a_cell_has_it_in_the_middle():
    _, _, sky = nights("test", N)
    features, _, clear = cells(BASELINE, "test", N)
    assert features.shape == (N, 64, 10)
    assert_close(features[..., 4], sky)  # of 3 x 3
    assert_close(features[:, 9, 0], sky[:, 0])  # up and to the left
    assert_close(features[:, 0, 0], torch.zeros(N))  # beyond the border
    assert torch.equal(clear, sky == 1)
    latents, _, _ = cells("vae-f8", "test", N)
    assert_close(latents[..., :9], features[..., :9])
    assert latents.shape == (N, 64, 9 * 5 + 1)


@pytest.mark.parametrize(
    ("told", "least", "most"), [(True, 0.95, 1.0), (False, -0.2, 0.1)]
)
def test_a_probe_finds_what_is_there_and_nothing_else(told, least, most, monkeypatch):
    monkeypatch.setattr(star_probe, "STEPS", 300)
    monkeypatch.setattr(star_probe, "LEARNING_RATE", 0.02)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2000, 5, generator=generator)
    stars = features[:, 0].relu() * 3
    if not told:
        stars = stars[torch.randperm(2000, generator=generator)]
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 32), nn.SiLU(), nn.Linear(32, 1))
    fit(network, features[:1000], stars[:1000], generator)
    with torch.no_grad():
        error = (network(features[1000:]).squeeze(-1) - stars[1000:]).square().mean()
    assert least < 1 - float(error / stars[1000:].var()) < most
