"""The command line ``ldm-tutorial``. Bad input ends in one line and exit status 2."""

import argparse
import json
import sys
import time
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from ldm_tutorial import recipes

PRESETS = {"train-vae": recipes.VAE_PRESETS, "train-ldm": recipes.LDM_PRESETS}


class OneLineParser(ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str, ex: Exception | None = None):
        fail(message)


def fail(message: object) -> None:
    print(f"ldm-tutorial: error: {' '.join(str(message).split())}", file=sys.stderr)
    raise SystemExit(2)


def main(arguments: list[str] | None = None) -> None:
    """Run one command; see ``ldm-tutorial --help``."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser, commands = build_parser(chosen_preset(arguments))
    options = parser.parse_args(arguments)
    run, subparser = commands[options.command]
    try:
        run(subparser.instantiate(options[options.command]))
    except (ValueError, OSError) as error:
        fail(error)
    except KeyboardInterrupt:
        fail("stopped; the same command again goes on from the last checkpoint")


def chosen_preset(arguments: list[str]) -> str:
    """The preset decides the defaults of all other options, so it is read first."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", nargs="?")
    return first.parse_known_args(arguments)[0].preset or "cpu"


def build_parser(preset: str):
    """The parser, and for each command its function and its own parser."""
    parser = OneLineParser(
        prog="ldm-tutorial",
        description="Train, sample and judge latent diffusion models.",
    )
    commands = parser.add_subcommands(dest="command")
    table = {
        "train-vae": (train_vae, recipes.VAERecipe, "train an autoencoder"),
        "train-ldm": (train_ldm, recipes.LDMRecipe, "train a diffusion model"),
        "sample": (sample, None, "draw images from a model"),
        "evaluate": (evaluate, None, "judge reconstructions and samples"),
        "data": (data, recipes.DataConfig, "show a data set and how fast it is made"),
    }
    made = {}
    for name, (function, config, text) in table.items():
        sub = OneLineParser(description=text)
        OPTIONS[name](sub)
        if name in PRESETS:
            sub.add_argument(
                "--preset",
                choices=list(PRESETS[name]),
                default="cpu",
                help="where the defaults of all other options come from",
            )
        if config:
            sub.add_class_arguments(config)
        if preset in PRESETS.get(name, {}):
            sub.set_defaults(as_defaults(PRESETS[name][preset]))
        commands.add_subcommand(name, sub, help=text)
        made[name] = (function, sub)
    return parser, made


def as_defaults(recipe) -> dict:
    return json.loads(json.dumps(recipes.asdict(recipe)))


def out_option(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder for weights, log and checkpoint; the same command again resumes",
    )
    parser.add_argument(
        "--fp16", action="store_true", help="save the final weights as float16"
    )


def ldm_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--vae",
        default="vae-f8",
        help="folder of an autoencoder, vae-f8 (shipped), or none for pixel space",
    )
    out_option(parser)


def sample_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--model", default="ldm-f8", help="folder of a model, or ldm-f8 (shipped)"
    )
    parser.add_argument("-n", type=int, default=16, help="number of images")
    parser.add_argument("--out", type=Path, default=Path("grid.png"))
    parser.add_argument("--label", type=str, help="class, as number or name")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--sampler", choices=["ddim", "ddpm"], default="ddim")
    parser.add_argument("--guidance_scale", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)


def evaluate_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        default="ldm-f8",
        help="folder of a diffusion model or of an autoencoder, or a shipped name",
    )
    parser.add_argument("--data", default="landscapes", help="data set or folder")
    parser.add_argument("-n", type=int, default=512, help="images to judge by")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--guidance_scale", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print JSON")


def data_options(parser: ArgumentParser) -> None:
    parser.add_argument("-n", type=int, default=64, help="images in the picture")
    parser.add_argument("--split", choices=["train", "validation", "test"],
                        default="train")
    parser.add_argument("--out", type=Path, help="write a grid of images here")


OPTIONS = {
    "train-vae": out_option,
    "train-ldm": ldm_options,
    "sample": sample_options,
    "evaluate": evaluate_options,
    "data": data_options,
}


def without(options: Namespace, *names: str) -> dict:
    return {k: v for k, v in vars(options).items() if k not in names}


def progress(steps: int):
    """A callback for the training loop that draws a progress bar."""
    from tqdm.auto import tqdm

    bar = tqdm(total=steps, unit="step")

    def on_log(line: dict) -> None:
        bar.update(line["step"] - bar.n)
        shown = {k: v for k, v in line.items() if k not in ("step", "seconds")}
        bar.set_postfix({k: f"{v:.4g}" for k, v in shown.items()})

    return on_log


