"""The command line ``ldm-tutorial``. Bad input ends in one line and exit status 2."""

import argparse
import json
import os
import re
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from jsonargparse import ArgumentParser, Namespace
from torch import Tensor

from ldm_tutorial import evaluation, recipes, studies
from ldm_tutorial.against import against
from ldm_tutorial.benchmark import benchmark as run_benchmark
from ldm_tutorial.benchmark import figure, tables
from ldm_tutorial.codec import LatentCodec
from ldm_tutorial.gaussian import generators
from ldm_tutorial.peers import PEERS, check_installed, versions
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.race import race
from ldm_tutorial.samplers import SAMPLERS
from ldm_tutorial.scenenet import SceneNet, accuracy
from ldm_tutorial.spaces import SPACES
from ldm_tutorial.storage import (
    config_to_dict,
    find_model,
    to_bytes,
    write_record,
)
from ldm_tutorial.training import Log, is_main_process, tensorboard

REAL = "real"  # stands for a model whose samples are held-out images
PICTURES = (".png", ".jpg", ".jpeg", ".webp")


class OneLineParser(ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        fail(plain(message))


def plain(message: str) -> str:
    """A message of jsonargparse with options and types as a user writes them."""
    message = re.sub(r"required: [\w-]+\.", "required: --", message)
    message = re.sub(r'Parser key "(\w)":', r"-\1:", message)
    message = re.sub(r'Parser key "([\w.]+)":', r"--\1:", message)
    return re.sub(r"<class '(\w+)'>|typing\.(?=Literal)", r"\1", message)


def fail(message: object, status: int = 2) -> NoReturn:
    print(f"ldm-tutorial: error: {' '.join(str(message).split())}", file=sys.stderr)
    raise SystemExit(status)


def main(arguments: list[str] | None = None) -> None:
    """Run one command; see ``ldm-tutorial --help``."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        parser, commands = build_parser(*first_look(arguments))
        options = parser.parse_args(arguments)
        function, subparser = commands[options.command]
        function(subparser.instantiate(options[options.command]))
    except (ValueError, OSError) as error:
        fail(in_words(error))
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error).lower():
            raise
        fail("out of memory; take a smaller batch, smaller images or fewer of them")
    except KeyboardInterrupt:
        trains = bool(arguments) and arguments[0] in PRESETS
        again = "; the same command again goes on from the last checkpoint"
        fail("stopped" + again * trains, status=130)


def in_words(error: Exception) -> str:
    """What the system complains about, without numbers and brackets."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"cannot open or write {error.filename}: {error.strerror.lower()}"
    return str(error)


def first_look(arguments: list[str]) -> tuple[str, bool]:
    """The preset, and whether ``--vae none``: they decide the defaults of all other
    options, so they are read first."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", nargs="?")
    first.add_argument("--vae", nargs="?")
    found = first.parse_known_args(arguments)[0]
    return found.preset or "cpu", found.vae == "none"


def build_parser(preset: str, pixels: bool):
    """The parser, and for each command its function and its own parser."""
    parser = OneLineParser(
        prog="ldm-tutorial",
        description="Train, sample and judge latent diffusion models.",
    )
    commands = parser.add_subcommands(dest="command")
    made = {}
    for name, (function, add_options, config, text) in COMMANDS.items():
        sub = OneLineParser(description=text)
        add_options(sub)
        if config:
            sub.add_class_arguments(config, skip={"download"})
            download_option(sub)
        presets = PRESETS.get(name, {})
        if name == "train-ldm" and pixels:
            presets = recipes.PIXEL_PRESETS
        if preset in presets:
            sub.set_defaults(config_to_dict(presets[preset]))
        commands.add_subcommand(name, sub, help=text)
        made[name] = (function, sub)
    return parser, made


def download_option(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--download",
        action="store_true",
        help="fetch a named data set, or a trunk for LPIPS, that is not on disk",
    )


def train_options(
    parser: ArgumentParser, presets: dict[str, Any] = recipes.VAE_PRESETS
) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder for weights, log and checkpoint; the same command again resumes",
    )
    parser.add_argument(
        "--fp16", action="store_true", help="save the final weights as float16"
    )
    parser.add_argument(
        "--tensorboard",
        action="store_true",
        help="write the log for TensorBoard as well, to OUT/tensorboard",
    )
    parser.add_argument(
        "--preset",
        choices=list(presets),
        default="cpu",
        help="where the defaults of all other options come from",
    )


def scene_options(parser: ArgumentParser) -> None:
    train_options(parser, recipes.SCENE_PRESETS)


def ldm_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--vae",
        default="vae-f8",
        help="folder of an autoencoder, vae-f8 (shipped), or none for pixel space",
    )
    train_options(parser, recipes.LDM_PRESETS)


def sampling_options(parser: ArgumentParser, n: int, text: str) -> None:
    parser.add_argument("-n", type=int, default=n, help=text)
    parser.add_argument("--steps", type=int, default=50, help="denoiser calls")
    parser.add_argument(
        "--guidance_scale",
        type=float,
        default=1.0,
        help="1 is the plain model, more exaggerates the class",
    )
    parser.add_argument("--sampler", choices=list(SAMPLERS), default="ddim")
    parser.add_argument(
        "--eta", type=float, default=0.0, help="noise of DDIM's steps, 0 to 1"
    )
    parser.add_argument(
        "--guidance_rescale",
        type=float,
        default=0.0,
        help="0 to 1: keeps contrast in check at large guidance scales",
    )
    parser.add_argument("--seed", type=int, default=0)


def sampling(options: Namespace) -> dict[str, Any]:
    """Those options as arguments of ``LatentDiffusion.sample``."""
    names = ("steps", "sampler", "eta", "guidance_scale", "guidance_rescale")
    return {name: getattr(options, name) for name in names}


def sample_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--model", default="ldm-f8", help="folder of a model, or ldm-f8 (shipped)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("grid.png"), help="the picture to write"
    )
    parser.add_argument("--label", type=str, help="class, as number or name")
    sampling_options(parser, 16, "number of images")


def evaluate_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        default="ldm-f8",
        help="folder of a diffusion model or of an autoencoder, a shipped name, or "
        "real: held-out images in place of samples, for the floors",
    )
    parser.add_argument(
        "--data", type=str, help="data set or folder; by default what it was trained on"
    )
    parser.add_argument(
        "--size", type=int, help="side of the images; by default as in training"
    )
    download_option(parser)
    parser.add_argument(
        "--features",
        choices=list(evaluation.FEATURES),
        help="what sets of images are compared by; by default what fits the data",
    )
    sampling_options(parser, 512, "images to judge by")
    parser.add_argument("--json", action="store_true", help="print JSON")


def data_options(parser: ArgumentParser) -> None:
    parser.add_argument("-n", type=int, default=64, help="images in the picture")
    parser.add_argument(
        "--split", choices=["train", "validation", "test"], default="train"
    )
    parser.add_argument("--out", type=Path, help="write a grid of images here")


def benchmark_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--spaces",
        default=",".join(SPACES),
        help="what to diffuse in, with commas between; none to leave this part out",
    )
    parser.add_argument("--size", type=int, default=64, help="side of the images")
    parser.add_argument("-n", type=int, default=16, help="images in a batch")
    parser.add_argument("--repeats", type=int, default=5, help="of every measurement")
    parser.add_argument(
        "--against",
        default="",
        help="other libraries to do the same work: " + ",".join(PEERS),
    )
    parser.add_argument(
        "--race",
        type=float,
        default=0.0,
        help="with --against diffusers: seconds that each of twelve trainings gets",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--out", type=Path, help="folder for benchmark.json and benchmark.png"
    )


def reproduce_options(parser: ArgumentParser) -> None:
    parser.add_argument("name", choices=list(studies.STUDIES), help="which study")
    parser.add_argument(
        "--scale",
        choices=list(studies.SCALES),
        default="cpu",
        help="smoke shows that it works, cpu and gpu are for the record",
    )
    parser.add_argument(
        "--out", type=Path, help="its trainings; by default runs/studies/NAME-SCALE"
    )
    parser.add_argument(
        "--results",
        type=Path,
        help="folder of the record; by default data/results, for smoke that of --out",
    )
    parser.add_argument("--arms", nargs="*", default=[], help="only these")


def without(options: Namespace, *names: str) -> dict[str, Any]:
    return {k: v for k, v in vars(options).items() if k not in names}


def recipe_options(options: Namespace, *names: str) -> dict[str, Any]:
    """The options of a training that are fields of its recipe."""
    return without(options, "preset", "out", "fp16", "tensorboard", *names)


# --- checks that come before the work -------------------------------------------------


def check_writable(folder: Path) -> None:
    """Raise a ValueError if a folder could not be made or written in."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise ValueError(f"cannot write to {folder}: {place} is a file; change --out")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ValueError(f"cannot write to {folder}: no permission; change --out")


def check_picture(out: Path) -> None:
    """Raise a ValueError if no picture can be written under this name."""
    if out.suffix.lower() not in PICTURES or out.is_dir():
        raise ValueError(
            f"cannot write a picture to {out}; give a file name that ends in "
            + ", ".join(PICTURES)
        )
    check_writable(out.parent)


def check_number(n: int, least: int, what: str) -> None:
    if n < least:
        raise ValueError(f"-n {n}: give a number of {what} from {least} on")


def check_seed(seed: int) -> None:
    if not 0 <= seed < 2**63:
        raise ValueError(f"--seed {seed}: give 0 or more, below 2**63")


def read_model(cls: type, name: str) -> Any:
    """A model from a folder or by a shipped name, on the best device.

    Raises:
        ValueError: if its files do not fit each other.
    """
    try:
        return cls.load(name).to(recipes.best_device())
    except (KeyError, TypeError, AttributeError, RuntimeError):
        raise ValueError(
            f"the model in {find_model(name)} is damaged: its config.json and "
            "model.safetensors do not fit; save or copy it again"
        ) from None


def kind_of(name: str) -> str | None:
    """What ``config.json`` says that a folder holds."""
    path = find_model(name) / "config.json"
    try:
        return json.loads(path.read_text())["kind"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is damaged; save or copy the model again") from None


# --- the commands ---------------------------------------------------------------------


@contextmanager
def progress(options: Namespace, steps: int) -> Iterator[dict[str, Any]]:
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
    if finished(options, recipes.settings(recipe)):
        return
    recipe.load("test")  # complains now about what it would miss at the end
    with progress(options, recipe.train.steps) as callbacks:
        codec, log = recipes.train_vae(recipe, options.out, **callbacks)
    if is_main_process():
        report = recipes.record(recipe, codec.vae, log)
        n = 1000 if recipe.train.steps > 100 else 64
        report |= {"reconstruction": evaluation.evaluate_codec(codec, recipe, n)}
        finish(options, codec, report)


def train_scenenet(options: Namespace) -> None:
    recipe = recipes.SceneRecipe(**recipe_options(options))
    check_writable(options.out)
    if finished(options, recipes.settings(recipe)):
        return
    with progress(options, recipe.train.steps) as callbacks:
        net, log = recipes.train_scenenet(recipe, options.out, **callbacks)
    if is_main_process():
        report = recipes.record(recipe, net, log)
        n = 1000 if recipe.train.steps > 100 else 64
        report |= {"accuracy": accuracy(net, recipe.load("test", n))}
        finish(options, net, report)


def train_ldm(options: Namespace) -> None:
    recipe = recipes.LDMRecipe(**recipe_options(options, "vae"))
    check_writable(options.out)
    codec: recipes.Codec = recipes.PixelCodec()
    if options.vae != "none":
        codec = read_model(LatentCodec, options.vae)
    if finished(options, recipes.settings(recipe, codec)):
        return
    recipe.load("test")
    with progress(options, recipe.train.steps) as callbacks:
        model, log = recipes.train_ldm(recipe, codec, options.out, **callbacks)
    if is_main_process():
        report = recipes.record(recipe, model.unet, log)
        if recipe.train.steps > 100:
            n = 2000 if recipe.train.steps > 1000 else 512
            quality = evaluation.evaluate_samples(model, recipe, n, factors=n > 512)
            report |= {"samples": quality}
        finish(options, model, report)


def finished(options: Namespace, described: dict[str, Any]) -> bool:
    """Whether this very run is done; if so, say what came out of it.

    Raises:
        ValueError: if the folder holds another run.
    """
    recipes.check_folder(options.out, described)
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


def show(options: Namespace, report: dict[str, Any]) -> None:
    """The numbers of a training as a line of JSON, and where the weights are."""
    kinds = ("reconstruction", "samples", "accuracy", "final")
    numbers = next(report[kind] for kind in kinds if kind in report)
    print(json.dumps(numbers))
    print(f"saved {options.out}")


def sample(options: Namespace) -> None:
    check_number(options.n, 1, "images")
    check_seed(options.seed)
    check_picture(options.out)
    model = read_model(LatentDiffusion, options.model)
    label = options.label
    if label is not None and label not in model.classes and is_integer(label):
        label = int(label)
    x = model.sample(
        options.n,
        y=label,
        generator=generators(options.seed, options.n),
        **sampling(options),
    )
    write_grid(x, options.out)


def is_integer(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def write_grid(x: Tensor, out: Path) -> None:
    """Write images (B, 3, H, W) as one nearly square picture, lined in black."""
    from PIL import Image

    columns = max(1, round(len(x) ** 0.5))
    rows = -(-len(x) // columns)
    x = F.pad(x.cpu(), (1, 1, 1, 1), value=-1.0)
    B, C, H, W = x.shape
    x = torch.cat([x, x.new_full((rows * columns - B, C, H, W), -1.0)])
    x = x.view(rows, columns, C, H, W).permute(0, 3, 1, 4, 2)
    x = x.reshape(rows * H, columns * W, C)
    out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(to_bytes(x).numpy()).save(out)
    print(f"wrote {out}: {B} images")


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


def judge_model(options: Namespace) -> tuple[recipes.DataConfig, dict[str, Any]]:
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


def judge_real(options: Namespace) -> tuple[recipes.DataConfig, dict[str, Any]]:
    """Real images in place of samples: what a perfect model would get."""
    where = recipes.DataConfig(
        options.data or "landscapes", options.size or 64, download=options.download
    )
    x, y = recipes.whole(where.load("validation", options.n), options.n)
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


def data_for(options: Namespace, image_size: int | None) -> recipes.DataConfig:
    """What to judge a model by: what was asked for, else what it was trained on.

    Raises:
        ValueError: if a diffusion model is asked for images of another size.
    """
    recipe = recipes.trained_on(options.model)
    if image_size and options.size not in (None, image_size):
        raise ValueError(
            f"--size {options.size}: this model makes images of {image_size}; leave "
            "--size out"
        )
    return recipes.DataConfig(
        data=options.data or recipe.get("data", "landscapes"),
        size=options.size or image_size or recipe.get("size", 64),
        download=options.download,
    )


def data(options: Namespace) -> None:
    check_number(options.n, 1, "images")
    if options.out:
        check_picture(options.out)
    config = recipes.DataConfig(**without(options, "n", "split", "out"))
    dataset = config.load(options.split, config.length)
    start = time.perf_counter()
    x, _ = recipes.whole(dataset, max(1024, options.n))
    rate = len(x) / (time.perf_counter() - start)
    print(
        f"{config.data}, {options.split}: {len(dataset)} images of "
        f"{config.size}x{config.size} in {len(dataset.classes)} classes; "
        f"made at {rate:.0f} images/s"
    )
    if options.out:
        write_grid(x[: options.n], options.out)


def benchmark(options: Namespace) -> None:
    check_number(options.n, 1, "images")
    if options.repeats < 1:
        raise ValueError(f"--repeats {options.repeats}: give 1 or more")
    recipes.DataConfig(size=options.size).load("test")  # complains about a wrong size
    spaces = options.spaces.split(",") if options.spaces != "none" else []
    peers = options.against.split(",") if options.against else []
    check_installed(peers)
    if not 0 <= options.race < float("inf"):
        raise ValueError(f"--race {options.race}: give a number of seconds")
    if options.race and "diffusers" not in peers:
        raise ValueError("--race needs --against diffusers")
    if not spaces and not peers:
        raise ValueError("--spaces none leaves nothing to measure; give --against")
    if options.out:
        check_writable(options.out)
    report: dict[str, Any] = {"command": shlex.join(["ldm-tutorial", *sys.argv[1:]])}
    report |= recipes.environment()
    report |= {"size": options.size, "batch_size": options.n}
    report |= {"repeats": options.repeats}
    if spaces:
        sizes = (options.size, options.n, options.repeats)
        report["spaces"] = run_benchmark(spaces, *sizes)
    if peers:
        report |= {"versions": versions(peers)}
        report["against"] = against(peers, options.repeats)
    if options.race:
        report["race"] = race(options.race)
    if options.out:
        write_record(options.out / "benchmark.json", report)
        figure(report, options.out / "benchmark.png")
    shown = [json.dumps(report, indent=2)] if options.json else tables(report)
    print("\n".join(shown))


def reproduce(options: Namespace) -> None:
    for folder in (options.out, options.results):
        if folder:
            check_writable(folder)

    def on_arm(arm: str, row: dict[str, Any]) -> None:
        print(f"{options.name}: {arm} is done", flush=True)

    path = studies.reproduce(
        options.name, options.scale, options.out, options.results, options.arms, on_arm
    )
    print(f"wrote {path}" if path else "other arms are not done yet: no record written")


PRESETS = {
    "train-vae": recipes.VAE_PRESETS,
    "train-ldm": recipes.LDM_PRESETS,
    "train-scenenet": recipes.SCENE_PRESETS,
}

# name: function, what adds its own options, dataclass of further options, help
COMMANDS = {
    "train-vae": (train_vae, train_options, recipes.VAERecipe, "train an autoencoder"),
    "train-ldm": (train_ldm, ldm_options, recipes.LDMRecipe, "train a diffusion model"),
    "train-scenenet": (
        train_scenenet,
        scene_options,
        recipes.SceneRecipe,
        "train a network that names what a landscape shows",
    ),
    "sample": (sample, sample_options, None, "draw images from a model"),
    "evaluate": (evaluate, evaluate_options, None, "judge reconstructions and samples"),
    "benchmark": (
        benchmark,
        benchmark_options,
        None,
        "measure what latent and pixel diffusion cost",
    ),
    "reproduce": (
        reproduce,
        reproduce_options,
        None,
        "run a study of the book again and record it",
    ),
    "data": (
        data,
        data_options,
        recipes.DataConfig,
        "show a data set and how fast it is made",
    ),
}


if __name__ == "__main__":
    main()
