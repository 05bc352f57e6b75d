"""Judging samples: beside each number the one that real images get.

Images pass by in batches, so that memory holds their features and no more.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ldm_tutorial.data import DataConfig, Images, stream
from ldm_tutorial.evaluation.batched import (
    Progress,
    counted,
    decoded,
    drawn,
    each_class,
    in_batches,
    share,
)
from ldm_tutorial.evaluation.features import (
    JUDGE,
    feature_function,
    features_for,
    judged_classes,
    load_judge,
)
from ldm_tutorial.evaluation.reports import embedded, interval
from ldm_tutorial.evaluation.sets import compare_features, figures
from ldm_tutorial.landscapes.dataset import Landscapes
from ldm_tutorial.landscapes.factor_report import factor_report
from ldm_tutorial.metrics import ClassJudge
from ldm_tutorial.noise import generators
from ldm_tutorial.pipeline import LatentDiffusion

KNOWN = 2000  # training images that the classifier of other data learns from


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
    progress: Progress | None = None,
    seen: Callable[[Tensor], Any] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Quality of ``n`` samples, beside the numbers that real images get.

    The samples have the classes of held-out images, so that all sets mix the classes
    alike; sample i of a seed is the same for every ``n``. See ``judge_samples``.

    Args:
        features: as in ``evaluate_codec``.
        factors: add the factor report, if the data are landscapes of 64 pixels and the
            model has their classes. It takes a minute or two.
        progress: as in ``evaluate_codec``.
        seen: called with every batch of samples.
        options: of ``LatentDiffusion.sample``, such as ``sampler``.
    """
    held_out = data.load("validation", n)
    y = labels(held_out, n)
    same_classes = tuple(data.load("train", 1).classes) == model.classes
    y = y if same_classes and len(y) == n else each_class(model, n)
    sources = generators(seed, n)
    batches = drawn(model, y, steps, guidance_scale, sources, **options)
    generator = torch.Generator(model.device).manual_seed(seed)
    asked = y if same_classes and len(model.classes) > 1 else None

    def codec(x: Tensor) -> Tensor:
        return decoded(model.codec, x, generator)

    report = {"n": n, "steps": steps, "guidance_scale": guidance_scale} | options
    batches = counted(shown_to(seen, batches), "samples", n, progress)
    return report | judge(batches, n, asked, data, features, codec, factors, progress)


def shown_to(
    seen: Callable[[Tensor], Any] | None, batches: Iterable[Tensor]
) -> Iterator[Tensor]:
    """The batches, each shown to ``seen`` if there is one."""
    for x in batches:
        if seen:
            seen(x)
        yield x


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
        samples: (n, C, H, W) in [-1, 1].
        y: the classes (n,) asked for, or None: nothing is said of classes and factors.
        features: as in ``evaluate_codec``.
        codec: what makes reconstructions of images, (B, C, H, W) to the same.
        factors: add the factor report where the data are landscapes of 64 pixels.

    What cannot be measured is left out: distances with a single real image, agreement
    where the data have other classes.
    """
    batches = samples.split(128)
    return judge(batches, len(samples), y, data, features, codec, factors)


def judge(
    batches: Iterable[Tensor],
    n: int,
    y: Tensor | None,
    data: DataConfig,
    features: str | None = None,
    codec: Callable[[Tensor], Tensor] | None = None,
    factors: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """``judge_samples`` of ``n`` images that come in batches, only once."""
    name = features or features_for(data)
    embed = feature_function(name)
    test, held_out = data.load("test", n), data.load("validation", n)
    factors = factors and y is not None and features_for(data) == JUDGE
    fake, small, kept = [], [], []
    for x in batches:
        fake.append(in_batches(embed, x))
        small.append(shrunk(x))
        if factors:  # of landscapes of 64 pixels: a report on all at once
            kept.append(x)
    real = embedded(embed, test, n, "real images", progress)
    fake_features, other, coded, small_other, other_y = torch.cat(fake), [], [], [], []
    total = min(n, len(held_out))
    for x, label in counted(stream(held_out, n), "other real images", total, progress):
        other.append(in_batches(embed, x))
        small_other.append(shrunk(x))
        other_y.append(label)
        if codec is not None:
            coded.append(in_batches(embed, codec(x)))
    other_features = torch.cat(other)
    report: dict[str, Any] = {}
    if not getattr(test, "held_out", True):
        report["held_out"] = False
    if quality := compare_features(fake_features, real, other_features):
        report |= {"features": name} | quality
        if codec is not None:
            floor = figures(torch.cat(coded)[: quality["n_fake"]], real)
            report |= {f"{k}_codec": v for k, v in floor.items()}
    if y is None:
        return report
    known = data.load("train", KNOWN)
    if name == JUDGE and isinstance(known, Landscapes):
        said, said_other = map(judged_classes, (fake_features, other_features))
    else:
        classify = learned(known)
        said, said_other = classify(torch.cat(small)), classify(torch.cat(small_other))
    report["class_agreement"] = share(said == y)
    if n > 1:
        report["class_agreement_ci95"] = interval((said == y).float())
    report["class_accuracy_real"] = share(said_other == torch.cat(other_y))
    if factors:
        a, b = (cast(Landscapes, data.load(s)) for s in ("train", "validation"))
        some = min(10_000, 20 * n)  # a few samples are not worth reading them all
        x = torch.cat(kept)
        report["factors"] = factor_report(x, y, a, b, load_judge(), codec, some)
    return report


def shrunk(x: Tensor) -> Tensor:
    """Images (B, C, H, W) at 8 x 8 pixels: all that ``ClassJudge`` looks at."""
    return F.adaptive_avg_pool2d(x, 8)


def learned(known: Images) -> ClassJudge:
    """A classifier that has learned from a data set."""
    pairs = [(shrunk(x), y) for x, y in stream(known, KNOWN)]
    x, y = map(torch.cat, zip(*pairs, strict=True))
    return ClassJudge.fit(x, y)


def labels(dataset: Images, n: int) -> Tensor:
    """Classes (n,) of the first images of a data set, or of all of fewer."""
    return torch.cat([y for _, y in stream(dataset, n)])
