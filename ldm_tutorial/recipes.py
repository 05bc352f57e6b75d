"""Recipes: a whole training described by one frozen dataclass, and presets of them.

``smoke`` runs in seconds and shows that everything works, ``cpu`` in minutes on two
cores, ``gpu`` is for one accelerator. ``reference`` made the weights that ship.
"""

import hashlib
import json
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
from ldm_tutorial.efficiency import (
    activation_bytes,
    count_flops,
    count_parameters,
    peak_bytes,
    time_side_by_side,
)
from ldm_tutorial.gaussian import DiagonalGaussian
from ldm_tutorial.losses import VAELossConfig, vae_loss
from ldm_tutorial.metrics import ClassJudge, frechet_distance, psnr, ssim, thumbnails
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.schedule import ScheduleConfig
from ldm_tutorial.storage import find_model, write_json
from ldm_tutorial.training import (
    Log,
    TrainConfig,
    is_main_process,
    refuse_other,
    train,
)
from ldm_tutorial.unet import UNet, UNetConfig
from ldm_tutorial.vae import AutoencoderKL, VAEConfig

OnLog = Callable[[Log], Any]
OnStart = Callable[[int], Any]


@dataclass(frozen=True)
class DataConfig:
    """Which images.

    Attributes:
        data: landscapes, cifar10, fashion_mnist, flowers102, eurosat, celeba, or a
            folder of images.
        size: side of the images in pixels, a multiple of 8.
        length: how many training images; null for all there are.
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
    recipe: VAERecipe,
    out: str | Path | None = None,
    on_log: OnLog | None = None,
    on_start: OnStart | None = None,
) -> tuple[LatentCodec, list[Log]]:
    """Train an autoencoder, measure its latents, and save both to ``out``.

    Arguments after the first as in ``training.train``.
    """
    dataset = recipe.load("train", recipe.length)
    torch.manual_seed(recipe.train.seed)
    vae = build_vae(recipe).to(best_device())
    module = VAETraining(vae, recipe.loss)
    log = run(module, dataset, recipe, settings(recipe), out, on_log, on_start)
    codec = LatentCodec.fit(vae, images(dataset, 2048))
    if out and is_main_process():
        codec.save(out)
    return codec, log


def train_ldm(
    recipe: LDMRecipe,
    codec: Codec | None = None,
    out: str | Path | None = None,
    on_log: OnLog | None = None,
    on_start: OnStart | None = None,
) -> tuple[LatentDiffusion, list[Log]]:
    """Train a diffusion model; without a codec it works on pixels.

    Arguments after the second as in ``training.train``.
    """
    dataset = recipe.load("train", recipe.length)
    codec = (codec or PixelCodec()).to(best_device())
    torch.manual_seed(recipe.train.seed)
    model = build_ldm(recipe, codec, tuple(dataset.classes)).to(best_device())
    described = settings(recipe, codec)
    if out:
        check_folder(Path(out), described)
    module: nn.Module = model
    if isinstance(codec, LatentCodec):
        module, dataset = CachedLatentTraining(model), cache_latents(codec, dataset)
    log = run(module, dataset, recipe, described, out, on_log, on_start)
    model.eval()
    if out and is_main_process():
        model.save(out)
    return model, log


def run(
    module: nn.Module,
    dataset: Dataset,
    recipe: VAERecipe | LDMRecipe,
    described: dict[str, Any],
    out: str | Path | None,
    on_log: OnLog | None,
    on_start: OnStart | None,
) -> list[Log]:
    """Train; ``recipe.json`` says from the start what the folder holds."""
    if out:
        check_folder(Path(out), described)

    def started(step: int) -> None:
        if out and is_main_process():
            write_json(Path(out) / "recipe.json", described)
        if on_start:
            on_start(step)

    return train(module, dataset, recipe.train, out, on_log, started)


def settings(
    recipe: VAERecipe | LDMRecipe, codec: Codec | None = None
) -> dict[str, Any]:
    """What decides a run, as JSON values: the recipe, and a digest of the codec."""
    described = {"kind": type(recipe).__name__}
    if codec is not None:
        described["codec"] = digest(codec)
    return described | json.loads(json.dumps(asdict(recipe)))


def digest(codec: Codec) -> str:
    """A short name for the codec's very weights; "pixels" where there are none."""
    tensors = codec.state_dict()
    if not tensors:
        return "pixels"
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(name.encode() + tensor.detach().cpu().numpy().tobytes())
    return found.hexdigest()[:12]


