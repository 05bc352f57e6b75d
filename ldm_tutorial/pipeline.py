"""Latent diffusion = diffusion + a codec.

    x   --codec.encode-->  z    --noise-->  z_t  --unet-->  prediction       (training)
    z_T --sampler-->       z_0  --codec.decode-->  x                         (sampling)

With a ``PixelCodec`` in place of the ``LatentCodec`` the same class is a pixel DDPM.
"""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from ldm_tutorial.codec import Codec, LatentCodec, PixelCodec
from ldm_tutorial.diffusion import PredictionType, diffusion_loss
from ldm_tutorial.noise import Generators, normal_like
from ldm_tutorial.samplers import SAMPLERS, guided, last
from ldm_tutorial.schedule import NoiseSchedule, ScheduleConfig
from ldm_tutorial.storage import config_from_dict, load_model, save_model
from ldm_tutorial.unet import UNet, UNetConfig
from ldm_tutorial.vae import AutoencoderKL, VAEConfig

SamplerName = Literal["ddpm", "ddim", "dpm-solver++"]


class LatentDiffusion(nn.Module):
    """A codec, a denoiser and a noise schedule.

    Args:
        codec: ``PixelCodec`` or ``LatentCodec``.
        unet: the denoiser, with as many channels as the codec's latents.
        schedule: the noise schedule, as a config (which is saved with the model).
        prediction_type: what the UNet predicts: eps, v or x0.
        image_size: side of the images in pixels.
        classes: names of the classes, empty for an unconditional model.
        label_dropout: share of the labels hidden in training, for guidance.
        min_snr_gamma: weigh the times of the loss as ``diffusion.min_snr_weight`` does.
        logit_normal: draw them as ``diffusion.logit_normal_times`` does.

    Raises:
        ValueError: if codec and UNet do not fit.
    """

    def __init__(
        self,
        codec: Codec,
        unet: UNet,
        schedule: ScheduleConfig | None = None,
        prediction_type: PredictionType = "eps",
        image_size: int = 64,
        classes: tuple[str, ...] = (),
        label_dropout: float = 0.1,
        min_snr_gamma: float | None = None,
        logit_normal: tuple[float, float] | None = None,
    ):
        super().__init__()
        channels = codec.latent_shape(image_size)[0]
        if channels != unet.config.in_channels:
            raise ValueError(
                f"the codec gives {channels} channels and the UNet takes "
                f"{unet.config.in_channels}; build UNetConfig(in_channels={channels})"
            )
        if len(classes) != unet.config.num_classes:
            raise ValueError(
                f"{len(classes)} class names for a UNet of {unet.config.num_classes} "
                "classes; give one name for each"
            )
        self.codec, self.unet = codec, unet
        self.schedule_config = schedule or ScheduleConfig()
        self.schedule = NoiseSchedule.from_config(self.schedule_config)
        if prediction_type == "eps" and self.schedule.alpha_bar[-1] == 0:
            raise ValueError(
                "eps says nothing about z_0 where no signal is left; with "
                "zero_terminal_snr choose prediction_type v or x0"
            )
        self.prediction_type = prediction_type
        self.image_size, self.classes = image_size, tuple(classes)
        self.label_dropout, self.min_snr_gamma = label_dropout, min_snr_gamma
        self.logit_normal = logit_normal

    @property
    def device(self) -> torch.device:
        return next(self.unet.parameters()).device

    def forward(
        self, x: Tensor, y: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Training loss for images (B, 3, H, W) and classes (B,), and its log."""
        return self.loss(self.codec.encode(x, generator), y, generator)

    def loss(
        self, z_0: Tensor, y: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The same for arrays that are encoded already; the classes of an
        unconditional model are not looked at."""

        def denoiser(z_t: Tensor, t: Tensor) -> Tensor:
            return self.unet(z_t, t, self._hide(y, generator))

        loss = diffusion_loss(
            denoiser,
            self.schedule,
            z_0,
            self.prediction_type,
            generator,
            self.min_snr_gamma,
            self.logit_normal,
        )
        return loss, {"diffusion": loss.detach()}

    def _hide(self, y: Tensor, generator: torch.Generator | None) -> Tensor | None:
        """Replace a share of the labels by "no class"."""
        if not self.classes:
            return None
        device = y.device if generator is None else generator.device
        chance = torch.rand(y.shape, generator=generator, device=device).to(y.device)
        return y.masked_fill(chance < self.label_dropout, len(self.classes))

    def sample(
        self,
        n: int | None = None,
        *,
        y: Tensor | int | str | None = None,
        steps: int = 50,
        sampler: SamplerName = "ddim",
        eta: float = 0.0,
        guidance_scale: float = 1.0,
        guidance_rescale: float = 0.0,
        generator: Generators | None = None,
    ) -> Tensor:
        """Draw images.

        Args:
            n: how many; may be left out where ``y`` is a tensor.
            y: classes (n,), one class for all as a number or a name, or None: each
                class in turn (an unconditional model has no classes).
            steps: denoiser calls, 1 to T.
            sampler: ddpm, ddim or dpm-solver++.
            eta: how noisy DDIM's steps are, 0 to 1.
            guidance_scale: 1 is the plain model; see ``samplers.guided``.
            guidance_rescale: 0 to 1, for large guidance scales.
            generator: of the noise; a list of one for each image, as
                ``gaussian.generators`` gives them, makes every image the same in a
                batch of any size.

        Returns:
            Images (n, 3, H, W), clamped to [-1, 1].

        Raises:
            ValueError: for a class, number, sampler or step count that does not fit.
        """
        z_0 = last(
            self.sample_latents(
                n,
                y=y,
                steps=steps,
                sampler=sampler,
                eta=eta,
                guidance_scale=guidance_scale,
                guidance_rescale=guidance_rescale,
                generator=generator,
            )
        )
        with torch.no_grad():
            return self.codec.decode(z_0).clamp(-1, 1)

    def sample_latents(
        self,
        n: int | None = None,
        *,
        y: Tensor | int | str | None = None,
        steps: int = 50,
        sampler: SamplerName = "ddim",
        eta: float = 0.0,
        guidance_scale: float = 1.0,
        guidance_rescale: float = 0.0,
        generator: Generators | None = None,
    ) -> Iterator[Tensor]:
        """The sampler's arrays (n, C, h, w), one a step; arguments as in ``sample``."""
        check_options(sampler, eta, guidance_rescale)
        y = self._classes_for(n, y)
        n = len(y) if y is not None else n
        if guidance_scale != 1.0 and y is None:
            raise ValueError(
                f"guidance_scale={guidance_scale} was asked of an unconditional model; "
                "leave it at 1"
            )
        z_T = torch.empty(n, *self.codec.latent_shape(self.image_size))
        z_T = normal_like(z_T.to(self.device), generator)
        self.schedule.timesteps(steps)
        return SAMPLERS[sampler](
            guided(self.unet, y, guidance_scale, guidance_rescale),
            self.schedule,
            z_T,
            steps=steps,
            prediction_type=self.prediction_type,
            clip=self.codec.clip,
            generator=generator,
            **({"eta": eta} if sampler == "ddim" else {}),
        )

    def _classes_for(
        self, n: int | None, y: Tensor | int | str | None
    ) -> Tensor | None:
        """Classes of ``n`` samples as a tensor, or None for an unconditional model."""
        if not isinstance(y, Tensor) and (n is None or n < 1):
            raise ValueError(f"n={n} samples were asked for; give a number from 1 on")
        if y is not None and not self.classes:
            raise ValueError("this model is unconditional; leave the classes out")
        if not self.classes:
            return None
        if y is None:
            return torch.arange(n, device=self.device) % len(self.classes)
        if isinstance(y, str):
            if y not in self.classes:
                raise ValueError(
                    f"class {y!r} is unknown; choose from {', '.join(self.classes)}"
                )
            y = self.classes.index(y)
        if isinstance(y, int):
            y = torch.full((n,), y)
        if n not in (None, len(y)):
            raise ValueError(f"{len(y)} classes were given for n={n} samples")
        if bool(((y < 0) | (y >= len(self.classes))).any()):
            raise ValueError(
                f"classes from {int(y.min())} to {int(y.max())} were given; "
                f"this model knows 0 to {len(self.classes) - 1}"
            )
        return y.to(self.device)

    def save(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write the whole model, codec and all, to a folder."""
        vae = asdict(self.codec.vae.config) if hasattr(self.codec, "vae") else None
        config = {
            "vae": vae,
            "unet": asdict(self.unet.config),
            "schedule": asdict(self.schedule_config),
            "prediction_type": self.prediction_type,
            "image_size": self.image_size,
            "classes": self.classes,
            "label_dropout": self.label_dropout,
            "min_snr_gamma": self.min_snr_gamma,
            "logit_normal": self.logit_normal,
        }
        save_model(folder, "LatentDiffusion", config, self.state_dict(), dtype)

    @classmethod
    def load(cls, folder: str | Path) -> "LatentDiffusion":
        """Read a model from a folder, or a shipped one by its name (``ldm-f8``)."""
        config, tensors = load_model(folder, "LatentDiffusion")
        vae = config.pop("vae")
        unet = UNet(config_from_dict(UNetConfig, config.pop("unet")))
        codec: Codec = PixelCodec(unet.config.in_channels)
        if vae is not None:
            codec = LatentCodec(AutoencoderKL(config_from_dict(VAEConfig, vae)))
        schedule = config_from_dict(ScheduleConfig, config.pop("schedule"))
        model = cls(codec, unet, schedule, **config)
        model.load_state_dict(tensors)
        return model.eval()


def check_options(sampler: str, eta: float, guidance_rescale: float) -> None:
    """Raise a ValueError for what no sampler, or not this one, can do."""
    if sampler not in SAMPLERS:
        raise ValueError(
            f"sampler {sampler!r} is unknown; choose {', '.join(SAMPLERS)}"
        )
    if not 0 <= eta <= 1:
        raise ValueError(f"eta={eta}; give 0 (deterministic) to 1 (as noisy as DDPM)")
    if eta and sampler != "ddim":
        raise ValueError(f"eta={eta} is an option of ddim; leave it out with {sampler}")
    if not 0 <= guidance_rescale <= 1:
        raise ValueError(f"guidance_rescale={guidance_rescale}; give 0 to 1")
