"""Judging models: for each question one function, for each number its interval and,
where sets of images are compared, the floor that real images get."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ldm_tutorial.codec import Codec
from ldm_tutorial.distances import (
    GROUPS,
    STUDENT,
    frechet_distance,
    jackknife,
    precision_recall,
)
from ldm_tutorial.factor_report import factor_report
from ldm_tutorial.gaussian import Generators, generators
from ldm_tutorial.landscapes import BIOMES, Landscapes, detail_masks
from ldm_tutorial.metrics import (
    ClassJudge,
    detail_psnr,
    detail_recall,
    psnr,
    ssim,
    thumbnails,
)
from ldm_tutorial.perceptual import (
    TRUNKS,
    check_trunk,
    damaged,
    load_perceptual,
    trunk_file,
)
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.recipes import DataConfig, best_device, whole
from ldm_tutorial.scenenet import SceneNet
from ldm_tutorial.storage import shipped, to_bytes

FeatureFunction = Callable[[Tensor], Tensor]  # (B, 3, H, W) -> (B, d) on the CPU

JUDGE = "scenenet-judge"  # kept for evaluation: nothing was trained to please it
JUDGE_SIZE = 64  # side of the images that it was trained on
FEATURES = (JUDGE, "thumbnails", "inception")
NEIGHBOURS = 3  # of precision and recall


# --- reconstructions ------------------------------------------------------------------


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


def through(codec: Codec, x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Images that went through a codec and back, (B, 3, H, W)."""
    return codec.decode(codec.encode(x, generator))


def decoded(codec: Codec, x: Tensor, generator: torch.Generator | None) -> Tensor:
    """The same for many images, on the CPU."""
    device = device_of(codec)
    return in_batches(lambda part: through(codec, part.to(device), generator).cpu(), x)


def device_of(codec: Codec) -> torch.device:
    return next(codec.parameters(), torch.empty(0)).device


def in_batches(function: Callable[..., Tensor], *sets: Tensor) -> Tensor:
    """``function`` of sets of images, 128 at a time."""
    parts = zip(*(x.split(128) for x in sets), strict=True)
    return torch.cat([function(*part) for part in parts])


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


def trunk_on_disk(size: int) -> str | None:
    """The first of the LPIPS trunks that is there and takes images of this size."""
    fit = [name for name, (_, _, smallest) in TRUNKS.items() if size >= smallest]
    return next((name for name in fit if trunk_file(name).is_file()), None)


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


# --- sets of images -------------------------------------------------------------------


@torch.no_grad()
def set_quality(
    fake: Tensor, real: Tensor, other: Tensor, features: FeatureFunction
) -> dict[str, float]:
    """How near a set of images is to real ones, and how near other real images are.

    frechet, precision, recall: of ``fake`` (n, 3, H, W) against ``real`` (m, 3, H, W),
    as in ``distances.py``, with 95 % intervals under NAME_ci95. NAME_real: the same of
    ``other`` real images against ``real``, the floor. Both depend on how many images
    there are, so ``fake`` and ``other`` are cut to the same number, n_fake.

    Args:
        features: as ``feature_function`` gives them.

    What cannot be measured is left out: a distance with a single image, precision with
    fewer than four, intervals with fewer than twenty.
    """
    return compare(*(in_batches(features, x) for x in (fake, real, other)))


def compare(fake: Tensor, real: Tensor, other: Tensor) -> dict[str, float]:
    """``set_quality`` of features (n, d), (m, d) and (k, d)."""
    n = min(len(fake), len(other))
    report = figures(fake[:n], real)
    if not report:
        return {}
    names = list(report)
    if min(n, len(real)) >= 2 * GROUPS:
        widths = jackknife(lambda a, b: tuple(figures(a, b).values()), fake[:n], real)
        for name, width in zip(names, widths, strict=True):
            report[f"{name}_ci95"] = width
    report |= {f"{k}_real": v for k, v in figures(other[:n], real).items()}
    return {"n_fake": n, "n_real": len(real)} | report


