"""The commands that train."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import Any, cast

import torch
from jsonargparse import Namespace
from torch import nn

from ldm_tutorial import evaluation
from ldm_tutorial.cli.checks import check_writable, read_model
from ldm_tutorial.cli.judging import show
from ldm_tutorial.cli.options import recipe_options
from ldm_tutorial.cli.pictures import write_grid
from ldm_tutorial.cli.progress import counting, judging_bar
from ldm_tutorial.codec import LatentCodec
from ldm_tutorial.cost.efficiency import count_parameters
from ldm_tutorial.data import Images, whole
from ldm_tutorial.data.card import card, is_folder
from ldm_tutorial.data.folder import digests
from ldm_tutorial.disk import get, read_json
from ldm_tutorial.evaluation.batched import draw, each_class
from ldm_tutorial.landscapes.dataset import Landscapes
from ldm_tutorial.landscapes.scenenet import SceneNet, accuracy
from ldm_tutorial.limits import check_batch
from ldm_tutorial.machine import best_device, computes_bf16, environment
from ldm_tutorial.noise import generators
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.records import fingerprint, write_record
from ldm_tutorial.storage import load_model
from ldm_tutorial.text import printable
from ldm_tutorial.training import fit, folder, recipes
from ldm_tutorial.training.board import Board, tensorboard
from ldm_tutorial.training.config import Log
from ldm_tutorial.training.lock import locked
from ldm_tutorial.training.loop import is_main_process
from ldm_tutorial.training.recipes import LDMRecipe, SceneRecipe, VAERecipe
from ldm_tutorial.vae import AutoencoderKL

VALIDATED = 256  # held-out images that the validation loss is a mean over


@contextmanager
def training_bar(
    options: Namespace,
    steps: int,
    board: Board | None = None,
    images: dict[str, str] | None = None,
) -> Iterator[dict[str, Any]]:
    """Callbacks for the training loop that draw a progress bar on stderr, feed
    TensorBoard and note the ``images``. Afterwards ``options.cpu_seconds`` is the time
    of all cores that this process has used, or None for a run that went on."""
    from tqdm.auto import tqdm

    bars, began = [], []

    def on_start(step: int) -> None:
        began.append(step)
        silent = not is_main_process()
        if images and not silent:
            folder.keep_images(options.out, images)
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
        whole = began == [0]
        options.cpu_seconds = round(time.process_time(), 1) if whole else None
        for bar in bars:
            bar.close()


def in_its_folder(train: Callable[[Namespace], None]) -> Callable[[Namespace], None]:
    """Let no other process train in the folder meanwhile."""

    @wraps(train)
    def alone(options: Namespace) -> None:
        check_writable(options.out)
        with locked(options.out, is_main_process()):
            train(options)

    return alone


@in_its_folder
def train_vae(options: Namespace) -> None:
    recipe = recipes.VAERecipe(**recipe_options(options))
    if finished(options, folder.settings(recipe)):
        return
    images = introduce(recipe, options.out)
    board = board_of(options)
    shown = watching(options, recipe, reconstructions, board)
    with training_bar(options, recipe.train.steps, board, images) as callbacks:
        codec, log = fit.train_vae(recipe, options.out, **callbacks, **shown)
    if is_main_process():
        report = record(recipe, codec.vae, log)
        n = 1000 if recipe.train.steps > 100 else 64
        with judging_bar() as progress:
            quality = evaluation.evaluate_codec(codec, recipe, n, progress=progress)
        report |= {"reconstruction": quality}
        finish(options, codec, report)


@in_its_folder
def train_scenenet(options: Namespace) -> None:
    recipe = recipes.SceneRecipe(**recipe_options(options))
    if recipe.flip:
        raise ValueError("--flip: a landscape's factors have sides; leave it out")
    if finished(options, folder.settings(recipe)):
        return
    with training_bar(options, recipe.train.steps, board_of(options)) as callbacks:
        net, log = fit.train_scenenet(recipe, options.out, **callbacks)
    if is_main_process():
        report = record(recipe, net, log)
        n = 1000 if recipe.train.steps > 100 else 64
        test = cast(Landscapes, recipe.load("test", n))
        report |= {"accuracy": accuracy(net, test)}
        finish(options, net, report)


@in_its_folder
def train_ldm(options: Namespace) -> None:
    recipe = recipes.LDMRecipe(**recipe_options(options, "vae"))
    codec: fit.Codec = fit.PixelCodec(recipe.channels)
    if options.vae != "none":
        codec = read_model(LatentCodec, options.vae)
    if finished(options, folder.settings(recipe, codec)):
        return
    images = introduce(recipe, options.out)
    board = board_of(options)
    shown = watching(options, recipe, samples, board)
    with training_bar(options, recipe.train.steps, board, images) as callbacks:
        model, log = fit.train_ldm(recipe, codec, options.out, **callbacks, **shown)
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


def introduce(recipe: VAERecipe | LDMRecipe, out: Path) -> dict[str, str]:
    """Look at the images, and say what was found, and what has changed since the run
    was begun; complain now about what would be missed at the end.

    Returns:
        Digests of the images of a folder, by name, as far as they are known.
    """
    check_batch(recipes.numbers_at_once(recipe))
    recipe.load("test")
    images: dict[str, str] = {}
    if not is_main_process():
        return images
    if not is_folder(recipe):
        n = len(recipe.load("train", recipe.length)) * (1 + recipe.flip)
    else:
        with counting("looking at images") as progress:
            found = card(recipe, progress)
        n = found.used * (1 + recipe.flip)
        if found.bad:  # the training names them
            return images
        print(found.line(), file=sys.stderr)
        if found.decoded:  # of others there are no digests, and a million to load
            images = digests(recipe.load("train", recipe.length))
        for change in folder.what_changed(out, folder.settings(recipe), n, images):
            print(f"since this run was begun: {printable(change)}", file=sys.stderr)
    if recipe.train.precision == "bf16" and not computes_bf16(best_device()):
        print(
            "this CPU has no instructions for bf16: it computes in float32, which is "
            "much faster here",
            file=sys.stderr,
        )
    if n < recipe.train.batch_size:
        print(
            f"batch_size={recipe.train.batch_size} is more than the {n} images to "
            "train on: every batch repeats them",
            file=sys.stderr,
        )
    return images


def board_of(options: Namespace) -> Board | None:
    """What feeds TensorBoard, where it was asked for."""
    return tensorboard(options.out) if options.tensorboard else None


def watching(
    options: Namespace,
    recipe: VAERecipe | LDMRecipe,
    pictures: Callable[..., None],
    board: Board | None = None,
) -> dict[str, Any]:
    """What a training is watched by: a validation loss, where images are held out that
    are no endless landscapes, and pictures, where they are asked for, also on the
    ``board``."""
    if options.samples_every < 0:
        raise ValueError(f"--samples_every {options.samples_every}: give 0 or more")
    watched: dict[str, Any] = {}
    held_out = recipe.load("validation", VALIDATED)
    if recipe.data != "landscapes" and getattr(held_out, "held_out", True):
        watched["validate"] = held_out
    if options.samples_every:

        def show(model: Any, step: int) -> None:
            out = options.out / "samples" / f"step-{step:06}.png"
            pictures(model, held_out, out)
            if board:
                board.picture(out, step)

        watched |= {"show": show, "show_every": options.samples_every}
    return watched


def reconstructions(vae: AutoencoderKL, held_out: Images, out: Path) -> None:
    """Eight held-out images above what the autoencoder makes of them."""
    x = whole(held_out, 8)[0]
    device = next(vae.parameters()).device
    rows = [vae.decode(vae.encode(part.to(device)).mu).cpu() for part in x.split(2)]
    write_grid(torch.cat([x, *rows]).clamp(-1, 1), out, columns=len(x))


def samples(model: LatentDiffusion, _: Images, out: Path) -> None:
    """Sixteen samples, always from the same noise, with the names of their classes."""
    y = each_class(model, 16)
    x = draw(model, y, 20, 1.0, generators(0, 16))
    several = len(model.classes) > 1
    write_grid(x, out, [model.classes[i] for i in y] if several else None)


def finished(options: Namespace, described: dict[str, Any]) -> bool:
    """Whether this very run is done; if so, say what came out of it.

    Raises:
        ValueError: if the folder holds another run.

    What is missing or damaged is made again, from the checkpoint.
    """
    folder.check_folder(options.out, described)
    try:
        report = read_json(options.out / "result.json")
    except (OSError, ValueError):
        return False
    known = report.get("digest") in (None, fingerprint(report))
    asked = {"fp16": options.fp16, "steps": options.train.steps}
    if not known or asked != {name: report.get(name) for name in asked}:
        return False
    try:
        kind = get(read_json(options.out / "config.json"), "kind", str, "config.json")
        load_model(options.out, kind)
    except (OSError, ValueError):
        if is_main_process():
            print(
                f"{options.out}: the finished model is damaged, or a part is missing; "
                "its checkpoint gives it once more",
                file=sys.stderr,
            )
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
    report |= {"fp16": options.fp16, "cpu_seconds": options.cpu_seconds}
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
