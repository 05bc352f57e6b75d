"""The factor report: what only a world whose every cause is known can say of samples.

Fréchet distance says that a set of images is wrong, not what is wrong. Here the
evaluation network names the causes of every sample, so that each can be asked about:
is it the class that was asked for; do suns, trees and houses come in the right
proportions; does the moon shine by day; could the renderer have drawn this image at
all; has the model learnt its training images by heart?

The network reads real images with small errors of its own. So every number stands
beside the same number for real held-out images, its floor (NAME_real), and if there is
a codec for the same images after the codec (NAME_codec).
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ldm_tutorial.landscapes.dataset import Landscapes, render
from ldm_tutorial.landscapes.factors import (
    BIOMES,
    CLASS_NAMES,
    NIGHT,
    SEA,
    TREES,
    Factors,
    sample_factors,
)
from ldm_tutorial.landscapes.rerender import nearest_landscapes
from ldm_tutorial.landscapes.scenenet import SceneNet, accuracy

Reading = dict[str, Tensor]  # see `read`

NUMBERS = ("sun_x", "sun_y", "sun_radius")  # compared in bins of equal probability
COUNTS = {"tree_count": 1 + TREES, "house": 2}  # compared value by value
BINS = 8
PRIOR = 100_000  # factors drawn to know the true prior


@torch.no_grad()
def read(judge: SceneNet, x: Tensor) -> Reading:
    """What the evaluation network sees on images (n, 3, 64, 64), on the CPU.

    features (n, d); time, biome, tree_count and house (n,) int64; sun_x, sun_y and
    sun_radius (n,); disc (n, 3), the colour in [0, 1] where the sun or moon stands;
    stars (n,), how many bright dots are in the sky.
    """
    device = next(judge.parameters()).device
    parts = [_read(judge, part.to(device)) for part in x.split(128)]
    return {name: torch.cat([p[name] for p in parts]).cpu() for name in parts[0]}


def _read(judge: SceneNet, x: Tensor) -> Reading:
    vector = judge.vector(judge.maps(x)[-1])
    said = judge.name(vector)
    reading = {"features": vector / judge.spread} | {k: said[k] for k in NUMBERS}
    for name in ("time", "biome", *COUNTS):
        reading[name] = said[name].argmax(1)
    reading["disc"] = disc_colour(x, said["sun_x"], said["sun_y"])
    return reading | {"stars": count_stars(x)}


def read_all(judge: SceneNet, landscapes: Landscapes) -> tuple[Reading, Tensor]:
    """The reading of a whole data set, a part at a time, and its classes (n,)."""
    factors = landscapes.factors(range(len(landscapes)))
    rows = torch.arange(len(landscapes)).split(512)
    parts = [read(judge, render(factors[part], landscapes.size)) for part in rows]
    reading = {name: torch.cat([p[name] for p in parts]) for name in parts[0]}
    return reading, factors.label


def disc_colour(x: Tensor, sun_x: Tensor, sun_y: Tensor, reach: int = 3) -> Tensor:
    """Colour (n, 3) in [0, 1] of the brightest place, 3 x 3 pixels, within ``reach``
    pixels of where the centre of the sun or moon was read."""
    size = x.shape[-1]
    smooth = F.avg_pool2d(F.pad((x + 1) / 2, (1, 1, 1, 1), mode="replicate"), 3, 1)
    step = torch.arange(-reach, reach + 1, device=x.device)
    column = ((sun_x * size - 0.5).round().long()[:, None] + step).clamp(0, size - 1)
    row = ((sun_y * size - 0.5).round().long()[:, None] + step).clamp(0, size - 1)
    rows = torch.arange(len(x), device=x.device)
    near = smooth.permute(0, 2, 3, 1)[
        rows.view(-1, 1, 1), row[:, :, None], column[:, None, :]
    ].flatten(1, 2)  # (n, places, 3)
    return near[rows, near.sum(2).argmax(1)]


def count_stars(x: Tensor) -> Tensor:
    """How many dots of the sky are brighter than all around them, (n,).

    A star is white and less than three pixels wide. So the least of the three colours
    stands out by 0.06 against the brightest of the sixteen pixels two away. Only the
    upper 30 % of the image counts, where no mountain ends.
    """
    white = (x.amin(1, keepdim=True) + 1) / 2
    wide = F.pad(white, (2, 2, 2, 2), mode="replicate")
    H, W = x.shape[-2:]
    ring = [
        wide[:, :, dy : dy + H, dx : dx + W]
        for dy in range(5)
        for dx in range(5)
        if max(abs(dy - 2), abs(dx - 2)) == 2
    ]
    stands_out = white - torch.stack(ring).amax(0) > 0.06
    highest = stands_out & (white == F.max_pool2d(white, 3, 1, 1))
    return highest[:, 0, 2 : int(0.31 * H)].flatten(1).sum(1)


def agreement(reading: Reading, y: Tensor) -> dict[str, Tensor]:
    """Whether images show the class, the time and the biome asked for, bools (n,)."""
    time = reading["time"] == y // len(BIOMES)
    biome = reading["biome"] == y % len(BIOMES)
    return {"class": time & biome, "time": time, "biome": biome}


def equal_bins(values: Tensor, weights: Tensor, bins: int = BINS) -> Tensor:
    """Edges (bins - 1,) between which values (n,) of these weights are equally many."""
    values, order = values.sort()
    below = weights[order].double().cumsum(0)
    wanted = below[-1] * torch.arange(1, bins, dtype=torch.float64) / bins
    return values[torch.searchsorted(below, wanted)]


def shares(values: Tensor, edges: Tensor, weights: Tensor | None = None) -> Tensor:
    """Share of values (n,) in each bin, (len(edges) + 1,), adding up to 1; a value on
    an edge belongs to the bin below."""
    weights = torch.ones(len(values)) if weights is None else weights
    index = torch.bucketize(values, edges)
    counts = torch.bincount(index, weights.double(), minlength=len(edges) + 1)
    return counts / counts.sum()


def total_variation(p: Tensor, q: Tensor) -> float:
    """Half the sum of |p - q| over the bins of two distributions: the share of images
    that would have to move; 0 if they are equal, 1 if they are disjoint."""
    return float((p - q).abs().sum() / 2)


def marginals(
    reading: Reading, known: Reading, weights: Tensor, prior: Factors
) -> dict[str, float]:
    """How far the proportions of each factor are from those of the world.

    tv_NAME: total variation against what the network reads on many real images,
    between 8 bins of equal probability there (or value by value for counts). tv_NAME
    is about the samples alone. true_tv_NAME: against the prior itself; the errors of
    the network are in it and do not vanish with more images (of sun_radius it sees
    little: real images have 0.14 there).

    Args:
        known: the reading of many real images, with weights (m,) that mix the classes
            as they were asked for.
        prior: factors of the same mix.
    """
    report = {}
    even = torch.ones(len(prior))
    for name in (*NUMBERS, *COUNTS):
        seen, true = known[name], getattr(prior, name)
        steps = torch.arange(COUNTS[name] - 1) if name in COUNTS else None
        for prefix, value, weight in (("", seen, weights), ("true_", true, even)):
            edges = equal_bins(value, weight) if steps is None else steps
            expected = shares(value, edges, weight)
            found = shares(reading[name], edges)
            report[f"{prefix}tv_{name}"] = total_variation(found, expected)
    return report


def class_weights(y_known: Tensor, y: Tensor) -> Tensor:
    """Weights (m,) under which known classes (m,) are mixed like the classes ``y``."""
    wanted = torch.bincount(y, minlength=len(CLASS_NAMES)).double()
    there = torch.bincount(y_known, minlength=len(CLASS_NAMES)).double()
    return (wanted / there.clamp(min=1))[y_known]


def true_prior(y: Tensor) -> Factors:
    """Many factors with the classes ``y`` (n,) in turn, always the same."""
    label = y.repeat(-(-PRIOR // len(y)))
    return sample_factors(len(label), torch.Generator().manual_seed(0), label)


def forbidden(reading: Reading) -> dict[str, Tensor]:
    """Which images show what the world forbids, bools (n,) for each rule.

    moon by day: a bright disc that is bluish, not at night. sun at night: a disc that
    is reddish. stars by day: three or more dots in the sky, not at night. house in the
    sea. any: one of these. The time and the biome are those that the image shows, right
    or wrong.

    The network has learnt the rules too, and may not see them broken: it reads a sun
    that stands too low at noon as one that does not. So disc and stars are looked for
    in the pixels. Of houses pasted into the sea it finds about half. A disc behind a
    mountain shows the mountain's colour, so "moon by day" asks for the moon's
    brightness too, and misses a moon that is veiled by clouds.
    """
    night = reading["time"] == NIGHT
    warmth = reading["disc"][:, 0] - reading["disc"][:, 2]
    bright = reading["disc"].mean(1) > 0.9
    found = {
        "moon_by_day": ~night & bright & (warmth < -0.02),
        "sun_at_night": night & (warmth > 0.02),
        "stars_by_day": ~night & starry(reading),
        "house_in_sea": (reading["house"] == 1) & (reading["biome"] == SEA),
    }
    return found | {"any": torch.stack(list(found.values())).any(0)}


def starry(reading: Reading) -> Tensor:
    """Which images have stars, bools (n,): three dots of the sky or more."""
    return reading["stars"] >= 3


def neighbours(features: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Distance (n,) of features (n, d) to the nearest of (m, d), and which it is."""
    found = [torch.cdist(part, known).min(1) for part in features.split(1024)]
    return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])


