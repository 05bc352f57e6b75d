"""The factor report: mathematics, violations that must be found, and floors."""

import pytest
import torch
from torch.testing import assert_close

from ldm_tutorial.landscapes import factor_report
from ldm_tutorial.landscapes.dataset import Landscapes, render
from ldm_tutorial.landscapes.factors import DAY, NIGHT, SEA, sample_factors
from ldm_tutorial.landscapes.painting import DISC
from ldm_tutorial.landscapes.scenenet import SceneNet

N = 96


@pytest.fixture(scope="module")
def judge():
    return SceneNet.load("scenenet-judge")


@pytest.fixture(scope="module")
def factors():
    return sample_factors(N, seeded(), torch.arange(N) % 16)


@pytest.fixture(scope="module")
def x(factors):
    return render(factors)


@pytest.fixture(scope="module")
def reading(judge, x):
    return factor_report.read(judge, x)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def part(reading, rows):
    return {name: value[rows] for name, value in reading.items()}


# --- mathematics ----------------------------------------------------------------------


def test_total_variation_is_the_share_that_would_have_to_move():
    p, q = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.0, 0.0, 1.0])
    assert (
        factor_report.total_variation(p, p) == 0
        and factor_report.total_variation(p, q) == 1
    )
    r = torch.tensor([0.5, 0.3, 0.2])
    assert (
        factor_report.total_variation(p, r)
        == factor_report.total_variation(r, p)
        == pytest.approx(0.2)
    )


def test_bins_are_equally_likely():
    values = torch.rand(8000, generator=seeded()) ** 3
    edges = factor_report.equal_bins(values, torch.ones(8000))
    assert edges.shape == (7,)
    assert_close(
        factor_report.shares(values, edges),
        torch.full((8,), 0.125).double(),
        atol=1e-3,
        rtol=0,
    )
    assert_close(edges, (torch.arange(1, 8) / 8) ** 3, atol=0.02, rtol=0)


def test_weights_count_like_repetitions():
    values, weights = torch.rand(50, generator=seeded()), torch.arange(50) % 4
    repeated = values.repeat_interleave(weights)
    edges = factor_report.equal_bins(values, weights)
    assert_close(edges, factor_report.equal_bins(repeated, torch.ones(len(repeated))))
    assert_close(
        factor_report.shares(values, edges, weights),
        factor_report.shares(repeated, edges),
    )


def test_weights_mix_the_classes_as_asked():
    known = torch.tensor([0, 0, 0, 1, 2, 2])
    weights = factor_report.class_weights(known, torch.tensor([0, 2, 2, 2]))
    assert_close(torch.bincount(known, weights), torch.tensor([1.0, 0, 3]).double())
    prior = factor_report.true_prior(torch.tensor([3, 3, 5]))
    assert len(prior) >= factor_report.PRIOR
    assert set(prior.label.unique().tolist()) == {3, 5}
    assert float((prior.label == 3).float().mean()) == pytest.approx(2 / 3, abs=1e-3)


def test_neighbours_are_the_nearest():
    known = torch.randn(50, 4, generator=seeded())
    distance, index = factor_report.neighbours(
        known[[7, 3]] + torch.tensor([[0.01, 0, 0, 0]]), known
    )
    assert index.tolist() == [7, 3]
    assert_close(distance, torch.full((2,), 0.01), atol=1e-3, rtol=0)


def test_a_model_that_learnt_nothing_by_heart_is_seen_as_such_and_a_copy_as_a_copy():
    known = torch.randn(500, 8, generator=seeded())
    held_out, fresh = torch.randn(2, 1000, 8, generator=seeded(1))
    reach, _ = factor_report.neighbours(held_out, known)
    assert float(factor_report.memorised(reach, reach).float().mean()) == pytest.approx(
        0.01
    )
    innocent = factor_report.memorised(factor_report.neighbours(fresh, known)[0], reach)
    assert float(innocent.float().mean()) < 0.03
    copied = known[:100] + 0.01 * torch.randn(100, 8, generator=seeded(2))
    assert factor_report.memorised(
        factor_report.neighbours(copied, known)[0], reach
    ).all()