def check_folder(out: Path, described: dict[str, Any]) -> None:
    """Refuse to train in a folder that holds something else.

    Raises:
        ValueError: if there is a run of another recipe, or a model without a run.
    """
    path = out / "recipe.json"
    started = (out / "checkpoint.pt").exists()
    if (out / "model.safetensors").exists() and not started:
        raise ValueError(
            f"{out} holds a finished model without its checkpoint.pt, and training "
            "would overwrite it; choose another folder"
        )
    if started and path.exists():
        try:
            saved = json.loads(path.read_text())
        except ValueError:
            raise ValueError(
                f"{path} is damaged; put a copy in its place, or choose another folder"
            ) from None
        asked = {k: v for k, v in described.items() if k != "download"}
        refuse_other(out, saved, asked)


def trained_on(folder: str | Path) -> dict[str, Any]:
    """The ``recipe.json`` beside a model, or {} if there is none, as with the shipped
    ones (which were trained on landscapes of 64 x 64 pixels)."""
    path = find_model(folder) / "recipe.json"
    try:
        found = json.loads(path.read_text()) if path.exists() else {}
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{path} is damaged; remove it, or put a copy in its place")
    return found


def build_vae(recipe: VAERecipe) -> AutoencoderKL:
    """The untrained autoencoder of a recipe."""
    check_counts(recipe.vae, "latent_channels", "channels", "num_res_blocks")
    check_size(recipe.size, recipe.vae.downsampling)
    if recipe.vae.in_channels != 3:
        raise ValueError(
            f"in_channels={recipe.vae.in_channels}; the data sets give images of 3 "
            "channels: leave it at 3"
        )
    return AutoencoderKL(recipe.vae)


def build_ldm(
    recipe: LDMRecipe, codec: Codec, classes: tuple[str, ...] = ()
) -> LatentDiffusion:
    """The untrained model of a recipe, with the channels and classes that fit."""
    check_counts(recipe.unet, "channels", "num_res_blocks", "patch_size")
    check_counts(recipe.schedule, "num_train_timesteps")
    if not 0 <= recipe.label_dropout <= 1:
        raise ValueError(f"label_dropout={recipe.label_dropout}; give a share, 0 to 1")
    unet = replace(
        recipe.unet,
        in_channels=codec.latent_shape(recipe.size)[0],
        num_classes=len(classes),
    )
    f = codec.vae.config.downsampling if isinstance(codec, LatentCodec) else 1
    check_size(recipe.size, f * unet.patch_size * 2 ** (len(unet.channels) - 1))
    return LatentDiffusion(
        codec,
        UNet(unet),
        recipe.schedule,
        recipe.prediction_type,
        recipe.size,
        classes,
        recipe.label_dropout,
    )


def check_counts(config: VAEConfig | UNetConfig | ScheduleConfig, *names: str) -> None:
    """Raise a ValueError for a field with a number below 1, or without any."""
    for name in names:
        value = getattr(config, name)
        if min(value if isinstance(value, tuple) else (value,), default=0) < 1:
            raise ValueError(f"{name}={value}; give 1 or more")


