"""Distances between sets against closed forms, and on sets built by hand."""

import math

import pytest
import torch

from ldm_tutorial.evaluation.distances import covered, frechet_distance, jackknife
from ldm_tutorial.evaluation.distances import precision_recall as measure
from ldm_tutorial.metrics import thumbnails


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# --- Fréchet distance -----------------------------------------------------------------


def features_with(mean, covariance, n=64, seed=0):
    """Features whose sample mean and covariance are exactly these."""
    d = len(mean)
    raw = torch.randn(n, d, dtype=torch.float64, generator=seeded(seed))
    raw = raw - raw.mean(0)
    white = raw @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(raw.T))).T
    return white @ torch.linalg.cholesky(covariance.double()).T + mean


def test_frechet_distance_of_diagonal_gaussians():
    """Sum of (mean difference)^2 and (standard deviation difference)^2."""
    mean_a, mean_b = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([1.0, 1.0, 0.0])
    std_a, std_b = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([3.0, 2.0, 1.0])
    a = features_with(mean_a, torch.diag(std_a**2))
    b = features_with(mean_b, torch.diag(std_b**2), n=50, seed=1)
    expected = float(((mean_a - mean_b) ** 2 + (std_a - std_b) ** 2).sum())
    assert frechet_distance(a, b) == pytest.approx(expected)


def test_frechet_distance_of_full_covariances():
    """Two dimensions: tr (AB)^(1/2) = sqrt(tr AB + 2 sqrt(det AB))."""
    A = torch.tensor([[2.0, 0.7], [0.7, 1.0]])
    B = torch.tensor([[1.0, -0.6], [-0.6, 3.0]])
    mean_a, mean_b = torch.tensor([0.5, -1.0]), torch.tensor([0.0, 2.0])
    a, b = features_with(mean_a, A), features_with(mean_b, B, seed=1)
    cross = math.sqrt((A @ B).trace() + 2 * math.sqrt((A @ B).det()))
    shift = ((mean_a - mean_b) ** 2).sum()
    expected = float(shift + A.trace() + B.trace()) - 2 * cross
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("n, d", [(200, 5), (10, 30), (2, 192), (40, 1)])
def test_frechet_distance_of_a_set_from_itself_is_zero(n, d):
    a = torch.randn(n, d, generator=seeded())
    assert abs(frechet_distance(a, a)) < 1e-6 * d
    assert abs(frechet_distance(a, a.flip(0))) < 1e-6 * d


def test_frechet_distance_is_symmetric_and_positive():
    a = torch.randn(100, 8, generator=seeded(1))
    b = torch.randn(70, 8, generator=seeded(2)) @ torch.randn(8, 8, generator=seeded(3))
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a))
    assert frechet_distance(a, b) > 1


def test_frechet_distance_of_fewer_samples_than_dimensions():
    """Rank-deficient covariances in disjoint directions: the cross term is zero."""
    a, b = torch.zeros(4, 20), torch.zeros(6, 20)
    a[:, 0] = torch.tensor([1.0, -1.0, 1.0, -1.0])  # variance 4 / 3
    b[:, 1] = torch.tensor([3.0, -3.0, 3.0, -3.0, 3.0, -3.0])  # variance 54 / 5
    b[:, 2] = 2.0
    assert frechet_distance(a, b) == pytest.approx(4 / 3 + 54 / 5 + 4, rel=1e-6)


def test_frechet_distance_sees_a_shift_of_images():
    a = thumbnails(torch.rand(64, 3, 16, 16, generator=seeded()))
    assert frechet_distance(a, a + 0.5) == pytest.approx(0.25 * 192, rel=1e-4)


def test_frechet_distance_of_many_samples_nears_the_closed_form():
    """|mu|^2 + sum (s_a - s_b)^2 for diagonal Gaussians."""
    a = torch.randn(400_000, 3, generator=seeded(), dtype=torch.float64)
    std = torch.tensor([1.0, 0.5, 2.0])
    b = std * torch.randn(400_000, 3, generator=seeded(1), dtype=torch.float64) + 0.1
    expected = 3 * 0.1**2 + float(((std - 1) ** 2).sum())
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-2)
    # With exact moments there is no sampling error, and 1e-3 is far from reached.
    a = features_with(torch.zeros(3), torch.eye(3))
    b = features_with(torch.full((3,), 0.1), torch.diag(std**2), seed=1)
    assert frechet_distance(a, b) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("a, b", [((1, 3), (5, 3)), ((5, 3), (5, 4)), ((5,), (5,))])
def test_frechet_distance_refuses_what_has_no_covariance(a, b):
    with pytest.raises(ValueError, match=r"shapes .*; give \(n, d\) and \(m, d\)"):
        frechet_distance(torch.zeros(a), torch.zeros(b))


# --- precision and recall -------------------------------------------------------------


