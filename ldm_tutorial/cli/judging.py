"""The commands ``evaluate`` and ``data``."""

import json
import time
from collections.abc import Iterator
from typing import Any

from jsonargparse import Namespace

from ldm_tutorial import evaluation
from ldm_tutorial.cli.checks import (
    check_number,
    check_picture,
    check_seed,
    kind_of,
    read_model,
)
from ldm_tutorial.cli.options import sampling, without
from ldm_tutorial.cli.sampling import write_grid
from ldm_tutorial.codec import LatentCodec
from ldm_tutorial.data import DataConfig, whole
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.training import folder

REAL = "real"  # stands for a model whose samples are held-out images


def show(options: Namespace, report: dict[str, Any]) -> None:
    """The numbers of a training as a line of JSON, and where the weights are."""
    kinds = ("reconstruction", "samples", "accuracy", "final")
    numbers = next(report[kind] for kind in kinds if kind in report)
    print(json.dumps(numbers))
    print(f"saved {options.out}")


def evaluate(options: Namespace) -> None:
    check_number(options.n, 2, "images")
    check_seed(options.seed)
    where, parts = (
        judge_model(options) if options.model != REAL else judge_real(options)
    )
    report = {"model": options.model, "data": where.data, "size": where.size} | parts
    if options.json:
        print(json.dumps(report, indent=2))
        return
    print(" " * 37 + "".join(f"{name:>12}" for name in ("", "95 %", "real", "codec")))
    for part, figures in parts.items():
        for row in table(figures):
            print(f"{part:15}{row}")


def judge_model(options: Namespace) -> tuple[DataConfig, dict[str, Any]]:
    """What to judge a model by, and what came out."""
    is_codec = kind_of(options.model) == "LatentCodec"
    model = read_model(LatentCodec if is_codec else LatentDiffusion, options.model)
    codec = model if is_codec else model.codec
    where = data_for(options, getattr(model, "image_size", None))
    report = {}
    if not is_codec:
        report["samples"] = evaluation.evaluate_samples(
            model,
            where,
            options.n,
            seed=options.seed,
            features=options.features,
            factors=True,
            **sampling(options),
        )
    report["reconstruction"] = evaluation.evaluate_codec(
        codec, where, options.n, options.features
    )
    return where, report


def judge_real(options: Namespace) -> tuple[DataConfig, dict[str, Any]]:
    """Real images in place of samples: what a perfect model would get."""
    where = DataConfig(
        options.data or "landscapes", options.size or 64, download=options.download
    )
    x, y = whole(where.load("validation", options.n), options.n)
    figures = evaluation.judge_samples(x, y, where, options.features, factors=True)
    return where, {"samples": {"n": len(x)} | figures}


BESIDE = ("_ci95", "_real", "_codec")  # what is printed beside a figure


def table(figures: dict[str, Any]) -> Iterator[str]:
    """Rows of figures, each with its interval and its floors."""
    renamed = {"class_accuracy_real": "class_agreement_real"}
    figures = {renamed.get(k, k): v for k, v in figures.items()}
    for name, value in figures.items():
        if name == "details":
            for kind, numbers in value.items():
                flat = {f"{kind} {what}": v for what, v in numbers.items()}
                yield from table(flat)
        elif name == "factors":
            yield from table(value)
        elif not name.endswith(BESIDE):
            width, *floors = [figures.get(name + ending) for ending in BESIDE]
            cells = [value, None if width is None else f"± {width:.2g}", *floors]
            yield f"{name:22}" + "".join(map(cell, cells)).rstrip()


def cell(value: Any) -> str:
    """A figure, a word or nothing, in twelve columns."""
    text = f"{value:.4g}" if isinstance(value, int | float) else (value or "")
    return f"{text:>12}" if len(text) < 12 else f" {text}"


def data_for(options: Namespace, image_size: int | None) -> DataConfig:
    """What to judge a model by: what was asked for, else what it was trained on.

    Raises:
        ValueError: if a diffusion model is asked for images of another size.
    """
    recipe = folder.trained_on(options.model)
    if image_size and options.size not in (None, image_size):
        raise ValueError(
            f"--size {options.size}: this model makes images of {image_size}; leave "
            "--size out"
        )
    return DataConfig(
        data=options.data or recipe.get("data", "landscapes"),
        size=options.size or image_size or recipe.get("size", 64),
        download=options.download,
    )


def data(options: Namespace) -> None:
    check_number(options.n, 1, "images")
    if options.out:
        check_picture(options.out)
    config = DataConfig(**without(options, "n", "split", "out"))
    dataset = config.load(options.split, config.length)
    start = time.perf_counter()
    x, _ = whole(dataset, max(1024, options.n))
    rate = len(x) / (time.perf_counter() - start)
    print(
        f"{config.data}, {options.split}: {len(dataset)} images of "
        f"{config.size}x{config.size} in {len(dataset.classes)} classes; "
        f"made at {rate:.0f} images/s"
    )
    if options.out:
        write_grid(x[: options.n], options.out)
