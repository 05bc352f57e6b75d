"""Codecs: what turns images into the arrays that a diffusion model works on.

A diffusion model needs ``encode``, ``decode``, ``latent_shape`` and ``clip``, and no
more. ``PixelCodec`` is the identity, and with it the pixel-space baseline;
``LatentCodec`` wraps a trained autoencoder.
"""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from ldm_tutorial.storage import config_from_dict, load_model, save_model
from ldm_tutorial.vae import AutoencoderKL, VAEConfig


class PixelCodec(nn.Module):
    """The identity: diffusion in pixel space."""

    clip = 1.0  # images lie in [-1, 1], so a sampler may hold its estimate there

    def __init__(self, channels: int = 3):
        super().__init__()
        self.channels = channels

    def latent_shape(self, size: int) -> tuple[int, int, int]:
        """Shape of one encoded image of ``size`` x ``size`` pixels."""
        return (self.channels, size, size)

    def encode(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return x

    def decode(self, z: Tensor) -> Tensor:
        return z


class LatentCodec(nn.Module):
    """A trained autoencoder and the statistics that bring its latents to unit scale.

    z = (raw latent - mean) / std. Stable Diffusion's ``scaling_factor`` is 1 / std with
    mean 0; here both may also be given per channel.

    Args:
        vae: the autoencoder; it is frozen, and stays in evaluation mode.
        mean, std: scalars or (C,) tensors.
    """

    clip = None  # nobody knows the range of a latent

    def __init__(
        self, vae: AutoencoderKL, mean: Tensor | float = 0.0, std: Tensor | float = 1.0
    ):
        super().__init__()
        C = vae.config.latent_channels
        self.vae = vae.eval().requires_grad_(False)
        for name, value in (("mean", mean), ("std", std)):
            value = torch.as_tensor(value, dtype=torch.float32).reshape(-1, 1, 1)
            self.register_buffer(name, value.expand(C, 1, 1).clone())

    @classmethod
    def fit(
        cls, vae: AutoencoderKL, batches: Iterable[Tensor], per_channel: bool = True
    ) -> "LatentCodec":
        """Measure mean and standard deviation of the latents of some images.

        Args:
            batches: images (B, 3, H, W); a few thousand in all are plenty.
            per_channel: one mean and std for each channel, or one for all.
        """
        device = next(vae.parameters()).device
        with torch.no_grad():
            z = torch.cat([vae.encode(x.to(device)).sample() for x in batches])
        dims = (0, 2, 3) if per_channel else (0, 1, 2, 3)
        return cls(vae, z.mean(dims), z.std(dims))

    @property
    def scaling_factor(self) -> Tensor:
        """1 / std per channel, shape (C,): what ``diffusers`` calls by this name."""
        return 1 / self.std.flatten()

    def latent_shape(self, size: int) -> tuple[int, int, int]:
        """Shape of one encoded image of ``size`` x ``size`` pixels."""
        f = self.vae.config.downsampling
        return (self.vae.config.latent_channels, size // f, size // f)

    @torch.no_grad()
    def encode(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Latents of unit scale (B, C, H/f, W/f), sampled from q(z | x)."""
        return self.normalise(self.vae.encode(x).sample(generator))

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Images (B, 3, H, W) for latents of unit scale."""
        return self.vae.decode(z * self.std + self.mean)

    def normalise(self, raw: Tensor) -> Tensor:
        """Bring raw latents to unit scale."""
        return (raw - self.mean) / self.std

    @torch.no_grad()
    def follow(self, raw: Tensor, momentum: float = 0.05) -> None:
        """Move mean and std a little towards those of raw latents (B, C, h, w), whose
        autoencoder is still being trained."""
        self.mean.lerp_(raw.mean((0, 2, 3)).view(-1, 1, 1), momentum)
        self.std.lerp_(raw.std((0, 2, 3)).view(-1, 1, 1), momentum)

    def train(self, mode: bool = True) -> "LatentCodec":
        """Stay in evaluation mode: the codec is frozen."""
        return super().train(False)

    def save(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write autoencoder and statistics to a folder."""
        config = {"vae": asdict(self.vae.config)}
        save_model(folder, "LatentCodec", config, self.state_dict(), dtype)

    @classmethod
    def load(cls, folder: str | Path) -> "LatentCodec":
        """Read a codec from a folder, or a shipped one by its name (``vae-f8``)."""
        config, tensors = load_model(folder, "LatentCodec")
        codec = cls(AutoencoderKL(config_from_dict(VAEConfig, config["vae"])))
        codec.load_state_dict(tensors)
        return codec


Codec = PixelCodec | LatentCodec
