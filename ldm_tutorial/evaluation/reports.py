"""Judging models: for each question one function, for each number its interval and,
where sets of images are compared, the floor that real images get."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ldm_tutorial.codec import Codec
from ldm_tutorial.data import DataConfig, whole
from ldm_tutorial.evaluation.batched import (
    decoded,
    device_of,
    draw,
    each_class,
    in_batches,
    share,
)
from ldm_tutorial.evaluation.distances import (
    GROUPS,
    STUDENT,
)
from ldm_tutorial.evaluation.features import (
    JUDGE,
    feature_function,
    features_for,
    judged_classes,
    load_judge,
    trunk_on_disk,
)
from ldm_tutorial.evaluation.sets import compare, figures, set_quality
from ldm_tutorial.landscapes.dataset import Landscapes, detail_masks
from ldm_tutorial.landscapes.factor_report import factor_report
from ldm_tutorial.machine import best_device
from ldm_tutorial.metrics import (
    ClassJudge,
    detail_psnr,
    detail_recall,
    psnr,
    ssim,
)
from ldm_tutorial.noise import generators
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.training.perceptual import (
    load_perceptual,
)


@torch.no_grad()
def evaluate_codec(
    codec: Codec, data: DataConfig, n: int = 1000, features: str | None = None
) -> dict[str, Any]:
    """What reconstructions of ``n`` held-out images keep, with 95 % intervals.

    psnr (dB), ssim, and lpips_squeeze, lpips_alex or lpips_vgg if such a trunk is on
    disk: means over the images. details: for each kind of detail of a landscape its
    psnr and recall. The rest as in ``set_quality``: the reconstructions against other
    real images, and, as the floor, their own originals against these.

    Args:
        features: one of FEATURES; by default ``scenenet-judge`` for landscapes of 64
            pixels and ``thumbnails`` for other data.

    What cannot be measured, such as an interval from one image, is left out.
    """
    dataset = data.load("test", n)
    x, _ = whole(dataset, n)
    real, _ = whole(data.load("validation", n), n)
    generator = torch.Generator(device_of(codec)).manual_seed(0)
    x_hat = decoded(codec, x, generator)
    report: dict[str, Any] = {"n": len(x)}
    for name, value in image_values(x_hat, x).items():
        report[name] = float(value.mean())
        if len(value) > 1:
            report[f"{name}_ci95"] = interval(value)
    if isinstance(dataset, Landscapes):
        masks = detail_masks(dataset.factors(range(len(x))), data.size)
        report["details"] = evaluate_details(x_hat, x, masks)
    name = features or features_for(data)
    quality = set_quality(x_hat, real, x, feature_function(name))
    return report | ({"features": name} | quality if quality else {})


def image_values(x_hat: Tensor, x: Tensor) -> dict[str, Tensor]:
    """Each measure of single images, (n,)."""
    measures = {"psnr": psnr, "ssim": ssim}
    if found := trunk_on_disk(min(x.shape[2:])):
        device = best_device()
        lpips = load_perceptual(found).to(device)

        def measure(x_hat: Tensor, x: Tensor) -> Tensor:
            return lpips(x_hat.to(device), x.to(device)).cpu()

        measures[found.replace("-", "_")] = measure
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


@torch.no_grad()
def evaluate_samples(
    model: LatentDiffusion,
    data: DataConfig,
    n: int = 512,
    steps: int = 50,
    guidance_scale: float = 1.0,
    seed: int = 0,
    features: str | None = None,
    factors: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Quality of ``n`` samples, beside the numbers that real images get.

    The samples have the classes of held-out images, so that all sets mix the classes
    alike; sample i of a seed is the same for every ``n``. See ``judge_samples``.

    Args:
        features: as in ``evaluate_codec``.
        factors: add the factor report, if the data are landscapes of 64 pixels and the
            model has their classes. It takes a minute or two.
        options: of ``LatentDiffusion.sample``, such as ``sampler``.
    """
    _, y = whole(data.load("validation", n), n)
    same_classes = tuple(data.load("train", 1).classes) == model.classes
    y = y if same_classes and len(y) == n else each_class(model, n)
    samples = draw(model, y, steps, guidance_scale, generators(seed, n), **options)
    generator = torch.Generator(model.device).manual_seed(seed)
    asked = y if same_classes and len(model.classes) > 1 else None

    def codec(x: Tensor) -> Tensor:
        return decoded(model.codec, x, generator)

    report = {"n": n, "steps": steps, "guidance_scale": guidance_scale} | options
    return report | judge_samples(samples, asked, data, features, codec, factors)


@torch.no_grad()
def judge_samples(
    samples: Tensor,
    y: Tensor | None,
    data: DataConfig,
    features: str | None = None,
    codec: Callable[[Tensor], Tensor] | None = None,
    factors: bool = False,
) -> dict[str, Any]:
    """Quality of any images in place of samples; real ones get the floors.

    frechet, precision, recall and their intervals as in ``set_quality``: samples
    against real test images. NAME_real: validation images against these, the floor;
    NAME_codec: the same validation images after the codec, which is what a perfect
    diffusion model could reach with it. class_agreement: share of the samples that a
    classifier finds in the class asked for (the evaluation network where its features
    are used, else ``ClassJudge``), beside its accuracy on real images. factors: see
    ``factor_report``.

    Args:
        samples: (n, 3, H, W) in [-1, 1].
        y: the classes (n,) asked for, or None: nothing is said of classes and factors.
        features: as in ``evaluate_codec``.
        codec: what makes reconstructions of images, (B, 3, H, W) to the same.
        factors: add the factor report where the data are landscapes of 64 pixels.

    What cannot be measured is left out: distances with a single real image, agreement
    where the data have other classes.
    """
    n, name = len(samples), features or features_for(data)
    embed = feature_function(name)
    real_x, _ = whole(data.load("test", n), n)
    other_x, other_y = whole(data.load("validation", n), n)
    fake, real, other = (in_batches(embed, x) for x in (samples, real_x, other_x))
    report: dict[str, Any] = {}
    if quality := compare(fake, real, other):
        report |= {"features": name} | quality
        if codec is not None:
            coded = in_batches(embed, codec(other_x))
            floor = figures(coded[: quality["n_fake"]], real)
            report |= {f"{k}_codec": v for k, v in floor.items()}
    if y is None:
        return report
    known = data.load("train", 2000)
    if name == JUDGE and isinstance(known, Landscapes):
        said, said_other = (judged_classes(f) for f in (fake, other))
    else:
        classify = ClassJudge.fit(*whole(known, 2000))
        said, said_other = classify(samples), classify(other_x)
    report["class_agreement"] = share(said == y)
    if n > 1:
        report["class_agreement_ci95"] = interval((said == y).float())
    report["class_accuracy_real"] = share(said_other == other_y)
    if factors and features_for(data) == JUDGE:
        sets = data.load("train"), data.load("validation")
        some = min(10_000, 20 * n)  # a few samples are not worth reading them all
        report["factors"] = factor_report(samples, y, *sets, load_judge(), codec, some)
    return report
