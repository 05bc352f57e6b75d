"""What the studies of the book share: their scales, what an arm is, how one is run.

``reproduce.py`` lists the studies themselves.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ldm_tutorial.codec import Codec, LatentCodec
from ldm_tutorial.cost.efficiency import count_parameters
from ldm_tutorial.data import DataConfig, whole
from ldm_tutorial.disk import get, read_json, write_json
from ldm_tutorial.evaluation.batched import draw, through
from ldm_tutorial.evaluation.reports import evaluate_codec
from ldm_tutorial.evaluation.samples import evaluate_samples
from ldm_tutorial.machine import environment
from ldm_tutorial.pipeline import KINDS, LatentDiffusion
from ldm_tutorial.records import Row, write_pictures
from ldm_tutorial.training.config import Log, TrainConfig
from ldm_tutorial.training.fit import train_ldm, train_vae
from ldm_tutorial.training.folder import read_log, refuse_other
from ldm_tutorial.training.lock import locked
from ldm_tutorial.training.losses import VAELossConfig
from ldm_tutorial.training.recipes import LDMRecipe, VAERecipe
from ldm_tutorial.unet import UNetConfig
from ldm_tutorial.vae import VAEConfig

SPLITS = ("test", "validation")  # the real images, and others that set the reference

LOOKS = 4  # how often sample quality is looked at

DATA = DataConfig()
SHOWN = 6  # images in each strip of pictures


@dataclass(frozen=True)
class Scale:
    """How much every arm of a study trains, and by how much it is judged.

    Attributes:
        vae, ldm: the trainings.
        channels: widths of the autoencoders.
        unet: widths of the UNet.
        images, latents: training images of the autoencoder and the diffusion model.
        judged: held-out images that are reconstructed.
        samples, steps: images drawn from the diffusion model, and in how many steps.
        nfe: function evaluations that the compared samplers get, and ...
        ancestral_nfe: ... those that DDPM gets once more.
        seeds: how many seeds the headline pairs get.
        seconds: what all trainings together may cost where time is held equal.
        sizes: of how many sizes of images the cost is measured, from 32 pixels up, and
            ...
        repeats: ... how often.
        pictures: how many pictures of one's own the compared models are trained on.
    """

    vae: TrainConfig
    ldm: TrainConfig
    channels: tuple[int, ...] = VAEConfig.channels
    unet: tuple[int, ...] = (64, 96)
    images: int = 50_000
    latents: int = 8000
    judged: int = 500
    samples: int = 512
    steps: int = 25
    nfe: tuple[int, ...] = (5, 10, 15, 20, 50, 100)
    ancestral_nfe: int = 1000
    seeds: int = 3
    seconds: float = 320.0
    sizes: int = 4
    repeats: int = 5
    pictures: tuple[int, ...] = (100, 500, 5000, 20_000)


SCALES = {
    "smoke": Scale(
        vae=TrainConfig(steps=10, batch_size=16, warmup_steps=2, learning_rate=2e-3),
        ldm=TrainConfig(steps=10, batch_size=16, warmup_steps=2),
        channels=(16, 16, 32, 32),
        unet=(32, 32),
        images=256,
        latents=64,
        judged=64,
        samples=64,
        steps=5,
        nfe=(2, 5),
        ancestral_nfe=10,
        seeds=1,
        seconds=4.0,
        sizes=2,
        repeats=1,
        pictures=(16, 32),
    ),
    "cpu": Scale(
        vae=TrainConfig(steps=500, batch_size=32, learning_rate=2e-3, precision="bf16"),
        ldm=TrainConfig(steps=700, batch_size=64, precision="bf16", ema_decay=0.995),
    ),
    "gpu": Scale(
        vae=TrainConfig(steps=15_000, batch_size=128, precision="bf16", num_workers=8),
        ldm=TrainConfig(steps=20_000, batch_size=256, precision="bf16"),
        unet=(128, 192),
        images=500_000,
        latents=100_000,
        judged=2000,
        samples=2000,
        steps=50,
        seconds=1800.0,
        repeats=20,
    ),
}

Pictures = dict[str, Tensor]
Arm = Callable[[Path], tuple[Row, Pictures]]


@dataclass(frozen=True)
class Study:
    """What a study asks, and its arms at a scale.

    Attributes:
        question: what it asks.
        arms: its arms by name; of a study of any data they are called with these too.
        data: what a study of any data takes if nothing is said; None for the others,
            which are about landscapes.
    """

    question: str
    arms: Callable[..., dict[str, Arm]]
    data: str | None = None


def run_arm(run: Arm, folder: Path, described: dict[str, Any]) -> Row:
    """The row of an arm, run now unless it is done already."""
    path = folder / "row.json"
    with locked(folder):
        if path.exists():
            saved = read_row(path)
            refuse_other(folder, saved["scale"], described)
            return saved["row"]
        start = time.perf_counter()
        row, pictures = run(folder)
        elapsed = time.perf_counter() - start
        for name, x in pictures.items():
            write_pictures(folder / f"{name}.png", x)
        trainings = [log.parent for log in folder.glob("*/metrics.jsonl")]
        trained = sum(last_line(training)["seconds"] for training in trainings)
        made = {"seconds": round(trained or elapsed)} | environment()
        write_json(path, {"scale": described, "made": made, "row": row})
        return row


def read_row(path: Path) -> dict[str, Any]:
    """What an arm that is done has left.

    Raises:
        ValueError: if it is damaged, or of another program.
    """
    saved = read_json(path, "remove it to run this arm again")
    for part in ("scale", "made", "row"):
        get(saved, part, dict, str(path))
    return saved


def read_lines(training: Path) -> list[Log]:
    """The log of a training."""
    return read_log(training / "metrics.jsonl")


def last_line(training: Path) -> Log:
    return read_lines(training)[-1]


def trained_vae(recipe: VAERecipe, folder: Path) -> LatentCodec:
    """The autoencoder of a recipe; trained now, or read if that is done."""
    return done(LatentCodec, folder) or train_vae(recipe, folder)[0]


def trained_ldm(
    recipe: LDMRecipe,
    codec: Codec,
    folder: Path,
    **options: Any,
) -> LatentDiffusion:
    """The diffusion model of a recipe; trained now, with ``options`` of ``train_ldm``,
    or read if that is done."""
    kind = getattr(codec, "kind", "")
    own = {} if kind in KINDS else {"kinds": {kind: type(codec)}}
    model = done(LatentDiffusion, folder, **own)
    return model or train_ldm(recipe, codec, folder, **options)[0]


def done(cls: type[Any], folder: Path, **options: Any) -> Any:
    """The model of a training that has ended, read with ``options``; None if it was
    stopped anywhere, be it while the model was written: its checkpoint gives it once
    more."""
    try:
        return cls.load(folder, **options)
    except (FileNotFoundError, ValueError):
        model, checkpoint = folder / "model.safetensors", folder / "checkpoint.pt"
        if model.exists() and not checkpoint.exists():
            raise
        return None


def vae_recipe(scale: Scale, seed: int = 0, kl_weight: float = 1e-3, **shape: Any):
    """A recipe at this scale; ``shape`` are fields of VAEConfig."""
    return VAERecipe(
        length=scale.images,
        vae=VAEConfig(channels=scale.channels, **shape),
        loss=VAELossConfig(kl_weight=kl_weight),
        train=replace(scale.vae, seed=seed),
    )


def describe_vae(codec: LatentCodec, scale: Scale, train: TrainConfig) -> Row:
    """What all autoencoders are asked: size, quality, and numbers per image."""
    C, h, w = codec.latent_shape(DATA.size)
    return {
        "f": codec.vae.config.downsampling,
        "latent_channels": C,
        "values": C * h * w,
        "compression": 3 * DATA.size**2 / (C * h * w),
        "parameters": count_parameters(codec.vae),
        "seed": train.seed,
        "images_seen": train.steps * train.batch_size,
        "reconstruction": evaluate_codec(codec, DATA, scale.judged),
    }


def held_out(n: int) -> Tensor:
    return whole(DATA.load("test"), n)[0]


def reconstructed(codec: Codec) -> Tensor:
    x = held_out(SHOWN)
    return through(codec, x, torch.Generator().manual_seed(0))


def ldm_recipe(scale: Scale, **changes: Any) -> LDMRecipe:
    """The small diffusion model of this scale; ``changes`` are fields of LDMRecipe."""
    recipe = LDMRecipe(
        length=scale.latents,
        unet=UNetConfig(channels=scale.unet, num_res_blocks=1),
        train=scale.ldm,
    )
    return replace(recipe, **changes)


def train_small_ldm(
    codec: Codec,
    scale: Scale,
    folder: Path,
    recipe: LDMRecipe | None = None,
    watch: Callable[[LatentDiffusion, Log], Any] | None = None,
) -> tuple[Row, LatentDiffusion]:
    """The same small diffusion model on any latents, and the quality of its samples."""
    model = trained_ldm(recipe or ldm_recipe(scale), codec, folder, watch=watch)
    quality = evaluate_samples(model, DATA, scale.samples, scale.steps)
    return {"loss": last_line(folder)["diffusion"]} | quality, model


def loss_alone(call: Callable[[], tuple[Tensor, Any]]) -> Tensor:
    """The loss of a call, without what is logged beside it."""
    return call()[0]


def sample_pictures(model: LatentDiffusion, steps: int) -> Tensor:
    """Samples of every other class."""
    y = torch.arange(SHOWN) * len(model.classes) // SHOWN
    return draw(model, y, steps, 1.0, torch.Generator().manual_seed(0))
