"""Judging models: for each question one function, for each number its interval and,
where sets of images are compared, the floor that real images get."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ldm_tutorial.codec import Codec
from ldm_tutorial.data import DataConfig, Images, batch_of, stream
from ldm_tutorial.evaluation.batched import (
    Progress,
    counted,
    device_of,
    in_batches,
    in_colour,
    through,
)
from ldm_tutorial.evaluation.distances import (
    GROUPS,
    STUDENT,
)
from ldm_tutorial.evaluation.features import (
    FeatureFunction,
    feature_function,
    features_for,
    trunk_on_disk,
)
from ldm_tutorial.evaluation.sets import compare_features
from ldm_tutorial.landscapes.dataset import Landscapes, detail_masks
from ldm_tutorial.machine import best_device
from ldm_tutorial.metrics import (
    detail_psnr,
    detail_recall,
    psnr,
    ssim,
)
from ldm_tutorial.training.perceptual import (
    load_perceptual,
)


@torch.no_grad()
def evaluate_codec(
    codec: Codec,
    data: DataConfig,
    n: int = 1000,
    features: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """What reconstructions of ``n`` held-out images keep, with 95 % intervals.

    psnr (dB), ssim, and lpips_squeeze, lpips_alex or lpips_vgg if such a trunk is on
    disk: means over the images. details: for each kind of detail of a landscape its
    psnr and recall, from at most as many images as take the memory of 2000 of 64
    pixels. The rest as in ``set_quality``: the reconstructions against other real
    images, and, as the floor, their own originals against these.

    Args:
        features: one of FEATURES; by default ``scenenet-judge`` for landscapes of 64
            pixels and ``thumbnails`` for other data.
        progress: called with what is judged, how much of it is done, and of how much.

    What cannot be measured, such as an interval from one image, is left out.
    ``held_out`` is false where there are too few images to hold any out.
    """
    dataset, other = data.load("test", n), data.load("validation", n)
    name = features or features_for(data)
    embed, measures = feature_function(name), image_measures(data.size)
    device = device_of(codec)
    generator = torch.Generator(device).manual_seed(0)
    values: dict[str, list[Tensor]] = {measure: [] for measure in measures}
    own, fake = [], []
    kept: list[tuple[Tensor, Tensor]] = []
    keep = batch_of(data.size, 2000) if isinstance(dataset, Landscapes) else 0
    total = min(n, len(dataset))
    for x, _ in counted(stream(dataset, n), "reconstructions", total, progress):
        x_hat = through(codec, x.to(device), generator).cpu()
        for measure, function in measures.items():
            values[measure].append(in_batches(function, x_hat, x))
        own.append(in_batches(embed, x))
        fake.append(in_batches(embed, x_hat))
        if sum(len(part) for part, _ in kept) < keep:
            kept.append((x_hat, x))
    report: dict[str, Any] = {"n": total}
    for measure, parts in values.items():
        value = torch.cat(parts)
        report[measure] = float(value.mean())
        if len(value) > 1:
            report[f"{measure}_ci95"] = interval(value)
    if isinstance(dataset, Landscapes):
        x_hat, x = (torch.cat(parts)[:keep] for parts in zip(*kept, strict=True))
        masks = detail_masks(dataset.factors(range(len(x))), data.size)
        report["details"] = evaluate_details(x_hat, x, masks)
    if not getattr(dataset, "held_out", True):
        report["held_out"] = False
    real = embedded(embed, other, n, "other real images", progress)
    quality = compare_features(torch.cat(fake), real, torch.cat(own))
    return report | ({"features": name} | quality if quality else {})


def embedded(
    embed: FeatureFunction,
    dataset: Images,
    n: int,
    what: str,
    progress: Progress | None = None,
) -> Tensor:
    """Features (n, d) of the first ``n`` images of a data set."""
    total = min(n, len(dataset))
    batches = counted(stream(dataset, n), what, total, progress)
    return torch.cat([in_batches(embed, x) for x, _ in batches])


def image_measures(side: int) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """The measures of single images of this size: two batches to values (B,)."""
    measures: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"psnr": psnr}
    measures["ssim"] = ssim
    if found := trunk_on_disk(side):
        device = best_device()
        lpips = load_perceptual(found).to(device)

        def measure(x_hat: Tensor, x: Tensor) -> Tensor:
            return lpips(in_colour(x_hat).to(device), in_colour(x).to(device)).cpu()

        measures[found.replace("-", "_")] = measure
    return measures


def image_values(x_hat: Tensor, x: Tensor) -> dict[str, Tensor]:
    """Each measure of single images, (n,)."""
    measures = image_measures(min(x.shape[2:]))
    return {name: in_batches(f, x_hat, x) for name, f in measures.items()}


def interval(values: Tensor) -> float:
    """Half-width of the 95 % confidence interval of the mean, of 2 values or more."""
    return float(1.96 * values.std() / len(values) ** 0.5)


def evaluate_details(
    x_hat: Tensor, x: Tensor, masks: dict[str, Tensor]
) -> dict[str, dict[str, float]]:
    """psnr (dB) and recall of each kind of detail, and their 95 % intervals.

    The interval comes from the values of ten groups of images; a kind that not every
    group shows, or of fewer than twenty images, has none.
    """
    report: dict[str, dict[str, float]] = {}
    for what, measure in {"psnr": detail_psnr, "recall": detail_recall}.items():
        groups = [
            measure(x_hat[g::GROUPS], x[g::GROUPS], only(masks, g))
            for g in range(GROUPS)
        ]
        for name, value in measure(x_hat, x, masks).items():
            entry = report.setdefault(name, {})
            entry[what] = value
            values = torch.tensor([group[name] for group in groups if name in group])
            if len(x) >= 2 * GROUPS and len(values) == GROUPS:
                entry[f"{what}_ci95"] = interval(values) * STUDENT / 1.96
    return report


def only(masks: dict[str, Tensor], group: int) -> dict[str, Tensor]:
    """The masks of every tenth image."""
    return {name: mask[group::GROUPS] for name, mask in masks.items()}
