"""Recipes: a whole training described by one frozen dataclass, and presets of them.

``smoke`` runs in seconds and shows that everything works, ``cpu`` in minutes on two
cores, ``gpu`` is for one accelerator. ``reference`` made the weights that ship.
"""

import hashlib
import json
import os
import platform
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader, Dataset, TensorDataset

from ldm_tutorial.codec import Codec, LatentCodec, PixelCodec
from ldm_tutorial.data import load_dataset
from ldm_tutorial.diffusion import PredictionType, add_noise, random_times
from ldm_tutorial.discriminator import DiscriminatorConfig, PatchDiscriminator
from ldm_tutorial.efficiency import count_parameters
from ldm_tutorial.gaussian import DiagonalGaussian, normal_like
from ldm_tutorial.losses import (
    VAELossConfig,
    adaptive_weight,
    hinge_d_loss,
    hinge_g_loss,
    vae_loss,
)
from ldm_tutorial.metrics import psnr
from ldm_tutorial.perceptual import Alignment, FeatureDistance, load_perceptual
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.scenenet import SceneNet, SceneNetConfig, Scenes, SceneTraining
from ldm_tutorial.schedule import ScheduleConfig
from ldm_tutorial.storage import config_to_dict, find_model, write_json
from ldm_tutorial.training import (
    Log,
    TrainConfig,
    is_main_process,
    refuse_other,
    train,
)
from ldm_tutorial.unet import UNet, UNetConfig, inherit
from ldm_tutorial.vae import AutoencoderKL, VAEConfig

