"""Analysis by re-rendering: what the world holds is found, what it does not is not."""

import math
from dataclasses import fields

import pytest
import torch
from torch.testing import assert_close

from ldm_tutorial.landscapes.dataset import render
from ldm_tutorial.landscapes.factors import SEA, Factors, sample_factors
from ldm_tutorial.landscapes.rerender import (
    choose,
    coarse_distance,
    low_pass,
    mutate,
    nearest_landscapes,
    start,
)
from ldm_tutorial.landscapes.scenenet import SceneNet


@pytest.fixture(scope="module")
def judge():
    return SceneNet.load("scenenet-judge")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(n, seed=0):
    return sample_factors(n, seeded(seed), torch.arange(n) % 16)


def test_the_distance_is_a_root_mean_square_without_fine_detail():
    black, white = torch.full((2, 3, 64, 64), -1.0), torch.ones(2, 3, 64, 64)
    assert_close(coarse_distance(black, white), torch.full((2,), 2.0))
    half = torch.cat([black[..., :32], white[..., 32:]], 3)
    assert_close(coarse_distance(half, white), torch.full((2,), math.sqrt(2)))
    chequered = black.clone()
    chequered[..., ::2, ::2] = chequered[..., 1::2, 1::2] = 1
    assert_close(coarse_distance(chequered, torch.zeros(2, 3, 64, 64)), torch.zeros(2))


def test_what_is_moved_stays_in_the_world():
    """However often; and the class is never moved."""
    old = start_from = drawn(160)
    for i in range(30):
        old = mutate(old, sample_factors(160, seeded(i), old.label), seeded(i))
    many = sample_factors(20_000, seeded(1), torch.arange(20_000) % 16)
    assert torch.equal(old.label, start_from.label)
    for field in fields(Factors):
        value = getattr(old, field.name)
        if value.is_floating_point():
            world = getattr(many, field.name)
            for c in range(16):
                there = world[many.label == c]
                mine = value[old.label == c]
                slack = 0.02 * (there.amax() - there.amin())
                assert mine.min() >= there.min() - slack, field.name
                assert mine.max() <= there.max() + slack, field.name
    sea = old.biome == SEA  # palms stay ashore
    ashore = 0.5 + 0.5 * old.shore_side[sea, None]
    assert ((old.tree_x[sea] - ashore).abs() <= 0.3601).all()
    assert not old.house[sea].any()


def test_a_few_causes_are_moved_and_not_all():
    old = drawn(400)
    new = mutate(old, drawn(400, 1), seeded())
    names = [f.name for f in fields(Factors) if f.name not in ("time", "biome")]
    moved = torch.stack(
        [(getattr(new, k) != getattr(old, k)).view(400, -1).any(1) for k in names], 1
    )
    assert 0.5 < float(moved.float().sum(1).mean()) < 6


def test_each_image_keeps_its_own():
    a, b = drawn(4), drawn(4, 1)
    first = torch.tensor([True, False, False, True])
    found = choose(first, a, b)
    for field in fields(Factors):
        value = getattr(found, field.name)
        assert torch.equal(value[first], getattr(a, field.name)[first])
        assert torch.equal(value[~first], getattr(b, field.name)[~first])


def test_the_search_comes_nearer_to_a_landscape_and_tells_what_is_none(judge):
    factors = drawn(12, 2)
    x, y = render(factors), factors.label
    first = start(x, y, judge, low_pass(x), seeded(3))
    assert_close(first.sun_x, factors.sun_x, atol=0.15, rtol=0)
    before = coarse_distance(render(first), x)
    found, distance = nearest_landscapes(x, y, judge, 40, seeded(3))
    assert torch.equal(found.label, y)
    assert_close(distance, coarse_distance(render(found), x))
    assert distance.mean() < 0.92 * before.mean()
    # Another landscape of the same class is farther than what the search finds.
    other = coarse_distance(render(sample_factors(12, seeded(4), y)), x)
    assert distance.mean() < 0.6 * other.mean()
    # With the sky below the ground it is no landscape.
    _, left = nearest_landscapes(x.flip(2), y, judge, 10, seeded(3))
    assert left.mean() > 2 * distance.mean()


def test_noise_is_no_landscape(judge):
    x = torch.rand(2, 3, 16, 16, generator=seeded()) * 2 - 1
    x = torch.nn.functional.interpolate(x, scale_factor=4)
    _, left = nearest_landscapes(x, torch.arange(2), judge, 3, seeded())
    assert left.mean() > 0.5


def test_the_same_seed_finds_the_same(judge):
    factors = drawn(2)
    x, y = render(factors), factors.label
    a, b = (nearest_landscapes(x, y, judge, 3, seeded())[1] for _ in range(2))
    assert torch.equal(a, b)
