"""Codecs: what turns images into the arrays that a diffusion model works on.

A diffusion model needs ``encode``, ``decode``, ``latent_shape`` and ``clip``, and no
more. ``PixelCodec`` is the identity, and with it the pixel-space baseline;
``LatentCodec`` wraps a trained autoencoder.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from ldm_tutorial.arguments import floating, has_numbers, whole
from ldm_tutorial.gaussian import DiagonalGaussian
from ldm_tutorial.storage import built, config_from_dict, load_model, save_model
from ldm_tutorial.vae import AutoencoderKL, VAEConfig


class Codec(Protocol):
    """What a diffusion model asks of a codec; a class of one's own needs no more.

    A model can be saved if its codec also has a ``kind`` (a name), a ``config`` (JSON
    values) and a class method ``from_config``; see ``LatentDiffusion.load``.

    Attributes:
        clip: bound on the estimate of z_0 in sampling: 1 for images in [-1, 1], None
            where nobody knows the range.
    """

    clip: float | None

    def latent_shape(self, size: int) -> tuple[int, int, int]:
        """Shape (C, h, w) of one encoded image of ``size`` x ``size`` pixels."""
        ...

    def encode(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Arrays (B, C, h, w) of unit standard deviation for images (B, 3, H, W)."""
        ...

    def decode(self, z: Tensor) -> Tensor:
        """Images (B, 3, H, W) for arrays (B, C, h, w)."""
        ...


