"""Recipes: a whole training described by one frozen dataclass, and presets of them.

``smoke`` runs in seconds and shows that everything works, ``cpu`` in minutes on two
cores, ``gpu`` is for one accelerator. ``reference`` made the weights that ship.
"""

import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from ldm_tutorial.codec import Codec, LatentCodec, PixelCodec
from ldm_tutorial.data import load_dataset
from ldm_tutorial.diffusion import PredictionType
from ldm_tutorial.efficiency import count_parameters
from ldm_tutorial.gaussian import DiagonalGaussian
from ldm_tutorial.losses import VAELossConfig, vae_loss
from ldm_tutorial.metrics import ClassJudge, frechet_distance, psnr, ssim, thumbnails
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.schedule import ScheduleConfig
from ldm_tutorial.storage import write_json
from ldm_tutorial.training import Log, TrainConfig, train
from ldm_tutorial.unet import UNet, UNetConfig
from ldm_tutorial.vae import AutoencoderKL, VAEConfig

OnLog = Callable[[Log], Any]


@dataclass(frozen=True)
class DataConfig:
    """Which images.

    Attributes:
        data: landscapes, cifar10, fashion_mnist, flowers102, eurosat, celeba, or a
            folder of images.
        size: side of the images in pixels, a multiple of 8.
        length: how many training images; none for all there are.
        download: fetch a named set that is not on disk yet.
    """

    data: str = "landscapes"
    size: int = 64
    length: int | None = None
    download: bool = False

    def load(self, split: str, length: int | None = None) -> Dataset:
        return load_dataset(
            self.data,
            size=self.size,
            split=split,
            length=length,
            download=self.download,
        )