def train_vae(options: Namespace) -> None:
    recipe = recipes.VAERecipe(**without(options, "preset", "out", "fp16"))
    on_log = progress(recipe.train.steps)
    codec, log = recipes.train_vae(recipe, options.out, on_log)
    report = recipes.record(recipe, codec.vae, log)
    report |= {"reconstruction": recipes.evaluate_codec(codec, recipe)}
    finish(options, codec, report)


def train_ldm(options: Namespace) -> None:
    from ldm_tutorial.codec import LatentCodec

    recipe = recipes.LDMRecipe(**without(options, "preset", "out", "fp16", "vae"))
    codec = None if options.vae == "none" else LatentCodec.load(options.vae)
    on_log = progress(recipe.train.steps)
    model, log = recipes.train_ldm(recipe, codec, options.out, on_log)
    report = recipes.record(recipe, model.unet, log)
    if recipe.train.steps > 100:
        report |= {"samples": recipes.evaluate_samples(model, recipe)}
    finish(options, model, report)


def finish(options: Namespace, model, report: dict) -> None:
    """Save the weights, write ``result.json`` and say what came out."""
    import torch

    model.save(options.out, torch.float16 if options.fp16 else None)
    recipes.write_json(options.out / "result.json", report)
    numbers = report.get("reconstruction") or report.get("samples") or report["final"]
    print(json.dumps(numbers))
    print(f"saved {options.out}")


def sample(options: Namespace) -> None:
    import torch
    from torchvision.utils import save_image

    from ldm_tutorial.pipeline import LatentDiffusion

    if options.n < 1:
        raise ValueError(f"-n {options.n}: give a number of images from 1 on")
    model = LatentDiffusion.load(options.model).to(recipes.best_device())
    label = options.label
    if label is not None and label.lstrip("-").isdigit():
        label = int(label)
    x = model.sample(
        options.n,
        y=label,
        steps=options.steps,
        sampler=options.sampler,
        guidance_scale=options.guidance_scale,
        generator=torch.Generator(model.device).manual_seed(options.seed),
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    save_image((x + 1) / 2, options.out, nrow=max(1, round(options.n**0.5)))
    print(f"wrote {options.out}: {options.n} images")


def evaluate(options: Namespace) -> None:
    from ldm_tutorial.codec import LatentCodec
    from ldm_tutorial.pipeline import LatentDiffusion
    from ldm_tutorial.storage import find_model

    if options.n < 2:
        raise ValueError(f"-n {options.n}: give at least 2 images to judge by")
    kind = json.loads((find_model(options.model) / "config.json").read_text())["kind"]
    report: dict = {"model": options.model, "data": options.data}
    if kind == "LatentCodec":
        codec = LatentCodec.load(options.model).to(recipes.best_device())
        where = recipes.DataConfig(options.data)
    else:
        model = LatentDiffusion.load(options.model).to(recipes.best_device())
        codec, where = model.codec, recipes.DataConfig(options.data, model.image_size)
    report["reconstruction"] = recipes.evaluate_codec(codec, where, options.n)
    if kind != "LatentCodec":
        report["samples"] = recipes.evaluate_samples(
            model, where, options.n, options.steps, options.guidance_scale, options.seed
        )
    if options.json:
        print(json.dumps(report, indent=2))
        return
    for part in ("reconstruction", "samples"):
        for name, value in report.get(part, {}).items():
            print(f"{part:15}{name:22}{value:10.4g}")


def data(options: Namespace) -> None:
    from torchvision.utils import save_image

    config = recipes.DataConfig(**without(options, "n", "split", "out"))
    dataset = config.load(options.split, config.length)
    n = min(len(dataset), max(options.n, 1))
    start = time.perf_counter()
    x, _ = recipes.whole(dataset, min(len(dataset), max(1024, n)))
    rate = len(x) / (time.perf_counter() - start)
    print(
        f"{config.data}, {options.split}: {len(dataset)} images of "
        f"{config.size}x{config.size} in {len(dataset.classes)} classes; "
        f"made at {rate:.0f} images/s"
    )
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        save_image((x[:n] + 1) / 2, options.out, nrow=max(1, round(n**0.5)))
        print(f"wrote {options.out}: {n} images")


if __name__ == "__main__":
    main()
