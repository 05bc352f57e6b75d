"""A codec whose latents are the features of a network that recognises things: a
representation autoencoder (RAE; Zheng et al. 2025, arXiv:2510.11690) in small.

The encoder is SceneNet's third stage, frozen; only the decoder is trained. The latents
are not compressed: 64 channels of 8 x 8 hold a third of an image's 64 x 64 x 3 values.
"""

from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm_tutorial.landscapes.scenenet import SceneNet, SceneNetConfig
from ldm_tutorial.noise import drawn, normal_like
from ldm_tutorial.storage import built, config_from_dict, load_model, save_model
from ldm_tutorial.training.tasks import Values
from ldm_tutorial.vae import Decoder
from ldm_tutorial.vae_config import VAEConfig

STAGE = 2  # of SceneNet: 8 x 8 positions for 64 x 64 pixels, as the latents of vae-f8
NOISE = 0.8  # largest standard deviation of the noise that the decoder is trained on


class FeatureCodec(nn.Module):
    """Images (B, 3, H, W) -> features (B, C, H / 8, W / 8) of unit scale, and back.

    Args:
        channels: widths of the decoder, as in ``VAEConfig``.
    """

    kind: ClassVar[str] = "FeatureCodec"
    clip: float | None = None

    def __init__(self, channels: tuple[int, ...] = VAEConfig.channels):
        super().__init__()
        self.net = SceneNet(SceneNetConfig())
        C, self.channels = self.net.config.channels[STAGE], tuple(channels)
        self.decoder = Decoder(VAEConfig(latent_channels=C, channels=self.channels))
        self.mean: Tensor
        self.std: Tensor
        for name, value in (("mean", torch.zeros), ("std", torch.ones)):
            self.register_buffer(name, value(C, 1, 1))

    @classmethod
    def fit(cls, x: Tensor, channels: tuple[int, ...]) -> "FeatureCodec":
        """A codec with the shipped SceneNet, frozen, and the statistics of its features
        over images x."""
        codec = cls(channels).to(x.device)
        codec.net = SceneNet.load("scenenet").to(x.device)
        with torch.no_grad():
            raw = codec.net.maps(x)[STAGE]
        codec.mean.copy_(raw.mean((0, 2, 3)).view(-1, 1, 1))
        codec.std.copy_(raw.std((0, 2, 3)).view(-1, 1, 1))
        return codec

    @property
    def config(self) -> dict[str, Any]:
        return {"channels": list(self.channels)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "FeatureCodec":
        return cls(tuple(config["channels"]))

    def latent_shape(self, size: int) -> tuple[int, int, int]:
        """Shape of one encoded image of ``size`` x ``size`` pixels."""
        if size < self.net.smallest or size % self.net.smallest:
            raise ValueError(
                f"images of {size} pixels do not fit SceneNet; give a multiple of "
                f"{self.net.smallest}"
            )
        f = self.net.config.patch * 2**STAGE
        return (self.net.config.channels[STAGE], size // f, size // f)

    @torch.no_grad()
    def encode(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return (self.net.maps(x)[STAGE] - self.mean) / self.std

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z)

    def save(self, folder: str | Path) -> None:
        save_model(folder, self.kind, self.config, self.state_dict())

    @classmethod
    def load(cls, folder: str | Path) -> "FeatureCodec":
        config, tensors = load_model(folder, cls.kind)
        config = {"channels": config_from_dict(VAEConfig, config).channels}
        return built(lambda: cls.from_config(config), tensors, folder).eval()


class FeatureDecoding(nn.Module):
    """What the loop trains: the decoder, on features with some noise. A diffusion model
    will not draw features that are exact, and in so many channels small faults add up
    (Zheng et al. 2025, sec. 4)."""

    def __init__(self, codec: FeatureCodec):
        super().__init__()
        self.codec = codec

    def forward(
        self,
        x: Tensor,
        y: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Values:
        z = self.codec.encode(x)
        share = drawn(torch.rand, (len(x), 1, 1, 1), generator, x.device).to(x.device)
        noisy = z + NOISE * share * normal_like(z, generator)
        loss = F.l1_loss(self.codec.decode(noisy), x)
        return loss, {"reconstruction": loss.detach()}
