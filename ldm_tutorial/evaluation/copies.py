"""Does a model give its training pictures back? Samples beside their nearest ones.

Distances are root mean squares over the values of images that are shrunk to ``SIDE``
pixels where they are larger. How near is too near? Held-out images, which nobody can
have copied, set the measure, after they went through the codec: what it smooths away
brings samples nearer as well.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ldm_tutorial.codec import Codec
from ldm_tutorial.data import DataConfig, Images, stream
from ldm_tutorial.evaluation.batched import Progress, counted, decoded, device_of
from ldm_tutorial.evaluation.reports import interval

SIDE = 32  # pixels a side at most, where images are compared
SHOWN = 64  # and where they are shown
NEAR = 0.05  # of the held-out images are nearer than what counts as near
ALONE = 1 / 3  # of the distance to the second nearest (Gu et al. 2023, section 2)


@dataclass
class Copies:
    """How near samples are to training images.

    Attributes:
        report: see ``find_copies``.
        indices: of the training image nearest to each sample, (n,).
        order: the samples from the most to the least like a copy, (n,).
    """

    report: dict[str, Any]
    indices: Tensor
    order: Tensor


def miniature(x: Tensor, side: int = SHOWN) -> Tensor:
    """Images (B, C, H, W) at no more than ``side`` x ``side`` pixels, on the CPU."""
    return F.adaptive_avg_pool2d(x.float().cpu(), min(side, x.shape[-1]))


def as_rows(x: Tensor) -> Tensor:
    """Images (B, C, H, W) as they are compared, (B, d)."""
    return miniature(x, SIDE).flatten(1)


def nearest(
    rows: Tensor, training: Images, progress: Progress | None = None
) -> tuple[Tensor, Tensor]:
    """Distances (n, 2) from images as rows (n, d) to the two nearest of the training
    images, and where these stand in their data set, (n, 2)."""
    best = rows.new_full((len(rows), 2), float("inf"))
    where = torch.zeros(len(rows), 2, dtype=torch.long)
    start, total = 0, len(training)
    for x, _ in counted(stream(training, total), "training images", total, progress):
        found = torch.cdist(rows, as_rows(x)) / rows.shape[1] ** 0.5
        here = torch.arange(start, start + len(x)).expand(len(rows), -1)
        both, places = torch.cat([best, found], 1), torch.cat([where, here], 1)
        best, chosen = both.topk(2, dim=1, largest=False)
        where = places.gather(1, chosen)
        start += len(x)
    return best, where


@torch.no_grad()
def find_copies(
    samples: Tensor,
    data: DataConfig,
    codec: Codec,
    progress: Progress | None = None,
) -> Copies:
    """Compare samples with all images that a model was trained on.

    Args:
        samples: images (n, C, h, w), or miniatures of them.
        data: what the model was trained on, with its ``length`` and ``flip``.
        codec: of the model.
        progress: as in ``evaluate_codec``.

    Returns:
        In the report: distance, the median over the samples of the distance to the
        nearest training image. near: the share that is nearer than 95 % of the held-out
        images are. copies: the share whose nearest training image is three times as
        near as the second nearest (Gu et al. 2023, On memorization in diffusion models,
        arXiv:2310.02664); where images are in the training set twice, it finds none of
        them. NAME_real: the same of as many held-out images, after the codec. They are
        missing, and near with them, where no images are held out.

    Raises:
        ValueError: if there is only one training image.
    """
    training = data.training_set()
    if len(training) < 2:
        raise ValueError("copies are told from the second nearest image: give two")
    distances, where = nearest(as_rows(samples), training, progress)
    alone = distances[:, 0] < ALONE * distances[:, 1]
    report: dict[str, Any] = {"n": len(samples), "training_images": len(training)}
    real = real_distances(len(samples), data, training, codec)
    report["distance"] = float(distances[:, 0].median())
    if real is not None:
        near = distances[:, 0] < real[:, 0].quantile(NEAR)
        report |= {"distance_real": float(real[:, 0].median())}
        report |= shares("near", near) | {"near_real": NEAR}
    report |= shares("copies", alone)
    if real is not None:
        report["copies_real"] = float((real[:, 0] < ALONE * real[:, 1]).float().mean())
    ratio = distances[:, 0] / distances[:, 1].clamp(min=1e-9)
    return Copies(report, where[:, 0], ratio.argsort())


def side_by_side(found: Copies, samples: Tensor, data: DataConfig, n: int) -> Tensor:
    """The ``n`` samples most like copies, and after them the training images that are
    nearest to them, as miniatures (2 n, C, h, w)."""
    chosen, training = found.order[:n], data.training_set()
    near = [training[int(found.indices[i])][0] for i in chosen]
    return torch.cat([samples[chosen], miniature(torch.stack(near))])


def shares(name: str, found: Tensor) -> dict[str, float]:
    """The share of what was found, with its interval if it has one."""
    values = {name: float(found.float().mean())}
    if len(found) > 1:
        values[f"{name}_ci95"] = interval(found.float())
    return values


def real_distances(
    n: int, data: DataConfig, training: Images, codec: Codec
) -> Tensor | None:
    """Distances (m, 2) of at most ``n`` held-out images, which went through a codec, to
    the training images; None if none are held out."""
    held_out = data.load("validation", n)
    if not getattr(held_out, "held_out", True):
        return None
    generator = torch.Generator(device_of(codec)).manual_seed(0)
    rows = [
        as_rows(decoded(codec, x, generator).clamp(-1, 1))
        for x, _ in stream(held_out, n)
    ]
    return nearest(torch.cat(rows), training)[0]
