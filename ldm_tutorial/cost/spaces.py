"""The spaces that diffusion is compared in, each with a UNet of the same size.

Pixels, pixels folded into patches (the strong baseline: it costs no autoencoder), and
latents that are 4, 8 and 16 times smaller per side.
"""

from dataclasses import dataclass

import torch

from ldm_tutorial.codec import Codec, LatentCodec, PixelCodec
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.training.recipes import LDMRecipe, build_ldm
from ldm_tutorial.unet import UNetConfig
from ldm_tutorial.vae import AutoencoderKL, VAEConfig


@dataclass(frozen=True)
class Space:
    """What a diffusion model works on.

    Attributes:
        unet: its network.
        vae: the autoencoder that makes the latents; None for pixels.
    """

    unet: UNetConfig
    vae: VAEConfig | None = None

    def codec(self, seed: int = 0) -> Codec:
        """A codec with new weights: what it costs does not depend on them."""
        if self.vae is None:
            return PixelCodec()
        torch.manual_seed(seed)
        return LatentCodec(AutoencoderKL(self.vae)).eval()

    def model(
        self, size: int = 64, codec: Codec | None = None, seed: int = 0
    ) -> LatentDiffusion:
        """An unconditional diffusion model with new weights, for images of ``size``."""
        codec = codec or self.codec(seed)
        torch.manual_seed(seed)
        return build_ldm(LDMRecipe(size=size, unet=self.unet), codec)


def narrow(*attention: int, patch_size: int = 1) -> UNetConfig:
    """Two levels: for grids that are small already."""
    return UNetConfig(
        channels=(96, 128),
        num_res_blocks=1,
        attention_levels=attention,
        patch_size=patch_size,
    )


# 3.5 to 3.7 million parameters each, attention from 8 x 8 positions down.
SPACES = {
    "pixel": Space(
        UNetConfig(channels=(32, 64, 96, 128), num_res_blocks=1, attention_levels=(3,))
    ),
    "patch 4": Space(narrow(1, patch_size=4)),
    "f4": Space(narrow(1), VAEConfig(downsampling=4)),
    "f8": Space(narrow(0, 1), VAEConfig(downsampling=8)),
    "f16": Space(narrow(0, 1), VAEConfig(downsampling=16, latent_channels=16)),
}
