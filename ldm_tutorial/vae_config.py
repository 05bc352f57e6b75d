"""The shape of an autoencoder, and that of Stable Diffusion's."""

import math
from dataclasses import dataclass
from typing import Literal

from ldm_tutorial.arguments import whole, widths


@dataclass(frozen=True)
class VAEConfig:
    """Shape of an ``AutoencoderKL``.

    Attributes:
        in_channels: channels of the image.
        latent_channels: channels C of the latent.
        downsampling: f, how many times smaller the latent is per side: 2, 4, 8, 16 ...
        encoder_patch: side of the patches folded into channels before the encoder.
        decoder_patch: side of the patches unfolded after the decoder.
        channels: width at full resolution, at 1/2, at 1/4, and so on; the last one
            serves all deeper levels.
        num_res_blocks: residual blocks per level.
        mid_attention: put self-attention at the latent's resolution.
        head_channels: channels at full resolution, between the pixel shuffle and two
            convolutions that end in the image; 0 lets the pixel shuffle end in it.
        layout: "compact", or "stable-diffusion" for the blocks of diffusers'
            ``AutoencoderKL``: one residual block more per level on the way up and at
            the latent's resolution, where attention has one head; a block widens, not
            what halves the resolution; upsampling copies before it convolves.
        norm_num_groups: groups of every GroupNorm; None for at most 8 wide ones.
        quant_conv: end the encoder in a 1x1 convolution, Stable Diffusion's relic of
            vector quantisation.
        post_quant_conv: begin the decoder with one.
    """

    in_channels: int = 3
    latent_channels: int = 4
    downsampling: int = 8
    encoder_patch: int = 4
    decoder_patch: int = 2
    channels: tuple[int, ...] = (32, 64, 96, 128)
    num_res_blocks: int = 1
    mid_attention: bool = False
    head_channels: int = 0
    layout: Literal["compact", "stable-diffusion"] = "compact"
    norm_num_groups: int | None = None
    quant_conv: bool = False
    post_quant_conv: bool = False

    def __post_init__(self):
        for name in ("in_channels", "latent_channels"):
            whole(name, getattr(self, name), 1, 2**16)
        whole("num_res_blocks", self.num_res_blocks, 1, 1000)
        whole("head_channels", self.head_channels, -(2**16), 2**16)
        widths("channels", self.channels)
        for name in ("downsampling", "encoder_patch", "decoder_patch"):
            value = whole(name, getattr(self, name), -(2**10), 2**10)
            if value < 1 or value & (value - 1):
                raise ValueError(f"{name}={value}; give a power of two: 1, 2, 4, 8, 16")
        if max(self.encoder_patch, self.decoder_patch) > self.downsampling:
            raise ValueError(
                f"patches of {self.encoder_patch} and {self.decoder_patch} shrink the "
                f"image more than downsampling={self.downsampling}; give smaller ones"
            )
        if self.head_channels and self.head_channels < 2 * self.in_channels:
            raise ValueError(
                f"head_channels={self.head_channels}; give 0 for none, or "
                f"{2 * self.in_channels} or more"
            )
        if self.layout not in ("compact", "stable-diffusion"):
            raise ValueError(
                f"layout={self.layout!r}; give 'compact' or 'stable-diffusion'"
            )
        G = self.norm_num_groups
        if G is not None and (G < 1 or any(width % G for width in self.channels)):
            raise ValueError(
                f"norm_num_groups={G} does not divide channels={self.channels}; give a "
                "number that does, or None"
            )

    def width(self, level: int) -> int:
        """Channels at 1/2**level of the image's resolution."""
        return self.channels[min(level, len(self.channels) - 1)]

    def levels(self, patch: int) -> list[int]:
        """Levels a network with this patch works at, from fine to coarse."""
        return list(range(int(math.log2(patch)), int(math.log2(self.downsampling)) + 1))


STABLE_DIFFUSION = VAEConfig(
    encoder_patch=1,
    decoder_patch=1,
    channels=(128, 256, 512, 512),
    num_res_blocks=2,
    mid_attention=True,
    layout="stable-diffusion",
    norm_num_groups=32,
    quant_conv=True,
    post_quant_conv=True,
)
"""Stable Diffusion 1, 2 and XL (Rombach et al. 2022; Podell et al. 2023)."""
