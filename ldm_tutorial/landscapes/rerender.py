"""Analysis by re-rendering: which possible landscape lies nearest to an image?

Whatever a generative model draws, the renderer of ``landscapes.py`` can say whether it
could have been drawn: search for the causes whose rendering comes nearest to the image
and look at what is left. An image of the world leaves little; a tree that floats, a
second moon or a ridge that dissolves leaves itself.

The search is a (1 + 1) evolution strategy (Rechenberg 1973) for all images at once: a
few causes of every image are moved, the batch is rendered, and each image keeps what
brought it nearer. It knows nothing of gradients and finds no global optimum, so a
distance means something only beside that of real images under the same search.
"""

from dataclasses import fields

import torch
import torch.nn.functional as F
from torch import Tensor

from ldm_tutorial.landscapes.dataset import render
from ldm_tutorial.landscapes.factors import SEA, Factors, sample_factors
from ldm_tutorial.landscapes.scenenet import SceneNet, name_all

COARSE = 16  # side at which images are compared; finer detail hangs on random seeds
DRAFT = 32  # side at which the search renders
STARTS = 32  # landscapes that the judge's reading is tried with, for each image
MOVED = 0.06  # chance of each cause to be moved
# What a SceneNet reads well enough to start from.
READ = ("sun_x", "sun_y", "sun_radius", "haze", "cloud_cover", "warmth")
HOUSE = ("house_x", "house_size")


def low_pass(x: Tensor) -> Tensor:
    """Images (n, 3, H, W) shrunk to (n, 3, 16, 16): light, colour and layout without
    stars, texture and the rims of clouds, whose random seeds no search can find."""
    return F.adaptive_avg_pool2d(x, COARSE)


def coarse_distance(a: Tensor, b: Tensor) -> Tensor:
    """Root mean square difference of low-passed images, (n,); 2 is black to white."""
    return (low_pass(a) - low_pass(b)).square().flatten(1).mean(1).sqrt()


@torch.no_grad()
def nearest_landscapes(
    x: Tensor,
    y: Tensor,
    judge: SceneNet,
    iterations: int = 200,
    generator: torch.Generator | None = None,
) -> tuple[Factors, Tensor]:
    """The causes whose renderings come nearest to images, among those of their classes.

    The judge's reading of sun, light, trees and house is put into random landscapes of
    the class, and the nearest of these is improved step by step.

    Args:
        x: images (n, 3, 64, 64) in [-1, 1].
        y: classes (n,), indices into CLASS_NAMES.
        iterations: renderings of each image in the search, after the first 32.

    Returns:
        Factors of n images (``render`` shows them), and the ``coarse_distance`` (n,) of
        their renderings of the same size.
    """
    x, y = x.cpu(), y.cpu()
    target = low_pass(x)
    best = start(x, y, judge, target, generator)
    distance = draft_distance(best, target)
    for _ in range(iterations):
        tried = mutate(best, sample_factors(len(x), generator, y), generator)
        found = draft_distance(tried, target)
        nearer = found < distance
        best = choose(nearer, tried, best)
        distance = torch.where(nearer, found, distance)
    return best, coarse_distance(render(best, x.shape[-1]), x)


def draft_distance(factors: Factors, target: Tensor) -> Tensor:
    """``coarse_distance`` of small renderings to low-passed images (n, 3, 16, 16)."""
    return coarse_distance(render(factors, DRAFT), target)


def start(
    x: Tensor,
    y: Tensor,
    judge: SceneNet,
    target: Tensor,
    generator: torch.Generator | None,
) -> Factors:
    """The nearest of a few random landscapes with the judge's reading put in."""
    n, said = len(x), name_all(judge, x)
    every = torch.arange(n).repeat(STARTS)
    tried = sample_factors(len(every), generator, y[every])
    # A reading may err beyond what is ever drawn; the draws show how far that goes.
    for name in (*READ, *HOUSE):
        drawn = getattr(tried, name).view(STARTS, n)
        value = said[name].clamp(drawn.amin(0), drawn.amax(0))
        tried = tried.replace(**{name: value[every]})
    house = (said["house"].argmax(1) == 1) & (y % 4 != SEA)
    count = said["tree_count"].argmax(1)
    tried = tried.replace(house=house[every], tree_count=count[every])
    distance = draft_distance(tried, target.repeat(STARTS, 1, 1, 1)).view(STARTS, n)
    return tried[distance.argmin(0) * n + torch.arange(n)]


def mutate(
    old: Factors, fresh: Factors, generator: torch.Generator | None = None
) -> Factors:
    """A few causes of each image moved towards those of another of its class.

    Numbers go a random part of the way, mostly a small one; counts, sides and seeds go
    all of it. What lies between two possible values is possible, so the search never
    leaves the world, but that trees may come nearer to each other than they are drawn.
    """
    other_shore = (fresh.biome == SEA) & (fresh.shore_side != old.shore_side)
    mirrored = torch.where(other_shore[:, None], 1 - fresh.tree_x, fresh.tree_x)
    fresh = fresh.replace(tree_x=mirrored)
    reach = torch.rand(len(old), generator=generator) ** 2
    moved = {}
    for field in fields(Factors):
        a, b = getattr(old, field.name), getattr(fresh, field.name)
        if field.name in ("time", "biome", "shore_side"):
            moved[field.name] = a
            continue
        if a.is_floating_point():
            b = a + reach.view(-1, *[1] * (a.ndim - 1)) * (b - a)
        chosen = torch.rand(a.shape, generator=generator) < MOVED
        moved[field.name] = torch.where(chosen, b, a)
    return Factors(**moved)


def choose(first: Tensor, a: Factors, b: Factors) -> Factors:
    """Images of ``a`` where ``first`` (n,) is true, else of ``b``."""
    rows = torch.arange(len(b))
    both = {
        f.name: torch.cat([getattr(a, f.name), getattr(b, f.name)])
        for f in fields(Factors)
    }
    return Factors(**both)[torch.where(first, rows, rows + len(b))]