def blobs(centres, n, std=0.1, seed=0):
    """n points around each centre, (n len(centres), 2)."""
    noise = std * torch.randn(len(centres), n, 2, generator=seeded(seed))
    return (torch.tensor(centres)[:, None] + noise).flatten(0, 1)


MODES = [[0.0, 0.0], [9.0, 0.0], [0.0, 9.0], [9.0, 9.0]]


def test_a_set_has_all_of_itself():
    x = torch.randn(200, 5, generator=seeded())
    assert measure(x, x.flip(0)) == (1, 1)


def test_sets_far_apart_have_nothing_in_common():
    x = torch.randn(100, 5, generator=seeded())
    assert measure(x, x + 100) == (0, 0)


def test_half_of_the_modes_is_precise_and_recalls_half():
    real, fake = blobs(MODES, 200), blobs(MODES[:2], 200, seed=1)
    precision, recall = measure(real, fake)
    assert precision > 0.95 and recall == pytest.approx(0.5, abs=0.03)
    precision, recall = measure(fake, real)  # half of what it shows is not real
    assert precision == pytest.approx(0.5, abs=0.03) and recall > 0.95


def test_one_tight_mode_is_precise_and_recalls_next_to_nothing():
    real = torch.randn(500, 2, generator=seeded())
    fake = 0.01 * torch.randn(500, 2, generator=seeded(1))
    precision, recall = measure(real, fake)
    assert precision == 1 and recall < 0.01


def test_the_ball_reaches_to_the_third_neighbour():
    centres = torch.tensor([[0.0], [1.0], [2.0], [3.0]])  # from 0 the third is at 3
    points = torch.tensor([[-2.9], [-3.1], [5.9], [6.1]])
    assert covered(points, centres, k=3) == 0.5
    assert covered(points, centres, k=3, chunk=3) == 0.5
    assert covered(points, centres, k=1) == 0


def test_precision_refuses_fewer_points_than_neighbours():
    with pytest.raises(ValueError, match="n and m at least 4"):
        measure(torch.zeros(3, 2), torch.zeros(9, 2))


# --- intervals ------------------------------------------------------------------------


def test_the_interval_of_a_mean_is_the_known_one():
    """For a difference of means the jackknife of single rows is exact; of groups, it
    is right on average: 1.96 sqrt(1/n + 4/m)."""
    widths = []
    for seed in range(100):
        a = torch.randn(100, 1, generator=seeded(seed))
        b = 2 * torch.randn(300, 1, generator=seeded(1000 + seed))
        widths += jackknife(lambda a, b: float(a.mean() - b.mean()), a, b)
    se = torch.tensor(widths).square().mean().sqrt() / 2.262
    assert float(se) == pytest.approx((1 / 100 + 4 / 300) ** 0.5, rel=0.1)


def test_intervals_of_the_frechet_distance_cover_the_true_one():
    hits, truth = 0, 1 + 0.25
    for seed in range(100):
        a = torch.randn(400, 2, generator=seeded(seed))
        b = torch.randn(400, 2, generator=seeded(1000 + seed))
        b = b * torch.tensor([1.5, 1.0]) + torch.tensor([0.0, 1.0])
        (width,) = jackknife(frechet_distance, a, b)
        hits += abs(frechet_distance(a, b) - truth) < width
    assert 88 <= hits <= 100, hits  # 95 of 100 are meant


def test_each_of_several_figures_has_its_interval():
    a = torch.randn(60, 3, generator=seeded())
    b = torch.randn(60, 3, generator=seeded(1)) + 1
    both = jackknife(lambda a, b: (frechet_distance(a, b), 5.0), a, b)
    assert both == pytest.approx([*jackknife(frechet_distance, a, b), 0], abs=1e-9)


def test_rows_that_belong_together_are_left_out_together():
    a = torch.randn(50, 1, generator=seeded())
    (paired,) = jackknife(lambda a, b: float((a - b).mean()), a, a + 1)
    assert paired == pytest.approx(0, abs=1e-6)


def test_an_interval_needs_twenty_rows():
    with pytest.raises(ValueError, match="n and m at least 20"):
        jackknife(frechet_distance, torch.zeros(19, 2), torch.zeros(50, 2))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_frechet_distance_agrees_with_torchmetrics():
    """Their FID, with our features in Inception's place."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Features(torch.nn.Module):
        num_features = 12

        def forward(self, x):
            return x.flatten(1).double()

    generator = torch.Generator().manual_seed(0)
    a = torch.randn(200, 3, 2, 2, generator=generator)
    b = 0.5 + 1.5 * torch.randn(300, 3, 2, 2, generator=generator)
    fid = FrechetInceptionDistance(Features(), normalize=True).set_dtype(torch.float64)
    fid.update(a, real=True)
    fid.update(b, real=False)
    ours = frechet_distance(a.flatten(1), b.flatten(1))
    assert ours == pytest.approx(float(fid.compute()), rel=1e-4)