def figures(fake: Tensor, real: Tensor) -> dict[str, float]:
    """What can be measured of two sets of features of these sizes."""
    n = min(len(fake), len(real))
    report = {"frechet": frechet_distance(fake, real)} if n > 1 else {}
    if n > NEIGHBOURS:
        precision, recall = precision_recall(real, fake, NEIGHBOURS)
        report |= {"precision": precision, "recall": recall}
    return report


def features_for(data: DataConfig) -> str:
    """The features by which these images are best compared without a download."""
    known = data.data == "landscapes" and data.size == JUDGE_SIZE
    return JUDGE if known and JUDGE in shipped() else "thumbnails"


def feature_function(name: str) -> FeatureFunction:
    """Features by name: images (B, 3, H, W) in [-1, 1] -> (B, d) on the CPU.

    scenenet-judge: of the SceneNet that is kept for evaluation. thumbnails: the images
    shrunk to 8 x 8 pixels. inception: the 2048 features of the Inception network of FID
    (Heusel et al. 2017), from the package torch-fidelity.

    Raises:
        ValueError: for another name, a missing package or a damaged file.
        FileNotFoundError: if the weights are not on disk.
    """
    if name == "thumbnails":
        return lambda x: thumbnails(x).cpu()
    device = best_device()
    if name == JUDGE:
        return lambda x: load_judge().features(x.to(device)).cpu()
    if name == "inception":
        inception = load_inception().to(device)
        return lambda x: inception(to_bytes(x).to(device))[0].cpu()
    raise ValueError(f"features {name!r} are unknown; choose {', '.join(FEATURES)}")


def load_inception() -> nn.Module:
    """The Inception network of FID: bytes (B, 3, H, W) -> ((B, 2048),)."""
    try:
        from torch_fidelity import feature_extractor_inceptionv3 as inception
    except ImportError:
        raise ValueError(
            "inception features need the package torch-fidelity: pip install "
            "torch-fidelity, or take features 'thumbnails'"
        ) from None
    url = inception.URL_INCEPTION_V3
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not path.is_file():
        raise FileNotFoundError(
            f"inception features need {path.name}, which is not in {path.parent}: "
            f"download it from {url}, or take features 'thumbnails'"
        )
    check_trunk(path)
    try:
        return inception.FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path)
        )
    except RuntimeError:  # other tensors than the network's
        raise ValueError(damaged(path)) from None


# --- samples --------------------------------------------------------------------------


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


def judged_classes(features: Tensor) -> Tensor:
    """Classes (n,) of landscapes by their features (n, d) in the evaluation network."""
    judge = load_judge()
    said = judge.name(features.to(judge.spread.device) * judge.spread)
    return (len(BIOMES) * said["time"].argmax(1) + said["biome"].argmax(1)).cpu()


@cache
def load_judge() -> SceneNet:
    """The network that is kept for evaluation."""
    return SceneNet.load(JUDGE).to(best_device())


def each_class(model: LatentDiffusion, n: int) -> Tensor:
    """Classes (n,), each in turn; zeros for an unconditional model."""
    return torch.arange(n) % max(1, len(model.classes))


def draw(
    model: LatentDiffusion,
    y: Tensor,
    steps: int,
    guidance_scale: float,
    generator: Generators,
    **options: Any,
) -> Tensor:
    """Samples (n, 3, H, W) of the classes ``y`` (n,), on the CPU; ``options`` as of
    ``LatentDiffusion.sample``, ``generator`` too: one, or one for each sample."""
    samples = []
    for rows in torch.arange(len(y)).split(128):
        one = isinstance(generator, torch.Generator)
        part = model.sample(
            len(rows),
            y=y[rows] if model.classes else None,
            steps=steps,
            guidance_scale=guidance_scale,
            generator=generator if one else generator[rows[0] : rows[-1] + 1],
            **options,
        )
        samples.append(part.cpu())
    return torch.cat(samples)


def share(right: Tensor) -> float:
    """Mean of bools (B,)."""
    return float(right.float().mean())