# --- real images ----------------------------------------------------------------------


def test_the_network_reads_what_was_drawn(reading, factors):
    agreed = factor_report.agreement(reading, factors.label)
    assert agreed.keys() == {"class", "time", "biome"}
    assert all(right.float().mean() > 0.97 for right in agreed.values())
    assert_close(reading["sun_x"], factors.sun_x, atol=0.2, rtol=0)
    wrong_time = (factors.label + 4) % 16
    agreed = factor_report.agreement(reading, wrong_time)
    assert not agreed["time"].any() and not agreed["class"].any()
    assert agreed["biome"].float().mean() > 0.97


def test_real_images_break_no_rule(reading):
    assert {k: int(v.sum()) for k, v in factor_report.forbidden(reading).items()} == {
        "moon_by_day": 0,
        "sun_at_night": 0,
        "stars_by_day": 0,
        "house_in_sea": 0,
        "any": 0,
    }


def test_stars_are_seen_in_nearly_every_night_and_in_no_day(judge):
    night = sample_factors(64, seeded(1), 4 * NIGHT + torch.arange(64) % 4)
    assert (factor_report.count_stars(render(night)) >= 3).float().mean() > 0.98
    for time in range(NIGHT):
        seen = factor_report.count_stars(render(night.replace(time=time)))
        assert (seen < 3).all()


def test_proportions_of_real_images_are_those_of_the_world(reading, factors):
    prior = factor_report.true_prior(factors.label)
    found = factor_report.marginals(reading, reading, torch.ones(N), prior)
    assert all(found[f"tv_{name}"] < 0.01 for name in (*factor_report.COUNTS, "sun_x"))
    assert all(
        found[f"true_tv_{name}"] < 0.2 for name in (*factor_report.COUNTS, "sun_x")
    )


def test_wrong_proportions_are_seen(reading, factors):
    """Without its houses, with its suns to the left."""
    left = part(reading, factors.sun_x < 0.5)
    bare = part(reading, ~factors.house)
    prior, weights = factor_report.true_prior(factors.label), torch.ones(N)
    found = factor_report.marginals(left, reading, weights, prior)
    assert found["tv_sun_x"] == pytest.approx(0.5, abs=0.1)
    assert found["true_tv_sun_x"] == pytest.approx(0.5, abs=0.1)
    found = factor_report.marginals(bare, reading, weights, prior)
    share = float((reading["house"] == 1).float().mean())
    assert found["tv_house"] == pytest.approx(share, abs=0.02)


# --- violations -----------------------------------------------------------------------


def with_disc(x, factors, colour):
    """A clear disc of a colour over the sun or moon of images."""
    grid = (torch.arange(64) + 0.5) / 64
    across = grid.view(1, 1, 1, -1) - factors.sun_x.view(-1, 1, 1, 1)
    down = grid.view(1, 1, -1, 1) - factors.sun_y.view(-1, 1, 1, 1)
    inside = torch.hypot(across, down) < factors.sun_radius.view(-1, 1, 1, 1)
    return torch.where(inside, (2 * colour - 1).view(1, 3, 1, 1), x)


def test_a_moon_by_day_is_found_and_a_sun_at_night(judge):
    day = sample_factors(32, seeded(2), 4 * DAY + torch.arange(32) % 4)
    wrong = factor_report.forbidden(
        factor_report.read(judge, with_disc(render(day), day, DISC[NIGHT]))
    )
    assert wrong["moon_by_day"].float().mean() > 0.9
    assert torch.equal(wrong["any"] | wrong["moon_by_day"], wrong["any"])
    night = sample_factors(32, seeded(2), 4 * NIGHT + torch.arange(32) % 4)
    wrong = factor_report.forbidden(
        factor_report.read(judge, with_disc(render(night), night, DISC[DAY]))
    )
    assert wrong["sun_at_night"].float().mean() > 0.9


