"""The commands ``evaluate`` and ``data``."""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from jsonargparse import Namespace
from torch import Tensor

from ldm_tutorial import evaluation
from ldm_tutorial.cli.capstone import capstone
from ldm_tutorial.cli.checks import (
    check_grid,
    check_number,
    check_picture,
    check_seed,
    kind_of,
    read_model,
)
from ldm_tutorial.cli.options import refuse_sampling, sampling, without
from ldm_tutorial.cli.pictures import write_grid
from ldm_tutorial.cli.progress import counting, judging_bar
from ldm_tutorial.codec import LatentCodec
from ldm_tutorial.data import DataConfig, data_config, stream
from ldm_tutorial.data.card import card, is_folder
from ldm_tutorial.evaluation.batched import Progress
from ldm_tutorial.evaluation.copies import find_copies, miniature, side_by_side
from ldm_tutorial.evaluation.samples import judge, labels
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.text import printable
from ldm_tutorial.training import folder

PAIRS = 8  # of a sample and its nearest training image in a picture
REAL = "real"  # stands for a model whose samples are held-out images


def show(options: Namespace, report: dict[str, Any]) -> None:
    """The numbers of a training as a line of JSON, and where the weights are."""
    kinds = ("reconstruction", "samples", "accuracy", "final")
    numbers = next(report[kind] for kind in kinds if kind in report)
    print(json.dumps(numbers))
    print(f"saved {options.out}")


def evaluate(options: Namespace) -> None:
    if options.capstone:
        capstone(options)
        return
    for name in ("vae", "name", "out", "board", "card"):
        if getattr(options, name):
            raise ValueError(f"--{name} belongs to the capstone; add --capstone")
    check_number(options.n, 2, "images")
    check_seed(options.seed)
    if options.nearest:
        check_picture(options.nearest)
    with judging_bar() as progress:
        judged = judge_real if options.model == REAL else judge_model
        where, parts = judged(options, progress)
    report = {"model": options.model, "data": where.data, "size": where.size} | parts
    if options.json:
        print(json.dumps(report, indent=2))
        return
    print(" " * 37 + "".join(f"{name:>12}" for name in ("", "95 %", "real", "codec")))
    for part, figures in parts.items():
        for row in table(figures):
            print(f"{part:15}{row}")


def judge_model(
    options: Namespace, progress: Progress
) -> tuple[DataConfig, dict[str, Any]]:
    """What to judge a model by, and what came out."""
    is_codec = kind_of(options.model) == "LatentCodec"
    model = read_model(LatentCodec if is_codec else LatentDiffusion, options.model)
    if is_codec:
        refuse_sampling(options, "an autoencoder")
        refuse_nearest(options, "an autoencoder draws no samples")
    codec = model if is_codec else model.codec
    where = data_for(options, getattr(model, "image_size", None))
    report = {}
    if not is_codec:
        small: list[Tensor] = []
        report["samples"] = evaluation.evaluate_samples(
            model,
            where,
            options.n,
            seed=options.seed,
            features=options.features,
            factors=True,
            progress=progress,
            seen=lambda x: small.append(miniature(x)) if options.nearest else None,
            **sampling(options),
        )
        if options.nearest:
            samples = torch.cat(small)
            found = find_copies(samples, where, codec, progress)
            report["copies"] = found.report
            shown = side_by_side(found, samples, where, PAIRS)
            write_grid(shown, options.nearest, columns=len(shown) // 2)
    report["reconstruction"] = evaluation.evaluate_codec(
        codec, where, options.n, options.features, progress
    )
    return where, report


def judge_real(
    options: Namespace, progress: Progress
) -> tuple[DataConfig, dict[str, Any]]:
    """Real images in place of samples: what a perfect model would get."""
    refuse_sampling(options, "real: what is judged")
    refuse_nearest(options, "no model was trained on anything")
    where = data_config(
        {},
        data=options.data,
        size=options.size,
        download=options.download,
        skip_bad=options.skip_bad,
    )
    held_out = where.load("validation", options.n)
    y = labels(held_out, options.n)
    batches = (x for x, _ in stream(held_out, options.n))
    figures = judge(
        batches, len(y), y, where, options.features, factors=True, progress=progress
    )
    return where, {"samples": {"n": len(y)} | figures}


def refuse_nearest(options: Namespace, why: str) -> None:
    if options.nearest:
        raise ValueError(f"--nearest {options.nearest}: {why}; leave --nearest out")


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
    size = options.size or image_size
    return data_config(
        recipe,
        data=options.data,
        size=size,
        download=options.download,
        skip_bad=options.skip_bad or None,
    )


def data(options: Namespace) -> None:
    check_number(options.n, 1, "images")
    check_grid(options.n, options.size)
    if options.out:
        check_picture(options.out)
    config = DataConfig(**without(options, "n", "split", "out", "json"))
    config.load(options.split, config.length)  # complains before the long look
    found = None
    if is_folder(config):
        with counting("looking at images") as progress:
            found = card(config, progress)
        if found.bad:  # they are on the card; what follows is of the others
            config = replace(config, skip_bad=True)
    if options.json:
        print(json.dumps(found.to_dict() if found else card(config).to_dict()))
    elif found:
        print("\n".join(found.lines()))
    dataset = config.load(options.split, config.length)
    start, n = time.perf_counter(), 0
    batches = stream(dataset, max(1024, options.n))
    shown: list[tuple[Tensor, Tensor]] = []
    for x, y in batches:
        shown += zip(x[: options.n - len(shown)], y, strict=False)
        n += len(x)
    rate = n / (time.perf_counter() - start)
    if not options.json:
        print(
            f"{printable(config.data)}, {options.split}: {len(dataset)} images of "
            f"{config.size}x{config.size} in {len(dataset.classes)} classes; "
            f"made at {rate:.0f} images/s"
        )
    if options.out:
        x, names = torch.stack([x for x, _ in shown]), None
        if found and len(dataset.classes) > 1:
            names = [dataset.classes[int(y)] for _, y in shown]
        write_grid(x, options.out, names)
        print(f"wrote {options.out}: {len(x)} images", file=out_of_the_way(options))


def out_of_the_way(options: Namespace):
    """Where remarks go: not where JSON goes."""
    return sys.stderr if options.json else sys.stdout