class PixelCodec(nn.Module):
    """The identity: diffusion in pixel space."""

    kind: ClassVar[str] = "PixelCodec"
    clip: float | None = 1.0  # images lie in [-1, 1]: a sampler may hold z_0 there

    def __init__(self, channels: int = 3):
        super().__init__()
        self.channels = whole("channels", channels, 1, 2**16)

    @property
    def config(self) -> dict[str, Any]:
        return {"channels": self.channels}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "PixelCodec":
        return cls(**config)

    def latent_shape(self, size: int) -> tuple[int, int, int]:
        """Shape of one encoded image of ``size`` x ``size`` pixels."""
        whole("image size", size)
        return (self.channels, size, size)

    def encode(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self._fitting(x)

    def decode(self, z: Tensor) -> Tensor:
        return self._fitting(z)

    def _fitting(self, x: Tensor) -> Tensor:
        """``x``, or an error for anything but images of these channels."""
        floating("the image", x, f"(B, {self.channels}, H, W) in [-1, 1]")
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise ValueError(
                f"got images of shape {tuple(x.shape)}; this codec wants "
                f"(B, {self.channels}, H, W)"
            )
        return x


class LatentCodec(nn.Module):
    """A trained autoencoder and the statistics that bring its latents to unit scale.

    z = (raw latent - mean) / std. Stable Diffusion's ``scaling_factor`` is 1 / std with
    mean 0; here both may also be given per channel. They stay in float32 when the
    autoencoder is brought to half precision.

    Args:
        vae: the autoencoder. Whether its weights can be trained is left as it is:
            ``encode`` never records a gradient, and ``freeze`` freezes it.
        mean, std: scalars or (C,) tensors, finite, and std above 0.

    Raises:
        ValueError: for other statistics.
    """

    kind: ClassVar[str] = "LatentCodec"
    clip: float | None = None  # nobody knows the range of a latent

    def __init__(
        self, vae: AutoencoderKL, mean: Tensor | float = 0.0, std: Tensor | float = 1.0
    ):
        super().__init__()
        C = vae.config.latent_channels
        self.vae = vae.eval()
        self.mean: Tensor
        self.std: Tensor
        for name, value in (("mean", mean), ("std", std)):
            value = torch.as_tensor(value, dtype=torch.float32).reshape(-1, 1, 1)
            check_statistic(name, value, C)
            self.register_buffer(name, value.expand(C, 1, 1).clone())

    @classmethod
    def fit(
        cls,
        vae: AutoencoderKL,
        batches: Iterable[Tensor],
        per_channel: bool = True,
        *,
        generator: torch.Generator | None = None,
    ) -> "LatentCodec":
        """Measure mean and standard deviation of the latents of some images.

        Args:
            batches: images (B, 3, H, W); a few thousand in all are plenty.
            per_channel: one mean and std for each channel, or one for all.
            generator: of the noise of the latents; by default the same at every call.

        Raises:
            ValueError: for no images, or latents without a finite spread.
        """
        device = next(vae.parameters()).device
        generator = generator or torch.Generator().manual_seed(0)
        with torch.no_grad():
            parts = [vae.encode(x.to(device)).sample(generator) for x in batches]
        if not parts or sum(part[:, 0].numel() for part in parts) < 2:
            raise ValueError(
                f"{sum(map(len, parts))} images were given to measure latents by; "
                "give a few thousand, in batches (B, C, H, W)"
            )
        z = torch.cat(parts)
        dims = (0, 2, 3) if per_channel else (0, 1, 2, 3)
        return cls(vae, z.mean(dims), z.std(dims))

    @property
    def config(self) -> dict[str, Any]:
        return {"vae": asdict(self.vae.config)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LatentCodec":
        """The codec that a saved one's ``config`` describes, with fresh weights that
        are frozen: what comes from the disk is to be used as it is."""
        return cls(AutoencoderKL(config_from_dict(VAEConfig, config["vae"]))).freeze()

    @property
    def scaling_factor(self) -> Tensor:
        """1 / std per channel, shape (C,): what ``diffusers`` calls by this name."""
        return 1 / self.std.flatten()

    def latent_shape(self, size: int) -> tuple[int, int, int]:
        """Shape of one encoded image of ``size`` x ``size`` pixels.

        Raises:
            ValueError: if the autoencoder cannot halve such an image so often.
        """
        f = self.vae.config.downsampling
        whole("image size", size)
        if size < f or size % f:
            raise ValueError(
                f"images of {size} pixels do not fit an autoencoder that halves them "
                f"to 1/{f}; give a multiple of {f}"
            )
        return (self.vae.config.latent_channels, size // f, size // f)

    def posterior(self, x: Tensor) -> DiagonalGaussian:
        """q(z | x) of raw latents for images (B, 3, H, W): what can be kept of an
        image, so that every step of a training draws another latent from it."""
        return self.vae.encode(x)

    @torch.no_grad()
    def encode(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Latents of unit scale (B, C, H/f, W/f), sampled from q(z | x). What is
        not finite stays in its image: the other latents of the batch are right."""
        return self.normalise(self.posterior(x).sample(generator))

    def decode(self, z: Tensor) -> Tensor:
        """Images (B, 3, H, W) for latents of unit scale. A gradient is recorded if
        ``z`` asks for one, and not for the sake of the weights."""
        C = self.vae.config.latent_channels
        floating("the latent", z, f"(B, {C}, h, w) of unit scale")
        if z.ndim != 4 or z.shape[1] != C:
            raise ValueError(
                f"got latents of shape {tuple(z.shape)}; this codec wants "
                f"(B, {C}, h, w)"
            )
        with torch.set_grad_enabled(torch.is_grad_enabled() and z.requires_grad):
            return self.vae.decode(z * self.std + self.mean).to(z.dtype)

    def normalise(self, raw: Tensor) -> Tensor:
        """Bring raw latents to unit scale."""
        return (raw - self.mean) / self.std

    @torch.no_grad()
    def follow(self, mean: Tensor, std: Tensor, momentum: float = 0.05) -> None:
        """Move the statistics a little towards those of a batch of raw latents, (C,),
        whose autoencoder is still being trained."""
        self.mean.lerp_(mean.view(-1, 1, 1), momentum)
        self.std.lerp_(std.view(-1, 1, 1), momentum)

    def freeze(self) -> "LatentCodec":
        """Take the autoencoder's weights out of training."""
        self.requires_grad_(False)
        return self

    def train(self, mode: bool = True) -> "LatentCodec":
        """Stay in evaluation mode: dropout has no place in a codec."""
        return super().train(False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True):
        """Follow the autoencoder to its device, and leave the statistics float32."""
        mean, std = self.mean, self.std
        super()._apply(fn, recurse)
        self.mean, self.std = mean.to(self.mean.device), std.to(self.std.device)
        return self

    def save(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write autoencoder and statistics to a folder."""
        save_model(folder, self.kind, self.config, self.state_dict(), dtype)

    @classmethod
    def load(cls, folder: str | Path) -> "LatentCodec":
        """Read a codec from a folder, or a shipped one by its name (``vae-f8``). Its
        weights are frozen; ``codec.requires_grad_(True)`` lets a training change them.
        """
        config, tensors = load_model(folder, cls.kind)
        return built(lambda: cls.from_config(config), tensors, folder)


def check_statistic(name: str, value: Tensor, channels: int) -> None:
    """Raise a ValueError unless these numbers, one or one for each channel, can bring
    latents to unit scale."""
    if len(value) not in (1, channels):
        raise ValueError(
            f"{name} has {len(value)} numbers for {channels} channels; give one, or "
            "one for each"
        )
    if not has_numbers(value):
        return
    good = value.isfinite() & ((value > 0) | (name != "std"))
    if not bool(good.all()):
        wrong = [float(f"{v:.4g}") for v in value.flatten().tolist()]
        raise ValueError(
            f"{name}={wrong} of the latents; give finite numbers"
            + (" above 0" if name == "std" else "")
            + ", measured on images and weights that are finite"
        )
