"""The autoencoder that gives latent diffusion its small, smooth space.

Encoder and decoder follow Rombach et al. 2022 (arXiv:2112.10752, sec. 3.1), with one
change that makes training affordable on a CPU: a *pixel-unshuffle stem* (Shi et al.
2016) folds patches into channels, so that no 3x3 convolution runs at full resolution.
``encoder_patch=1, decoder_patch=1`` gives Stable Diffusion's own layout.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ldm_tutorial.gaussian import DiagonalGaussian
from ldm_tutorial.layers import (
    Attention,
    Downsample,
    ResBlock,
    Upsample,
    conv3x3,
    group_norm,
)


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

    def __post_init__(self):
        for name in ("downsampling", "encoder_patch", "decoder_patch"):
            value = getattr(self, name)
            if value < 1 or value & (value - 1):
                raise ValueError(f"{name}={value}; give a power of two: 1, 2, 4, 8, 16")
        if max(self.encoder_patch, self.decoder_patch) > self.downsampling:
            raise ValueError(
                f"patches of {self.encoder_patch} and {self.decoder_patch} shrink the "
                f"image more than downsampling={self.downsampling}; give smaller ones"
            )
        if self.head_channels < 0:
            raise ValueError(
                f"head_channels={self.head_channels}; give 0 for none, or some 16"
            )

    def width(self, level: int) -> int:
        """Channels at 1/2**level of the image's resolution."""
        return self.channels[min(level, len(self.channels) - 1)]

    def levels(self, patch: int) -> list[int]:
        """Levels a network with this patch works at, from fine to coarse."""
        return list(range(int(math.log2(patch)), int(math.log2(self.downsampling)) + 1))


class Encoder(nn.Module):
    """Image (B, 3, H, W) -> mean and logvar (B, 2C, H/f, W/f)."""

    def __init__(self, config: VAEConfig):
        super().__init__()
        patch = config.encoder_patch
        levels = config.levels(patch)
        width = config.width(levels[0])
        self.stem = nn.Sequential(
            nn.PixelUnshuffle(patch), conv3x3(config.in_channels * patch**2, width)
        )
        blocks: list[nn.Module] = []
        for level in levels:
            if level > levels[0]:
                blocks.append(Downsample(width, config.width(level)))
                width = config.width(level)
            blocks += [ResBlock(width, width) for _ in range(config.num_res_blocks)]
        self.blocks = nn.Sequential(*blocks, *middle(width, config.mid_attention))
        self.out = nn.Sequential(
            group_norm(width), nn.SiLU(), conv3x3(width, 2 * config.latent_channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.blocks(self.stem(x)))


class Decoder(nn.Module):
    """Latent (B, C, H/f, W/f) -> image (B, 3, H, W)."""

    def __init__(self, config: VAEConfig):
        super().__init__()
        patch = config.decoder_patch
        levels = config.levels(patch)[::-1]
        width = config.width(levels[0])
        self.stem = conv3x3(config.latent_channels, width)
        blocks: list[nn.Module] = [*middle(width, config.mid_attention)]
        for level in levels:
            if level < levels[0]:
                blocks.append(Upsample(width, config.width(level)))
                width = config.width(level)
            blocks += [ResBlock(width, width) for _ in range(config.num_res_blocks)]
        self.blocks = nn.Sequential(*blocks)
        self.out = nn.Sequential(group_norm(width), nn.SiLU(), *head(width, config))

    @property
    def last_layer(self) -> Tensor:
        """The weight of the last convolution."""
        return [m for m in self.out if isinstance(m, nn.Conv2d)][-1].weight

    def forward(self, z: Tensor) -> Tensor:
        return self.out(self.blocks(self.stem(z)))


def head(width: int, config: VAEConfig) -> list[nn.Module]:
    """From ``width`` channels at 1/decoder_patch of the resolution to the image.

    A pixel shuffle that ends in the image draws what stands between the pixels of a
    patch by one convolution that never saw them side by side. With ``head_channels``
    two cheap convolutions at full resolution follow, which do.
    """
    channels, patch, k = config.in_channels, config.decoder_patch, config.head_channels
    if not k:
        return [conv3x3(width, channels * patch**2), nn.PixelShuffle(patch)]
    return [
        equal_subpixels(conv3x3(width, k * patch**2), patch),
        nn.PixelShuffle(patch),
        nn.SiLU(),
        conv3x3(k, k),
        nn.SiLU(),
        conv3x3(k, channels),
    ]


def equal_subpixels(conv: nn.Conv2d, patch: int) -> nn.Conv2d:
    """Give all patch^2 pixels that a pixel shuffle makes of one the same weights, so
    that training starts without a checkerboard (Aitken et al. 2017, arXiv:1707.02937,
    sec. 3.2)."""
    with torch.no_grad():
        for p in conv.parameters():
            p.copy_(p[:: patch**2].repeat_interleave(patch**2, dim=0))
    return conv


def middle(width: int, attention: bool) -> list[nn.Module]:
    """The blocks at the latent's resolution, between encoder and decoder."""
    return [*([Attention(width)] if attention else []), ResBlock(width, width)]


class AutoencoderKL(nn.Module):
    """Encoder and decoder with a Gaussian latent between them.

    The latent that ``encode`` gives is *raw*: bringing it to unit scale is the work of
    ``LatentCodec``.
    """

    def __init__(self, config: VAEConfig | None = None):
        super().__init__()
        self.config = config or VAEConfig()
        self.encoder = Encoder(self.config)
        self.decoder = Decoder(self.config)

    def encode(self, x: Tensor) -> DiagonalGaussian:
        """q(z | x) for images (B, in_channels, H, W) in [-1, 1].

        Raises:
            ValueError: if the channels are wrong or f does not divide a side.
        """
        f, wanted = self.config.downsampling, self.config.in_channels
        if x.ndim != 4 or x.shape[1] != wanted or x.shape[2] % f or x.shape[3] % f:
            raise ValueError(
                f"got images of shape {tuple(x.shape)}; this autoencoder wants "
                f"(B, {wanted}, H, W) with H and W multiples of {f}"
            )
        mu, logvar = self.encoder(x).float().chunk(2, dim=1)  # also under autocast
        return DiagonalGaussian(mu, logvar)

    def decode(self, z: Tensor) -> Tensor:
        """Images (B, in_channels, H, W) for raw latents (B, C, H/f, W/f)."""
        if z.ndim != 4 or z.shape[1] != self.config.latent_channels:
            raise ValueError(
                f"got latents of shape {tuple(z.shape)}; this decoder wants "
                f"(B, {self.config.latent_channels}, h, w)"
            )
        return self.decoder(z)

    def forward(
        self, x: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, DiagonalGaussian]:
        """Reconstruction of ``x`` through a sampled latent, and the posterior."""
        posterior = self.encode(x)
        return self.decode(posterior.sample(generator)), posterior