def test_stars_by_day_are_found(judge):
    """Two nights that differ in nothing but their stars give the stars alone."""
    factors = sample_factors(32, seeded(3), 4 * NIGHT + torch.arange(32) % 4)
    other = factors.replace(star_seed=factors.star_seed + 1)
    stars = (render(factors) - render(other)).clamp(min=0)
    day = render(factors.replace(time=DAY))
    wrong = factor_report.forbidden(
        factor_report.read(judge, (day + stars).clamp(max=1))
    )
    assert wrong["stars_by_day"].float().mean() > 0.7
    assert not factor_report.forbidden(factor_report.read(judge, day))[
        "stars_by_day"
    ].any()


def test_a_house_in_the_sea_is_found(judge):
    """Houses cut out of forests, pasted into seas; in most of these images the
    network still sees the sea, and the house."""
    forest = sample_factors(64, seeded(5), 4 * (torch.arange(64) % 4))
    land, bare = render(forest.replace(house=True)), render(forest.replace(house=False))
    house = (land - bare).abs().amax(1, keepdim=True) > 0.05
    sea = render(sample_factors(64, seeded(6), forest.label + SEA))
    assert not factor_report.forbidden(factor_report.read(judge, sea))[
        "house_in_sea"
    ].any()
    wrong = factor_report.forbidden(
        factor_report.read(judge, torch.where(house, land, sea))
    )
    assert wrong["house_in_sea"].float().mean() > 0.25


# --- the report -----------------------------------------------------------------------


def test_real_images_in_place_of_samples_get_the_floor(judge):
    """Every number has its floor beside it; here the two are equal."""
    held_out, train = Landscapes("validation", 40), Landscapes("train", 200)
    factors = held_out.factors(range(40))
    report = factor_report.factor_report(
        render(factors),
        factors.label,
        train,
        held_out,
        judge,
        codec=torch.zeros_like,
        known=100,
        rerendered=4,
        iterations=2,
    )
    names = [k for k in report if f"{k}_real" in report]
    kinds = {name.partition("_")[0] for name in names}
    assert kinds == {
        "agreement",
        "tv",
        "true",
        "forbidden",
        "neighbour",
        "memorised",
        "rerender",
        "starry",
    }
    assert all(report[k] == report[f"{k}_real"] for k in names)
    assert report["n"] == 40 and report["n_known"] == 100
    assert report["agreement_class"] >= 0.97 and report["judge_time"] >= 0.97
    assert report["starry_nights"] == 1
    assert report["agreement_class_codec"] < 0.2  # of a codec that forgets everything
    assert report["rerender_distance_codec"] > report["rerender_distance"]


def test_samples_copied_from_the_training_set_are_seen(judge):
    train = Landscapes("train", 60)
    factors = train.factors(range(40))
    report = factor_report.factor_report(
        render(factors),
        factors.label,
        train,
        Landscapes("validation"),
        judge,
        rerendered=0,
    )
    assert report["memorised"] == 1 and report["memorised_real"] < 0.06
    assert report["neighbour_distance"] < 0.05 < report["neighbour_distance_real"]
    assert "rerender_distance" not in report and "tv_house_codec" not in report


@pytest.mark.parametrize(
    ("shape", "y", "said"),
    [
        ((2, 3, 32, 32), [0, 1], r"wants landscapes \(n, 3, 64, 64\)"),
        ((0, 3, 64, 64), [], r"wants landscapes"),
        ((2, 3, 64, 64), [0], r"one whole number from 0 to 15 for each"),
        ((2, 3, 64, 64), [0, 16], r"one whole number"),
        ((2, 3, 64, 64), [0.0, 1.0], r"one whole number"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(judge, shape, y, said):
    train = Landscapes("train", 4)
    with pytest.raises(ValueError, match=said) as e:
        factor_report.factor_report(
            torch.zeros(shape), torch.tensor(y), train, train, judge
        )
    assert "\n" not in str(e.value)