OnLog = Callable[[Log], Any]
OnStart = Callable[[int], Any]
Autoencoder = Literal[
    "frozen", "detached", "joint", "joint-normalised", "joint-aligned"
]
ALIGNMENT_WEIGHT = 0.5  # of REPA


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
    """Training of an autoencoder.

    Attributes:
        init: a trained autoencoder of the same shape to start from, as a folder or by
            its shipped name; null for random weights.
        freeze_encoder: train the decoder of ``init`` alone, so that its latents stay
            what they are.
    """

    init: str | None = None
    freeze_encoder: bool = False
    vae: VAEConfig = field(default_factory=VAEConfig)
    loss: VAELossConfig = field(default_factory=VAELossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


@dataclass(frozen=True)
class LDMRecipe(DataConfig):
    """Training of a diffusion model in the space of a codec.

    ``unet.in_channels`` and ``unet.num_classes`` are set from the codec and the data.

    Attributes:
        init: a trained model whose UNet to start from, as a folder or by its shipped
            name; of the same shape, or with fewer residual blocks per level. Null for
            random weights.
        decoder: an autoencoder with the same encoder whose decoder the finished model
            gets, as a folder or by its shipped name; null for that of the codec.
        prediction_type: what the UNet predicts.
        min_snr_gamma: bound on the weight of easy times in the loss (5 is usual); null
            weighs all alike.
        logit_normal: mean and standard deviation of the logit of t / T, for times that
            keep away from both ends; null draws them uniformly.
        label_dropout: share of the labels hidden in training, for guidance.
        autoencoder: what becomes of the autoencoder: frozen; trained along on its own
            ``loss``, which the diffusion loss leaves alone (detached); trained on both
            (joint); on both, with latents that every batch is normalised by
            (joint-normalised); or with such latents, on its own loss and on an
            alignment loss that reaches it through the UNet, while the diffusion loss
            does not (joint-aligned, after Leng et al. 2025, REPA-E, arXiv:2504.10483).
        loss: of an autoencoder that is trained along.
    """

    init: str | None = None
    decoder: str | None = None
    unet: UNetConfig = field(default_factory=UNetConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    prediction_type: PredictionType = "eps"
    min_snr_gamma: float | None = None
    logit_normal: tuple[float, float] | None = None
    label_dropout: float = 0.1
    autoencoder: Autoencoder = "frozen"
    loss: VAELossConfig = field(default_factory=VAELossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


@dataclass(frozen=True)
class SceneRecipe(DataConfig):
    """Training of a network that names the factors of a landscape."""

    net: SceneNetConfig = field(default_factory=SceneNetConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


class VAETraining(nn.Module):
    """What the loop trains: an autoencoder with its loss, and its discriminator if
    there is an adversarial term.

    One loss serves both players: in the autoencoder's term the discriminator's weights
    are constants, and in the discriminator's term the reconstruction is.

    Args:
        download: fetch the network of the perceptual loss if it is not on disk.
    """

    def __init__(self, vae: AutoencoderKL, loss: VAELossConfig, download: bool = False):
        super().__init__()
        self.vae, self.loss = vae, loss
        self.discriminator = None
        if loss.adversarial_weight:
            shape = DiscriminatorConfig(vae.config.in_channels)
            self.discriminator = PatchDiscriminator(shape)
            self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.frozen = frozen_perceptual(loss, download)

    def check(self, x: Tensor) -> None:
        """Raise a ValueError for images that are too small for one of the losses."""
        judges = [*self.frozen, *([self.discriminator] if self.discriminator else [])]
        for judge in judges:
            judge.check(x)

    def forward(self, x: Tensor, y: Tensor, generator: torch.Generator):
        x_hat, posterior = self.vae(x, generator)
        perceptual = self.frozen[0].to(x.device) if self.frozen else None
        loss, parts = vae_loss(x_hat, x, posterior, self.loss, perceptual)
        if self.discriminator is None or not self.training:
            return loss, parts
        begun = int(self.step) >= self.loss.adversarial_start
        self.step += 1
        more, more_parts = self.adversarial(loss, x_hat, x, begun)
        return loss + more, parts | more_parts

    def adversarial(
        self, nll: Tensor, x_hat: Tensor, x: Tensor, begun: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The terms of both players, and what they are made of. The discriminator
        learns from the first step; until the start the autoencoder does not listen.

        ``nll`` may hold the KL: it does not depend on the decoder's last layer.
        """
        real, fake = self.discriminator(torch.cat([x, x_hat.detach()])).chunk(2)
        total = hinge_d_loss(real, fake)
        parts = {
            "d_loss": total.detach(),
            "d_real": real.detach().mean(),
            "d_fake": fake.detach().mean(),
        }
        if begun:
            constant = {k: p.detach() for k, p in self.discriminator.named_parameters()}
            logits = functional_call(self.discriminator, constant, (x_hat,))
            g_loss = hinge_g_loss(logits)
            weight = adaptive_weight(nll, g_loss, self.vae.decoder.out[-2].weight)
            total = total + self.loss.adversarial_weight * weight * g_loss
            parts |= {"g_loss": g_loss.detach(), "adaptive_weight": weight}
        return total, parts


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


class JointTraining(nn.Module):
    """What the loop trains: an autoencoder and a diffusion model on its latents, at
    once.

    The log monitors both: the diffusion loss; reconstruction, psnr (dB) and KL; the
    standard deviation of the raw latents; and the alignment loss if there is one.

    Args:
        kind: as ``LDMRecipe.autoencoder``. The codec's mean and standard deviation
            follow the latents, but for joint, where they stay what they were.
    """

    def __init__(self, model: LatentDiffusion, kind: str, loss: VAELossConfig):
        super().__init__()
        self.model, self.kind, self.config = model, kind, loss
        model.codec.vae.requires_grad_(True)
        self.perceptual = frozen_perceptual(loss)
        self.alignment = None
        if kind == "joint-aligned":
            self.alignment = Alignment(model.unet.config.channels[-1])

    def forward(self, x: Tensor, y: Tensor, generator: torch.Generator):
        codec = self.model.codec
        posterior = codec.vae.encode(x)
        raw = posterior.sample(generator)
        x_hat = codec.vae.decode(raw)
        judge = self.perceptual[0].to(x.device) if self.perceptual else None
        loss, parts = vae_loss(x_hat, x, posterior, self.config, judge)
        denoising, more = self.denoising(self.unit_scale(raw), x, y, generator)
        with torch.no_grad():
            parts |= {"psnr": psnr(x_hat, x).mean(), "latent_std": raw.std()}
        return loss + denoising, parts | more

    def denoising(
        self, z: Tensor, x: Tensor, y: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The terms that the diffusion model brings in, for latents z of images x."""
        stops = self.kind in ("detached", "joint-aligned")
        loss, parts = self.model.loss(z.detach() if stops else z, y, generator)
        if self.alignment is None:
            return loss, parts
        schedule = self.model.schedule
        t = random_times(z, len(schedule), generator)
        z_t = add_noise(z, normal_like(z, generator), schedule.at(t, like=z))
        h, _, _ = self.model.unet.descend(z_t, t, y)
        distance = self.alignment(h, x)
        parts["alignment"] = distance.detach()
        return loss + ALIGNMENT_WEIGHT * distance, parts

    def unit_scale(self, raw: Tensor) -> Tensor:
        """What the diffusion model is trained on."""
        codec = self.model.codec
        if self.kind == "joint":
            return codec.normalise(raw)
        if self.training:
            codec.follow(raw)
        if self.kind == "detached":
            return codec.normalise(raw)
        mean, std = (f((0, 2, 3), keepdim=True) for f in (raw.mean, raw.std))
        return (raw - mean) / std


def frozen_perceptual(
    loss: VAELossConfig, download: bool = False
) -> tuple[FeatureDistance, ...]:
    """The network of the perceptual term, if there is one. Inside a tuple it is no
    submodule of a training: it is neither trained nor saved."""
    if loss.perceptual == "none":
        return ()
    return (load_perceptual(loss.perceptual, download),)


def train_vae(
    recipe: VAERecipe,
    out: str | Path | None = None,
    on_log: OnLog | None = None,
    on_start: OnStart | None = None,
) -> tuple[LatentCodec, list[Log]]:
    """Train an autoencoder, measure its latents, and save both to ``out``. With a
    frozen encoder the measures are those of ``recipe.init``.

    Arguments after the first as in ``training.train``.
    """
    dataset = recipe.load("train", recipe.length)
    torch.manual_seed(recipe.train.seed)
    vae = build_vae(recipe)
    start = start_from(recipe, vae)
    module = VAETraining(vae.to(best_device()), recipe.loss, recipe.download)
    module.check(torch.empty(1, 3, recipe.size, recipe.size))
    log = run(module, dataset, recipe, settings(recipe, start), out, on_log, on_start)
    if start and recipe.freeze_encoder:
        codec = LatentCodec(vae, start.mean, start.std).to(best_device())
    else:
        codec = LatentCodec.fit(vae, images(dataset, 2048))
    if out and is_main_process():
        codec.save(out)
    return codec, log


def start_from(recipe: VAERecipe, vae: AutoencoderKL) -> LatentCodec | None:
    """Give ``vae`` the weights of ``recipe.init``, if any, and freeze its encoder if
    the recipe says so.

    Raises:
        ValueError: if ``init`` is missing, damaged, or of another shape.
    """
    if recipe.init is None:
        if recipe.freeze_encoder:
            raise ValueError(
                "freeze_encoder=True without init would keep random weights; give "
                "init, a trained autoencoder"
            )
        return None
    try:
        codec = LatentCodec.load(recipe.init)
    except (KeyError, TypeError, AttributeError, RuntimeError):
        raise ValueError(
            f"the model in {find_model(recipe.init)} is damaged: its config.json and "
            "model.safetensors do not fit; save or copy it again"
        ) from None
    for name, found in asdict(codec.vae.config).items():
        if found != getattr(recipe.vae, name):
            raise ValueError(
                f"init={recipe.init} has vae.{name}={found}, and vae.{name}="
                f"{getattr(recipe.vae, name)} was asked for; give {found}, or another "
                "autoencoder"
            )
    vae.load_state_dict(codec.vae.state_dict())
    if recipe.freeze_encoder:
        vae.encoder.requires_grad_(False)
    return codec


def train_ldm(
    recipe: LDMRecipe,
    codec: Codec | None = None,
    out: str | Path | None = None,
    on_log: OnLog | None = None,
    on_start: OnStart | None = None,
    watch: Callable[[LatentDiffusion, Log], Any] | None = None,
) -> tuple[LatentDiffusion, list[Log]]:
    """Train a diffusion model; without a codec it works on pixels. The codec itself is
    left as it is: an autoencoder that is trained along is a copy.

    Args:
        watch: called with the model as it is, not yet averaged, and every new line of
            the log.

    Other arguments as in ``training.train``.

    Raises:
        ValueError: for a recipe that cannot be built, or an autoencoder that shall be
            trained along and is none.
    """
    dataset = recipe.load("train", recipe.length)
    codec = (codec or PixelCodec()).to(best_device())
    described = settings(recipe, codec)
    torch.manual_seed(recipe.train.seed)
    frozen = recipe.autoencoder == "frozen"
    codec = codec if frozen else deepcopy(codec)
    model = build_ldm(recipe, codec, tuple(dataset.classes)).to(best_device())
    if recipe.init:
        start_unet(recipe, model)
    finished = other_decoder(recipe.decoder, codec) if recipe.decoder else None
    if out:
        check_folder(Path(out), described)
    module: nn.Module = model
    if not frozen:
        module = JointTraining(model, recipe.autoencoder, recipe.loss)
    elif isinstance(codec, LatentCodec):
        module, dataset = CachedLatentTraining(model), cache_latents(codec, dataset)

    def logged(line: Log) -> None:
        if watch:
            model.eval()
            watch(model, line)
            model.train()
        if on_log:
            on_log(line)

    log = run(module, dataset, recipe, described, out, logged, on_start)
    model.eval()
    if not frozen:
        finish_codec(codec, recipe.autoencoder, images(dataset, 2048))
    if finished:
        model.codec = finished.to(best_device())
    if out and is_main_process():
        model.save(out)
    return model, log


def start_unet(recipe: LDMRecipe, model: LatentDiffusion) -> None:
    """Give ``model`` the UNet of ``recipe.init``.

    Raises:
        ValueError: if that model is of another shape, or its UNet has learned to answer
            another question.
    """
    start = LatentDiffusion.load(recipe.init)
    for name, old, new in (
        ("schedule", start.schedule_config, model.schedule_config),
        ("prediction_type", start.prediction_type, model.prediction_type),
        ("classes", start.classes, model.classes),
    ):
        if old != new:
            raise ValueError(
                f"init={recipe.init} has {name} {old}, and {new} was asked for; give "
                "the same, or another model"
            )
    try:
        inherit(model.unet, start.unet)
    except ValueError as error:
        raise ValueError(f"init={recipe.init}: {error}") from None


def other_decoder(name: str, codec: Codec) -> LatentCodec:
    """The autoencoder ``name``, if it decodes the latents of ``codec``.

    Raises:
        ValueError: if its encoder is another one.
    """
    found = LatentCodec.load(name)
    encoders = [c.vae.encoder.state_dict() for c in (found, codec) if hasattr(c, "vae")]
    same = len(encoders) == 2 and encoders[0].keys() == encoders[1].keys()
    if not same or any(  # weights on disk may be rounded
        not torch.allclose(encoders[0][k], encoders[1][k].cpu(), rtol=2e-3, atol=1e-3)
        for k in encoders[0]
    ):
        raise ValueError(
            f"decoder={name} has another encoder than the autoencoder that the model "
            "is trained on; train it with init and freeze_encoder"
        )
    return found


def finish_codec(codec: LatentCodec, kind: str, batches: list[Tensor]) -> None:
    """Freeze an autoencoder that was trained along, and measure its latents once more,
    unless the diffusion model has seen them at another scale."""
    fitted = LatentCodec.fit(codec.vae, batches)
    if kind != "joint":
        codec.load_state_dict(fitted.state_dict())


def train_scenenet(
    recipe: SceneRecipe,
    out: str | Path | None = None,
    on_log: OnLog | None = None,
    on_start: OnStart | None = None,
) -> tuple[SceneNet, list[Log]]:
    """Train a network that names the factors of a landscape.

    Arguments after the first as in ``training.train``.
    """
    if recipe.data != "landscapes":
        raise ValueError(
            f"data={recipe.data!r}; only of landscapes are the factors known: leave it "
            "at landscapes"
        )
    check_counts(recipe.net, "patch", "channels", "features")
    torch.manual_seed(recipe.train.seed)
    net = SceneNet(recipe.net)
    check_size(recipe.size, net.smallest)
    scenes = Scenes(recipe.load("train", recipe.length))
    module = SceneTraining(net).to(best_device())
    log = run(module, scenes, recipe, settings(recipe), out, on_log, on_start)
    net.eval().requires_grad_(False)
    net.fit_spread(images(scenes.landscapes, 2048))
    if out and is_main_process():
        net.save(out)
    return net, log


def run(
    module: nn.Module,
    dataset: Dataset,
    recipe: VAERecipe | LDMRecipe | SceneRecipe,
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
    recipe: VAERecipe | LDMRecipe | SceneRecipe, codec: Codec | None = None
) -> dict[str, Any]:
    """What decides a run, as JSON values: the recipe, and a digest of the codec."""
    described = {"kind": type(recipe).__name__}
    if codec is not None:
        described["codec"] = digest(codec)
    return described | config_to_dict(recipe)


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
    check_training(recipe, codec)
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
        recipe.min_snr_gamma,
        recipe.logit_normal,
    )


def check_training(recipe: LDMRecipe, codec: Codec) -> None:
    """Raise a ValueError for a way of training that is unknown or does not fit."""
    ways = get_args(Autoencoder)
    if recipe.autoencoder not in ways:
        raise ValueError(
            f"autoencoder={recipe.autoencoder!r} is unknown; choose {', '.join(ways)}"
        )
    if recipe.autoencoder != "frozen" and not isinstance(codec, LatentCodec):
        raise ValueError(
            f"autoencoder={recipe.autoencoder!r} was asked of a pixel model, which has "
            "none; give an autoencoder (--vae), or leave it at 'frozen'"
        )
    if recipe.autoencoder != "frozen" and recipe.decoder:
        raise ValueError(
            f"decoder={recipe.decoder} was asked of an autoencoder that is trained "
            "along; leave it out, or leave autoencoder at 'frozen'"
        )
    if recipe.autoencoder != "frozen" and recipe.loss.adversarial_weight:
        raise ValueError(
            f"loss.adversarial_weight={recipe.loss.adversarial_weight}; an autoencoder "
            "that is trained along has no discriminator: leave it at 0"
        )
    if recipe.min_snr_gamma is not None and not recipe.min_snr_gamma > 0:
        raise ValueError(f"min_snr_gamma={recipe.min_snr_gamma}; give more than 0")
    if recipe.logit_normal is not None and not recipe.logit_normal[1] > 0:
        raise ValueError(
            f"logit_normal={recipe.logit_normal}; give a mean and a standard deviation "
            "above 0"
        )


def check_counts(config: Any, *names: str) -> None:
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


def whole(dataset: Dataset, n: int) -> tuple[Tensor, Tensor]:
    """The first ``n`` images and classes of a data set as two tensors."""
    chosen = torch.utils.data.Subset(dataset, range(min(n, len(dataset))))
    x, y = zip(*DataLoader(chosen, batch_size=256), strict=True)
    return torch.cat(x), torch.cat(y)


def best_device() -> torch.device:
    """CUDA if there is a device, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


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


def environment() -> dict[str, Any]:
    """Where a record was made: device, threads and how they wait, and versions."""
    return {
        "device": device_name(),
        "threads": torch.get_num_threads(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "default"),
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
VAE_PRESETS["f16-start"] = replace(
    VAE_PRESETS["reference"], vae=VAEConfig(downsampling=16, latent_channels=16)
)
VAE_PRESETS["f16"] = replace(
    VAE_PRESETS["f16-start"],
    init="runs/vae-f16-start",
    train=replace(VAE_PRESETS["f16-start"].train, steps=4500, seed=1),
)
VAE_PRESETS["perceptual-start"] = VAERecipe(
    length=50_000,
    init="vae-f8",
    loss=VAELossConfig(
        perceptual="scenenet",
        contrast_weight=1.0,
        adversarial_weight=0.3,
        adversarial_start=600,
    ),
    train=TrainConfig(steps=1000, batch_size=32, learning_rate=1e-3, precision="bf16"),
)
# The critic and SceneNet care little for stars: they step back, contrast counts more.
VAE_PRESETS["perceptual"] = replace(
    VAE_PRESETS["perceptual-start"],
    init="runs/vae-f8-perceptual-start",
    loss=VAELossConfig(
        perceptual="scenenet",
        perceptual_weight=0.25,
        contrast_weight=4.0,
        adversarial_weight=0.1,
    ),
    train=replace(VAE_PRESETS["perceptual-start"].train, steps=2500, seed=1),
)
# Latents stay what they are, so a diffusion model need not be trained anew.
VAE_PRESETS["decoder"] = replace(
    VAE_PRESETS["perceptual-start"],
    freeze_encoder=True,
    loss=VAELossConfig(perceptual="scenenet", contrast_weight=1.0),
)

SCENE_PRESETS = {
    "smoke": SceneRecipe(length=256, net=SceneNetConfig(features=16), train=SMOKE),
    "cpu": SceneRecipe(
        train=TrainConfig(steps=750, batch_size=64, learning_rate=2e-3),
    ),
    "gpu": SceneRecipe(
        length=500_000,
        train=TrainConfig(steps=8000, batch_size=256, precision="bf16", num_workers=8),
    ),
    "reference": SceneRecipe(
        length=80_000,
        train=TrainConfig(
            steps=1200, batch_size=64, learning_rate=2e-3, precision="bf16"
        ),
    ),
    "judge": SceneRecipe(
        length=100_000,
        net=SceneNetConfig(patch=4, channels=(64, 96, 128), block="residual"),
        train=TrainConfig(
            steps=1400, batch_size=64, learning_rate=2e-3, precision="bf16", seed=1
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
    "reference-start": LDMRecipe(
        length=30_000,
        unet=UNetConfig(channels=(96, 128), num_res_blocks=1),
        train=TrainConfig(steps=3600, batch_size=64, precision="bf16"),
    ),
}

LDM_PRESETS["reference-middle"] = replace(
    LDM_PRESETS["reference-start"],
    init="runs/ldm-f8-start",
    length=60_000,
    train=TrainConfig(
        steps=4200, batch_size=64, learning_rate=7e-4, precision="bf16", seed=1
    ),
)
LDM_PRESETS["reference-long"] = replace(
    LDM_PRESETS["reference-middle"],
    init="runs/ldm-f8-middle",
    length=100_000,
    train=TrainConfig(
        steps=8000, batch_size=64, learning_rate=8e-4, precision="bf16", seed=2
    ),
)
LDM_PRESETS["reference-late"] = replace(
    LDM_PRESETS["reference-long"],
    init="runs/ldm-f8-long",
    decoder="runs/vae-f8-decoder",
    logit_normal=(-0.4, 1.0),
    train=replace(LDM_PRESETS["reference-long"].train, seed=3),
)
LDM_PRESETS["reference"] = replace(
    LDM_PRESETS["reference-late"],
    init="runs/ldm-f8-late",
    train=replace(LDM_PRESETS["reference-late"].train, steps=13_000, seed=4),
)
# The shipped model with a second residual block per level; it did not ship.
LDM_PRESETS["reference-deep"] = replace(
    LDM_PRESETS["reference"],
    init="runs/ldm-f8",
    unet=replace(LDM_PRESETS["reference"].unet, num_res_blocks=2),
    train=replace(LDM_PRESETS["reference"].train, steps=10_000, precision="no", seed=5),
)

# A pixel model sees images as patches of 4 x 4 pixels: attention between all pixels of
# an image would take hours.
PIXEL_PRESETS = {
    name: replace(
        recipe, init=None, decoder=None, unet=replace(recipe.unet, patch_size=4)
    )
    for name, recipe in LDM_PRESETS.items()
}