def memorised(distance: Tensor, held_out: Tensor) -> Tensor:
    """Which images are nearer to the training images than 99 % of those that the model
    never saw, bools (n,); of a model that learnt nothing by heart about 1 %."""
    return distance < torch.quantile(held_out, 0.01)


@torch.no_grad()
def factor_report(
    samples: Tensor,
    y: Tensor,
    train: Landscapes,
    held_out: Landscapes,
    judge: SceneNet,
    codec: Callable[[Tensor], Tensor] | None = None,
    known: int = 10_000,
    rerendered: int = 64,
    iterations: int = 200,
) -> dict[str, Any]:
    """Every number of the report, flat: NAME of the samples, NAME_ci95 the half-width
    of its 95 % interval, NAME_real its floor, NAME_codec the same after the codec.

    * agreement_class, agreement_time, agreement_biome: see ``agreement``.
    * tv_FACTOR and true_tv_FACTOR: see ``marginals``. The floor of tv is chance alone,
      0.02 for 2,000 images and 0.05 for 500.
    * forbidden_RULE: share of the images, see ``forbidden``.
    * starry_nights: share of the nights that have stars; of real ones all. Without
      them no star by day means little.
    * neighbour_distance: median distance to the nearest training image in the features
      of the judge; memorised: see there.
    * rerender_distance: mean ``coarse_distance`` to the nearest possible landscape.
    * judge_FACTOR: how well the judge reads held-out images (``scenenet.accuracy``).

    Args:
        samples: images (n, 3, 64, 64) in [-1, 1] of the classes ``y`` (n,).
        held_out: real images; as many as there are samples are the floor.
        codec: images (B, 3, 64, 64) to what a codec makes of them.
        known: how many training images are read.
        rerendered: how many images are analysed by re-rendering; 0 leaves it out.

    Raises:
        ValueError: for images and classes that do not fit.
    """
    check(samples, y)
    samples, y = samples.cpu(), y.cpu()
    held_out = Landscapes(held_out.split, len(samples), held_out.seed, held_out.size)
    factors = held_out.factors(range(len(held_out)))
    x = render(factors, held_out.size)
    sets = {"": (samples, y), "_real": (x, factors.label)}
    if codec is not None:
        sets["_codec"] = (
            torch.cat([codec(part) for part in x.split(128)]),
            factors.label,
        )
    length = min(known, len(train))
    train = Landscapes(train.split, length, train.seed, train.size)
    seen, y_seen = read_all(judge, train)
    readings = {end: read(judge, images) for end, (images, _) in sets.items()}
    reach, _ = neighbours(readings["_real"]["features"], seen["features"])
    report: dict[str, Any] = {"n": len(samples), "n_known": length}
    for end, (images, labels) in sets.items():
        said = readings[end]
        bools = {f"agreement_{k}": v for k, v in agreement(said, labels).items()}
        bools |= {f"forbidden_{k}": v for k, v in forbidden(said).items()}
        distance, _ = neighbours(said["features"], seen["features"])
        bools["memorised"] = memorised(distance, reach)
        bools["starry_nights"] = starry(said)[said["time"] == NIGHT]
        values = {k: v.float() for k, v in bools.items() if len(v)}
        if rerendered:
            generator = torch.Generator().manual_seed(0)
            part = images[:rerendered], labels[:rerendered]
            _, left = nearest_landscapes(*part, judge, iterations, generator)
            values["rerender_distance"] = left
        numbers = marginals(
            said, seen, class_weights(y_seen, labels), true_prior(labels)
        )
        numbers["neighbour_distance"] = float(distance.median())
        numbers |= {k: float(v.mean()) for k, v in values.items()}
        report |= {f"{k}{end}": v for k, v in numbers.items()}
        if not end:
            wide = {k: half_width(v) for k, v in values.items() if len(v) > 1}
            report |= {f"{k}_ci95": v for k, v in wide.items()}
    measured = accuracy(judge, held_out)
    return report | {f"judge_{name}": value for name, value in measured.items()}


def half_width(values: Tensor) -> float:
    """Half-width of the 95 % interval of the mean of values (n,)."""
    return float(1.96 * values.std() / len(values) ** 0.5)


def check(samples: Tensor, y: Tensor) -> None:
    """Raise a ValueError unless these are images of landscapes and their classes."""
    if samples.ndim != 4 or samples.shape[1:] != (3, 64, 64) or not len(samples):
        raise ValueError(
            f"got samples of shape {tuple(samples.shape)}; the factor report wants "
            "landscapes (n, 3, 64, 64)"
        )
    wrong = y.shape != (len(samples),) or y.is_floating_point()
    if wrong or bool(((y < 0) | (y >= len(CLASS_NAMES))).any()):
        raise ValueError(
            f"got classes of shape {tuple(y.shape)} for {len(samples)} samples; give "
            f"one whole number from 0 to {len(CLASS_NAMES) - 1} for each"
        )
