"""How near is a set of images to the real ones? Both are given as features (n, d).

A set is judged as a whole: does it show what real images show (precision), all of it
(recall), in the right proportions (Fréchet distance)? No number of these means anything
without the floor that another set of real images gets; ``evaluation.py`` adds it.
"""

from collections.abc import Callable

import torch
from torch import Tensor

GROUPS = 10  # of the jackknife
STUDENT = 2.262  # 97.5 % quantile of Student's t with GROUPS - 1 degrees of freedom


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Squared Fréchet distance of the Gaussians fitted to two sets of features.

    |mu_a - mu_b|^2 + tr(A + B - 2 (A B)^(1/2)) with covariances A and B
    (Heusel et al. 2017, eq. 6). It is biased upward for few samples: compare it with
    the distance between two sets of real features of the same sizes.

    Args:
        a, b: features (n, d) and (m, d), n and m at least 2; they may be fewer than d.

    Raises:
        ValueError: for shapes that do not fit.
    """
    check_sets(a, b, 2)
    a, b = a.double(), b.double()
    R_a, R_b = root(a), root(b)
    # The eigenvalues of A B are the squared singular values of R_a R_b^T.
    cross = torch.linalg.svdvals(R_a @ R_b.T).sum()
    shift = (a.mean(0) - b.mean(0)).square().sum()
    return float(shift + R_a.square().sum() + R_b.square().sum() - 2 * cross)


def root(x: Tensor) -> Tensor:
    """R with R^T R the covariance of features (n, d), of d rows or fewer."""
    centred = (x - x.mean(0)) / (len(x) - 1) ** 0.5
    return torch.linalg.qr(centred, mode="r").R


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> tuple[float, float]:
    """Improved precision and recall (Kynkäänniemi et al. 2019, eq. 1 and 2).

    Around every image of a set lies a ball that reaches to its k-th neighbour in the
    set; together they stand for all that the set could show. Precision is the share of
    the fakes that lie within the reals: do the samples look real? Recall is the share
    of the reals that lie within the fakes: is everything real among the samples?

    Args:
        real, fake: features (n, d) and (m, d), n and m above k.

    Raises:
        ValueError: for shapes that do not fit.
    """
    check_sets(real, fake, k + 1)
    real, fake = real.double(), fake.double()
    return covered(fake, real, k), covered(real, fake, k)


def covered(points: Tensor, centres: Tensor, k: int, chunk: int = 1024) -> float:
    """Share of the points (n, d) in a ball around one of the centres (m, d)."""
    # The nearest centre of a centre is itself.
    reach = [
        torch.cdist(part, centres).kthvalue(k + 1, dim=1).values
        for part in centres.split(chunk)
    ]
    radius = torch.cat(reach)
    inside = [
        (torch.cdist(part, centres) <= radius).any(1) for part in points.split(chunk)
    ]
    return float(torch.cat(inside).double().mean())


def check_sets(a: Tensor, b: Tensor, least: int) -> None:
    """Raise a ValueError unless these are two sets of enough features, all finite."""
    fit = a.ndim == b.ndim == 2 and a.shape[1] == b.shape[1]
    if not fit or min(len(a), len(b)) < least:
        raise ValueError(
            f"got features of shapes {tuple(a.shape)} and {tuple(b.shape)}; "
            f"give (n, d) and (m, d) with n and m at least {least}"
        )
    if not bool(a.isfinite().all() & b.isfinite().all()):
        raise ValueError(
            f"features of {len(a)} and {len(b)} images hold nan or infinity; give "
            "finite images and weights"
        )


def jackknife(
    statistic: Callable[[Tensor, Tensor], float | tuple[float, ...]],
    a: Tensor,
    b: Tensor,
) -> list[float]:
    """Half-widths of the 95 % intervals of what ``statistic(a, b)`` gives.

    Delete-a-group jackknife (Efron and Tibshirani 1993, ch. 11): both sets are dealt
    into ten groups at random, the statistic is taken ten times without one of them, and
    its spread gives the standard error, (G - 1)/G sum (value - mean)^2 under the root.
    Where rows of equally large sets belong together, they stay together. The interval
    is that of the number for sets of this size; a bias, such as that of the Fréchet
    distance, is not in it. For a distance near its floor it errs on the wide side.

    Args:
        a, b: features (n, d) and (m, d), n and m at least 20.

    Raises:
        ValueError: for shapes that do not fit.
    """
    check_sets(a, b, 2 * GROUPS)
    group_a, group_b = (deal(len(x)).to(x.device) for x in (a, b))
    values = torch.tensor(
        [statistic(a[group_a != g], b[group_b != g]) for g in range(GROUPS)],
        dtype=torch.float64,
    )
    variance = values.var(0, correction=0) * (GROUPS - 1)
    return (STUDENT * variance.sqrt()).reshape(-1).tolist()


def deal(n: int) -> Tensor:
    """A group for each of n rows, (n,), the same for the same n."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(0)) % GROUPS