def check_size(size: int, multiple: int) -> None:
    """Raise a ValueError if the networks cannot halve images so often."""
    if size % multiple:
        raise ValueError(
            f"size={size}; this model halves its images to 1/{multiple}: "
            f"give a multiple of {multiple}"
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
    return list(whole(dataset, n)[0].split(batch_size))


@torch.no_grad()
def evaluate_codec(codec: Codec, data: DataConfig, n: int = 1000) -> dict[str, float]:
    """Reconstruction of held-out images: PSNR (dB) and SSIM with 95 % intervals."""
    batches = images(data.load("test", n), n)
    device = next(codec.parameters(), torch.empty(0)).device
    generator = torch.Generator(device).manual_seed(0)
    pairs = [(through(codec, x.to(device), generator).cpu(), x) for x in batches]
    values = {
        "psnr": torch.cat([psnr(x_hat, x) for x_hat, x in pairs]),
        "ssim": torch.cat([ssim(x_hat, x) for x_hat, x in pairs]),
    }
    report: dict[str, float] = {"n": len(values["psnr"])}
    for name, value in values.items():
        report[name] = float(value.mean())
        if len(value) > 1:
            report[f"{name}_ci95"] = interval(value)
    return report


def through(codec: Codec, x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Images that went through a codec and back, (B, 3, H, W)."""
    return codec.decode(codec.encode(x, generator))


def interval(values: Tensor) -> float:
    """Half-width of the 95 % confidence interval of the mean, of 2 values or more."""
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
    images (fewer if there are not so many); frechet_codec: the same for real images
    that only went through the codec; frechet_real: for other real images, which is the
    floor. The samples have the classes of those other images, so that both sets mix
    the classes alike. class_agreement: share of the samples that ``ClassJudge`` finds
    in the class asked for, beside its accuracy on real images. What cannot be measured
    is left out: distances with a single real image, agreement where the data have
    other classes.
    """
    generator = torch.Generator(model.device).manual_seed(seed)
    real_x, _ = whole(data.load("test", n), n)
    other_x, other_y = whole(data.load("validation", n), n)
    known = data.load("train", 2000)
    same_classes = tuple(known.classes) == model.classes
    y = other_y if same_classes and len(other_y) == n else each_class(model, n)
    samples = draw(model, y, steps, guidance_scale, generator)
    report = {"n": n, "steps": steps, "guidance_scale": guidance_scale}
    if min(n, len(real_x), len(other_x)) > 1:
        decoded = torch.cat(
            [
                through(model.codec, x.to(model.device), generator).cpu()
                for x in real_x.split(128)
            ]
        )
        candidates = {"": samples, "_codec": decoded, "_real": other_x}
        for name, x in candidates.items():
            distance = frechet_distance(thumbnails(x), thumbnails(real_x))
            report[f"frechet{name}"] = distance
    if len(model.classes) > 1 and same_classes:
        judge = ClassJudge.fit(*whole(known, 2000))
        report["class_agreement"] = share(judge(samples) == y)
        report["class_accuracy_real"] = share(judge(other_x) == other_y)
    return report


def each_class(model: LatentDiffusion, n: int) -> Tensor:
    """Classes (n,), each in turn; zeros for an unconditional model."""
    return torch.arange(n) % max(1, len(model.classes))


def draw(
    model: LatentDiffusion,
    y: Tensor,
    steps: int,
    guidance_scale: float,
    generator: torch.Generator,
) -> Tensor:
    """Samples (n, 3, H, W) of the classes ``y`` (n,), on the CPU."""
    samples = [
        model.sample(
            len(part),
            y=part if model.classes else None,
            steps=steps,
            guidance_scale=guidance_scale,
            generator=generator,
        ).cpu()
        for part in y.split(128)
    ]
    return torch.cat(samples)


def benchmark(
    codec: LatentCodec, size: int = 64, batch_size: int = 8, repeats: int = 5
) -> dict[str, dict[str, float]]:
    """What latent and pixel diffusion cost, measured in turns in one run, for the
    models of BENCHMARK.

    parameters: of the UNet; gflops: of the UNet for one image; train_seconds: median of
    a training step for a batch; train_megabytes: what its forward pass keeps;
    sample_seconds, sample_megabytes: median and most memory held for drawing a batch
    in ten steps, decoder included.
    """
    device = best_device()
    models = {}
    for name, unet in BENCHMARK.items():
        torch.manual_seed(0)
        space = codec if name == "latent" else PixelCodec()
        models[name] = build_ldm(LDMRecipe(size=size, unet=unet), space).to(device)
    report: dict[str, dict[str, float]] = {}
    calls: dict[str, Callable[[], Any]] = {}
    t = torch.zeros(batch_size, dtype=torch.int64, device=device)
    for name, model in models.items():
        z = torch.randn(batch_size, *model.codec.latent_shape(size), device=device)
        sampling = partial(model.sample, batch_size, steps=10)
        calls[f"{name} train_seconds"] = partial(training_step, model, z, t)
        calls[f"{name} sample_seconds"] = sampling
        report[name] = {
            "parameters": count_parameters(model.unet),
            "gflops": count_flops(partial(model.unet, z[:1], t[:1])) / 1e9,
            "train_megabytes": activation_bytes(model.unet, z, t) / 1e6,
            "sample_megabytes": peak_bytes(sampling) / 1e6,
        }
    for name, timing in time_side_by_side(calls, repeats).items():
        model_name, _, what = name.rpartition(" ")
        report[model_name][what] = timing.median
    return report


def training_step(model: LatentDiffusion, z: Tensor, y: Tensor) -> None:
    """Loss and gradients of a batch of encoded images."""
    model.loss(z, y)[0].backward()
    model.zero_grad()


def share(right: Tensor) -> float:
    """Mean of bools (B,)."""
    return float(right.float().mean())


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
    last = log[-1] if log else {}
    return {
        "recipe": asdict(recipe),
        "seed": recipe.train.seed,
        "steps": recipe.train.steps,
        "images_seen": recipe.train.steps * recipe.train.batch_size,
        "parameters": count_parameters(module),
        "seconds": last.get("seconds"),
        "final": {k: v for k, v in last.items() if k not in ("seconds", "step")},
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

# A pixel model sees images as patches of 4 x 4 pixels: attention between all pixels of
# an image would take hours.
PIXEL_PRESETS = {
    name: replace(recipe, unet=replace(recipe.unet, patch_size=4))
    for name, recipe in LDM_PRESETS.items()
}

# Three models of about the same number of parameters: on pixels, on pixels in patches,
# and on latents.
BENCHMARK = {
    "pixel": UNetConfig(
        channels=(32, 64, 96, 128), num_res_blocks=1, attention_levels=(3,)
    ),
    "patch 4": UNetConfig(
        channels=(96, 128), num_res_blocks=1, attention_levels=(1,), patch_size=4
    ),
    "latent": UNetConfig(channels=(96, 128), num_res_blocks=1),
}