@dataclass(frozen=True)
class VAERecipe(DataConfig):
    """Training of an autoencoder."""

    vae: VAEConfig = field(default_factory=VAEConfig)
    loss: VAELossConfig = field(default_factory=VAELossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


@dataclass(frozen=True)
class LDMRecipe(DataConfig):
    """Training of a diffusion model in the space of a codec.

    ``unet.in_channels`` and ``unet.num_classes`` are set from the codec and the data.

    Attributes:
        prediction_type: what the UNet predicts.
        label_dropout: share of the labels hidden in training, for guidance.
    """

    unet: UNetConfig = field(default_factory=UNetConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    prediction_type: PredictionType = "eps"
    label_dropout: float = 0.1
    train: TrainConfig = field(default_factory=TrainConfig)


class VAETraining(nn.Module):
    """What the loop trains: an autoencoder with its loss."""

    def __init__(self, vae: AutoencoderKL, loss: VAELossConfig):
        super().__init__()
        self.vae, self.loss = vae, loss

    def forward(self, x: Tensor, y: Tensor, generator: torch.Generator):
        x_hat, posterior = self.vae(x, generator)
        return vae_loss(x_hat, x, posterior, self.loss)


class CachedLatentTraining(nn.Module):
    """What the loop trains: a diffusion model on latents that were encoded once.

    The cache holds mean and logvar, so that every step samples z afresh.
    """

    def __init__(self, model: LatentDiffusion):
        super().__init__()
        self.model = model

    def forward(self, moments: Tensor, y: Tensor, generator: torch.Generator):
        z = DiagonalGaussian(*moments.chunk(2, dim=1)).sample(generator)
        return self.model.loss(self.model.codec.normalise(z), y, generator)


def train_vae(
    recipe: VAERecipe, out: str | Path | None = None, on_log: OnLog | None = None
) -> tuple[LatentCodec, list[Log]]:
    """Train an autoencoder, measure its latents, and save both to ``out``."""
    dataset = recipe.load("train", recipe.length)
    torch.manual_seed(recipe.train.seed)
    vae = AutoencoderKL(recipe.vae).to(best_device())
    log = train(VAETraining(vae, recipe.loss), dataset, recipe.train, out, on_log)
    codec = LatentCodec.fit(vae, images(dataset, 2048))
    if out:
        codec.save(out)
        write_json(Path(out) / "recipe.json", asdict(recipe))
    return codec, log


def train_ldm(
    recipe: LDMRecipe,
    codec: Codec | None = None,
    out: str | Path | None = None,
    on_log: OnLog | None = None,
) -> tuple[LatentDiffusion, list[Log]]:
    """Train a diffusion model; without a codec it works on pixels."""
    dataset = recipe.load("train", recipe.length)
    codec = (codec or PixelCodec()).to(best_device())
    torch.manual_seed(recipe.train.seed)
    model = build_ldm(recipe, codec, tuple(dataset.classes)).to(best_device())
    if isinstance(codec, LatentCodec):
        module, dataset = CachedLatentTraining(model), cache_latents(codec, dataset)
    else:
        module = model
    log = train(module, dataset, recipe.train, out, on_log)
    model.eval()
    if out:
        model.save(out)
        write_json(Path(out) / "recipe.json", asdict(recipe))
    return model, log


def build_ldm(
    recipe: LDMRecipe, codec: Codec, classes: tuple[str, ...] = ()
) -> LatentDiffusion:
    """The untrained model of a recipe, with the channels and classes that fit."""
    unet = replace(
        recipe.unet,
        in_channels=codec.latent_shape(recipe.size)[0],
        num_classes=len(classes),
    )
    return LatentDiffusion(
        codec,
        UNet(unet),
        recipe.schedule,
        recipe.prediction_type,
        recipe.size,
        classes,
        recipe.label_dropout,
    )


@torch.no_grad()
def cache_latents(codec: LatentCodec, dataset: Dataset) -> TensorDataset:
    """Encode a data set once: moments (n, 2C, h, w) and classes (n,)."""
    device = codec.mean.device
    moments, classes = [], []
    for x, y in DataLoader(dataset, batch_size=256):
        q = codec.vae.encode(x.to(device))
        moments.append(torch.cat([q.mu, q.logvar], dim=1).cpu())
        classes.append(y)
    return TensorDataset(torch.cat(moments), torch.cat(classes))


def images(dataset: Dataset, n: int, batch_size: int = 128) -> list[Tensor]:
    """The first ``n`` images of a data set (or all of fewer), in batches."""
    chosen = torch.utils.data.Subset(dataset, range(min(n, len(dataset))))
    return [x for x, _ in DataLoader(chosen, batch_size=batch_size)]


@torch.no_grad()
def evaluate_codec(codec: Codec, data: DataConfig, n: int = 1000) -> dict[str, float]:
    """Reconstruction of held-out images: PSNR (dB) and SSIM with 95 % intervals."""
    batches = images(data.load("test", n), n)
    device = next(codec.parameters(), torch.empty(0)).device
    generator = torch.Generator(device).manual_seed(0)
    pairs = [(codec.decode(codec.encode(x.to(device), generator)).cpu(), x) for x in batches]
    p = torch.cat([psnr(x_hat, x) for x_hat, x in pairs])
    s = torch.cat([ssim(x_hat, x) for x_hat, x in pairs])
    return {
        "n": len(p),
        "psnr": float(p.mean()),
        "psnr_ci95": interval(p),
        "ssim": float(s.mean()),
        "ssim_ci95": interval(s),
    }


def interval(values: Tensor) -> float:
    """Half-width of the 95 % confidence interval of the mean."""
    return float(1.96 * values.std() / len(values) ** 0.5)


@torch.no_grad()
def evaluate_samples(
    model: LatentDiffusion,
    data: DataConfig,
    n: int = 512,
    steps: int = 50,
    guidance_scale: float = 1.0,
    seed: int = 0,
) -> dict[str, float]:
    """Quality of ``n`` samples, beside the numbers that real images get.

    frechet: Fréchet distance of 8x8 thumbnails between samples and ``n`` real test
    images; frechet_codec: the same for real images that only went through the codec;
    frechet_real: for other real images, which is the floor. class_agreement: share of
    the samples that ``ClassJudge`` finds in the class asked for, beside its accuracy on
    real images.
    """
    generator = torch.Generator(model.device).manual_seed(seed)
    draw = partial(model.sample, steps=steps, guidance_scale=guidance_scale)
    y = torch.arange(n) % max(1, len(model.classes))
    samples = torch.cat(
        [
            draw(len(part), y=part if model.classes else None, generator=generator).cpu()
            for part in y.split(128)
        ]
    )
    real_x, _ = whole(data.load("test", n), n)
    other_x, other_y = whole(data.load("validation", n), n)
    decoded = [
        model.codec.decode(model.codec.encode(x.to(model.device), generator)).cpu()
        for x in real_x.split(128)
    ]
    features = thumbnails(real_x)
    report = {
        "n": n,
        "steps": steps,
        "guidance_scale": guidance_scale,
        "frechet": frechet_distance(thumbnails(samples), features),
        "frechet_codec": frechet_distance(thumbnails(torch.cat(decoded)), features),
        "frechet_real": frechet_distance(thumbnails(other_x), features),
    }
    if len(model.classes) > 1:
        judge = ClassJudge.fit(*whole(data.load("train", 6000), 6000))
        report["class_agreement"] = float((judge(samples) == y).float().mean())
        report["class_accuracy_real"] = float((judge(other_x) == other_y).float().mean())
    return report


def whole(dataset: Dataset, n: int) -> tuple[Tensor, Tensor]:
    """The first ``n`` images and classes of a data set as two tensors."""
    chosen = torch.utils.data.Subset(dataset, range(min(n, len(dataset))))
    x, y = zip(*DataLoader(chosen, batch_size=256), strict=True)
    return torch.cat(x), torch.cat(y)


def best_device() -> torch.device:
    """CUDA if there is a device, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def record(recipe: VAERecipe | LDMRecipe, module: nn.Module, log: list[Log]) -> dict:
    """Who made these weights: recipe, versions, device and time, for a result file."""
    return {
        "recipe": asdict(recipe),
        "seed": recipe.train.seed,
        "steps": recipe.train.steps,
        "images_seen": recipe.train.steps * recipe.train.batch_size,
        "parameters": count_parameters(module),
        "seconds": log[-1]["seconds"],
        "final": {k: v for k, v in log[-1].items() if k not in ("seconds", "step")},
        "device": device_name(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def device_name() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU ({platform.machine()})"


SMOKE = TrainConfig(
    steps=20, batch_size=16, warmup_steps=5, log_every=5, checkpoint_every=10
)

VAE_PRESETS = {
    "smoke": VAERecipe(
        length=256,
        vae=VAEConfig(channels=(16, 16, 32, 32)),
        train=SMOKE,
    ),
    "cpu": VAERecipe(
        train=TrainConfig(steps=1500, batch_size=32, learning_rate=2e-3),
    ),
    "gpu": VAERecipe(
        length=500_000,
        vae=VAEConfig(channels=(64, 128, 192, 256), num_res_blocks=2),
        train=TrainConfig(
            steps=30_000, batch_size=128, precision="bf16", num_workers=8
        ),
    ),
    "reference": VAERecipe(
        length=200_000,
        train=TrainConfig(
            steps=3000,
            batch_size=32,
            learning_rate=2e-3,
            precision="bf16",
            checkpoint_every=250,
        ),
    ),
}

LDM_PRESETS = {
    "smoke": LDMRecipe(
        length=256,
        unet=UNetConfig(channels=(32, 32), num_res_blocks=1),
        train=SMOKE,
    ),
    "cpu": LDMRecipe(
        length=10_000,
        unet=UNetConfig(channels=(96, 128), num_res_blocks=1),
        train=TrainConfig(steps=4000, batch_size=64),
    ),
    "gpu": LDMRecipe(
        length=200_000,
        unet=UNetConfig(channels=(192, 384)),
        train=TrainConfig(
            steps=60_000, batch_size=256, precision="bf16", ema_decay=0.9995
        ),
    ),
    "reference": LDMRecipe(
        length=30_000,
        unet=UNetConfig(channels=(96, 128), num_res_blocks=1),
        train=TrainConfig(steps=3600, batch_size=64, precision="bf16"),
    ),
}
