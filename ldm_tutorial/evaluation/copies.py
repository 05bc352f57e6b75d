"""Does a model give its training pictures back? Samples beside their nearest ones.

Distances are root mean squares over the values of images that are shrunk to ``SIDE``
pixels where they are larger. Training images go through the codec first: a model has
seen no others, and of the originals no sample can be a sharp copy. How near is too
near? Held-out images, which nobody can have copied, set the measure, after the codec
too.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ldm_tutorial.codec import Codec
from ldm_tutorial.data import DataConfig, Images, stream
from ldm_tutorial.evaluation.batched import (
    Progress,
    counted,
    decoded,
    device_of,
    share,
)
from ldm_tutorial.evaluation.reports import interval
from ldm_tutorial.metrics import thumbnails

SIDE = 32  # pixels a side at most, where images are compared
SHOWN = 64  # and where they are shown
NEAR = 0.05  # of the held-out images are nearer than what counts as near
ALONE = 1 / 3  # of the distance to the second nearest (after Gu et al. 2025)


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


def miniature(x: Tensor) -> Tensor:
    """Images (B, C, H, W) at no more than ``SHOWN`` pixels a side, on the CPU."""
    return F.adaptive_avg_pool2d(x.float().cpu(), min(SHOWN, x.shape[-1]))


def as_rows(x: Tensor) -> Tensor:
    """Images (B, C, H, W) as they are compared, (B, d)."""
    return thumbnails(x.float().cpu(), min(SIDE, x.shape[-1]))


def nearest(rows: Tensor, training: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Distances (n, 2) from images as rows (n, d) to the two nearest of the training
    images, which come in batches, and where these stand among them, (n, 2)."""
    best = rows.new_full((len(rows), 2), float("inf"))
    where = torch.zeros(len(rows), 2, dtype=torch.long)
    start = 0
    for x in training:
        found = torch.cdist(rows, as_rows(x)) / rows.shape[1] ** 0.5
        here = torch.arange(start, start + len(x)).expand(len(rows), -1)
        both, places = torch.cat([best, found], 1), torch.cat([where, here], 1)
        best, chosen = both.topk(2, dim=1, largest=False)
        where = places.gather(1, chosen)
        start += len(x)
    return best, where


def coded(codec: Codec, images: Images, n: int) -> Iterator[Tensor]:
    """The first ``n`` images after a codec, in batches on the CPU."""
    generator = torch.Generator(device_of(codec)).manual_seed(0)
    for x, _ in stream(images, n):
        yield decoded(codec, x, generator).clamp(-1, 1)


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
        near as the second nearest (Gu et al. 2025, On Memorization in Diffusion Models,
        arXiv:2310.02664); where images are in the training set twice, it finds none of
        them. NAME_real: the same of as many held-out images. They are missing, and near
        with them, where no images are held out.

    Raises:
        ValueError: if there is only one training image.
    """
    training = data.training_set()
    total = len(training)
    if total < 2:
        raise ValueError("copies are told from the second nearest image: give two")
    rows, n = as_rows(samples), len(samples)
    held_out = data.load("validation", n)
    has_real = getattr(held_out, "held_out", True)
    if has_real:
        rows = torch.cat([rows, *map(as_rows, coded(codec, held_out, n))])
    batches = counted(coded(codec, training, total), "training images", total, progress)
    distances, where = nearest(rows, batches)
    ratio = distances[:, 0] / distances[:, 1].clamp(min=1e-9)
    own, real = distances[:n, 0], distances[n:, 0]
    report: dict[str, Any] = {"n": n, "training_images": total}
    report["distance"] = float(own.median())
    if has_real:
        report |= {"distance_real": float(real.median())}
        report |= share_of("near", own < real.quantile(NEAR)) | {"near_real": NEAR}
    report |= share_of("copies", ratio[:n] < ALONE)
    if has_real:
        report["copies_real"] = share(ratio[n:] < ALONE)
    return Copies(report, where[:n, 0], ratio[:n].argsort())


def side_by_side(found: Copies, samples: Tensor, data: DataConfig, n: int) -> Tensor:
    """At most ``n`` samples, those most like copies, and after them the training images
    that are nearest to them, each of these once: miniatures (2 n, C, h, w)."""
    first: dict[int, int] = {}  # the sample that is most like a training image
    for i in found.order.tolist():
        first.setdefault(int(found.indices[i]), i)
    chosen = list(first.items())[:n]
    training = data.training_set()
    near = torch.stack([training[image][0] for image, _ in chosen])
    return torch.cat([samples[[i for _, i in chosen]], miniature(near)])


def share_of(name: str, found: Tensor) -> dict[str, float]:
    """The share of what was found, with its interval if it has one."""
    values = {name: share(found)}
    if len(found) > 1:
        values[f"{name}_ci95"] = interval(found.float())
    return values
