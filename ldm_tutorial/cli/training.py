"""The commands that train."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from jsonargparse import Namespace
from torch import nn

from ldm_tutorial import evaluation
from ldm_tutorial.cli.checks import check_writable, read_model
from ldm_tutorial.cli.judging import show
from ldm_tutorial.cli.options import recipe_options
from ldm_tutorial.cli.progress import counting, judging_bar
from ldm_tutorial.codec import LatentCodec
from ldm_tutorial.cost.efficiency import count_parameters
from ldm_tutorial.data.card import card, is_folder
from ldm_tutorial.landscapes.scenenet import SceneNet, accuracy
from ldm_tutorial.machine import environment
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.records import write_record
from ldm_tutorial.training import fit, folder, recipes
from ldm_tutorial.training.config import Log
from ldm_tutorial.training.loop import is_main_process, tensorboard
from ldm_tutorial.training.recipes import LDMRecipe, SceneRecipe, VAERecipe


@contextmanager
def training_bar(options: Namespace, steps: int) -> Iterator[dict[str, Any]]:
    """Callbacks for the training loop that draw a progress bar on stderr, and feed
    TensorBoard where it was asked for."""
    from tqdm.auto import tqdm

    bars = []
    board = tensorboard(options.out) if options.tensorboard else None

    def on_start(step: int) -> None:
        silent = not is_main_process()
        bars.append(tqdm(total=steps, initial=step, unit="step", disable=silent))

    def on_log(line: Log) -> None:
        bar = bars[0]
        bar.update(line["step"] - bar.n)
        shown = {k: v for k, v in line.items() if k not in ("step", "seconds")}
        bar.set_postfix({k: f"{v:.4g}" for k, v in shown.items()})
        if board:
            board(line)

    try:
        yield {"on_log": on_log, "on_start": on_start}
    finally:
        for bar in bars:
            bar.close()


def train_vae(options: Namespace) -> None:
    recipe = recipes.VAERecipe(**recipe_options(options))
    check_writable(options.out)
    if finished(options, folder.settings(recipe)):
        return
    introduce(recipe)
    with training_bar(options, recipe.train.steps) as callbacks:
        codec, log = fit.train_vae(recipe, options.out, **callbacks)
    if is_main_process():
        report = record(recipe, codec.vae, log)
        n = 1000 if recipe.train.steps > 100 else 64
        with judging_bar() as progress:
            quality = evaluation.evaluate_codec(codec, recipe, n, progress=progress)
        report |= {"reconstruction": quality}
        finish(options, codec, report)


def train_scenenet(options: Namespace) -> None:
    recipe = recipes.SceneRecipe(**recipe_options(options))
    if recipe.flip:
        raise ValueError("--flip: a landscape's factors have sides; leave it out")
    check_writable(options.out)
    if finished(options, folder.settings(recipe)):
        return
    with training_bar(options, recipe.train.steps) as callbacks:
        net, log = fit.train_scenenet(recipe, options.out, **callbacks)
    if is_main_process():
        report = record(recipe, net, log)
        n = 1000 if recipe.train.steps > 100 else 64
        report |= {"accuracy": accuracy(net, recipe.load("test", n))}
        finish(options, net, report)


def train_ldm(options: Namespace) -> None:
    recipe = recipes.LDMRecipe(**recipe_options(options, "vae"))
    check_writable(options.out)
    codec: fit.Codec = fit.PixelCodec()
    if options.vae != "none":
        codec = read_model(LatentCodec, options.vae)
    if finished(options, folder.settings(recipe, codec)):
        return
    introduce(recipe)
    with training_bar(options, recipe.train.steps) as callbacks:
        model, log = fit.train_ldm(recipe, codec, options.out, **callbacks)
    if is_main_process():
        report = record(recipe, model.unet, log)
        if recipe.train.steps > 100:
            n = 2000 if recipe.train.steps > 1000 else 512
            with judging_bar() as progress:
                quality = evaluation.evaluate_samples(
                    model, recipe, n, factors=n > 512, progress=progress
                )
            report |= {"samples": quality}
        finish(options, model, report)


def introduce(recipe: VAERecipe | LDMRecipe) -> None:
    """Look at the images, and say what was found; complain now about what would be
    missed at the end."""
    recipe.load("test")
    n = len(recipe.load("train", recipe.length))
    if n < recipe.train.batch_size and is_main_process():
        print(
            f"batch_size={recipe.train.batch_size} is more than the {n} images to "
            "train: every batch repeats them",
            file=sys.stderr,
        )
    if is_folder(recipe) and is_main_process():
        with counting("looking at images") as progress:
            found = card(recipe, progress)
        if not found.bad:  # else the training names them
            print(found.line(), file=sys.stderr)


def finished(options: Namespace, described: dict[str, Any]) -> bool:
    """Whether this very run is done; if so, say what came out of it.

    Raises:
        ValueError: if the folder holds another run.
    """
    folder.check_folder(options.out, described)
    try:
        report = json.loads((options.out / "result.json").read_text())
    except (OSError, ValueError):
        return False
    weights = options.out / "model.safetensors"
    if report.get("fp16") != options.fp16 or not weights.exists():
        return False
    if is_main_process():
        show(options, report)
    return True


def finish(
    options: Namespace,
    model: LatentCodec | LatentDiffusion | SceneNet,
    report: dict[str, Any],
) -> None:
    """Save the weights, write ``result.json`` and say what came out."""
    model.save(options.out, torch.float16 if options.fp16 else None)
    report["fp16"] = options.fp16
    write_record(options.out / "result.json", report)
    show(options, report)


def record(
    recipe: VAERecipe | LDMRecipe | SceneRecipe, module: nn.Module, log: list[Log]
) -> dict:
    """Who made these weights: recipe, versions, device and time, for a result file."""
    last = log[-1] if log else {}
    return {
        "recipe": asdict(recipe),
        "seed": recipe.train.seed,
        "steps": recipe.train.steps,
        "images_seen": recipe.train.steps * recipe.train.batch_size,
        "parameters": count_parameters(module),
        "seconds": last.get("seconds"),
        "final": {k: v for k, v in last.items() if k not in ("seconds", "step")},
    } | environment()
