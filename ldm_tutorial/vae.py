"""The autoencoder that gives latent diffusion its small, smooth space.

Encoder and decoder follow Rombach et al. 2022 (arXiv:2112.10752, sec. 3.1), with one
change that makes training affordable on a CPU: a *pixel-unshuffle stem* (Shi et al.
2016) folds patches into channels, so that no 3x3 convolution runs at full resolution.
``vae_config.STABLE_DIFFUSION`` is the shape of Stable Diffusion's own autoencoder,
without that change; ``interop.diffusers`` reads its weights.
"""

import torch
from torch import Tensor, nn

from ldm_tutorial.arguments import floating
from ldm_tutorial.gaussian import DiagonalGaussian
from ldm_tutorial.layers import (
    Attention,
    Blocks,
    Downsample,
    ResBlock,
    Upsample,
    conv3x3,
    group_norm,
)
from ldm_tutorial.vae_config import VAEConfig


class Encoder(nn.Module):
    """Image (B, 3, H, W) -> mean and logvar (B, 2C, H/f, W/f)."""

    def __init__(self, config: VAEConfig):
        super().__init__()
        patch, C = config.encoder_patch, config.latent_channels
        levels = config.levels(patch)
        width = config.width(levels[0])
        self.stem = nn.Sequential(
            nn.PixelUnshuffle(patch), conv3x3(config.in_channels * patch**2, width)
        )
        blocks: list[nn.Module] = []
        for level in levels:
            wider = config.width(level)
            if level > levels[0]:
                halve = downsample(config, width, wider)
                blocks.append(halve)
                width = halve.conv.out_channels
            for _ in range(config.num_res_blocks):
                blocks.append(resblock(config, width, wider))
                width = wider
        self.blocks = Blocks(*blocks, *middle(config, width))
        self.out = nn.Sequential(
            group_norm(width, config.norm_num_groups), nn.SiLU(), conv3x3(width, 2 * C)
        )
        self.quant_conv = nn.Conv2d(2 * C, 2 * C, 1) if config.quant_conv else None

    def forward(self, x: Tensor) -> Tensor:
        moments = self.out(self.blocks(self.stem(x)))
        return moments if self.quant_conv is None else self.quant_conv(moments)


class Decoder(nn.Module):
    """Latent (B, C, H/f, W/f) -> image (B, 3, H, W)."""

    def __init__(self, config: VAEConfig):
        super().__init__()
        patch, C = config.decoder_patch, config.latent_channels
        levels = config.levels(patch)[::-1]
        width = config.width(levels[0])
        self.post_quant_conv = nn.Conv2d(C, C, 1) if config.post_quant_conv else None
        self.stem = conv3x3(C, width)
        blocks = middle(config, width)
        for level in levels:
            narrower = config.width(level)
            if level < levels[0]:
                double = upsample(config, width, narrower)
                blocks.append(double)
                width = double.conv.out_channels
            for _ in range(config.num_res_blocks + (config.layout != "compact")):
                blocks.append(resblock(config, width, narrower))
                width = narrower
        self.blocks = Blocks(*blocks)
        self.out = nn.Sequential(
            group_norm(width, config.norm_num_groups), nn.SiLU(), *head(width, config)
        )

    @property
    def last_layer(self) -> Tensor:
        """The weight of the last convolution."""
        return [m for m in self.out if isinstance(m, nn.Conv2d)][-1].weight

    def forward(self, z: Tensor) -> Tensor:
        if self.post_quant_conv is not None:
            z = self.post_quant_conv(z)
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


@torch.no_grad()
def add_head(decoder: Decoder, plain: Decoder) -> None:
    """Give ``decoder``, which has a head, the weights of one that ends in the pixel
    shuffle, so that it paints the same images and can learn from there.

    The image goes through the head twice, as a and as -a, for silu(a) - silu(-a) = a.
    The head's other channels start as they are, and unheard.
    """
    weights = {k: v for k, v in plain.state_dict().items() if not k.startswith("out.2")}
    decoder.load_state_dict(weights, strict=False)
    old = next(m for m in plain.out if isinstance(m, nn.Conv2d))
    shuffled, inner, last = (m for m in decoder.out if isinstance(m, nn.Conv2d))
    for new, kept in zip(shuffled.parameters(), old.parameters(), strict=True):
        new[: 2 * len(kept)] = torch.cat([kept, -kept])
    one = torch.eye(last.out_channels, device=last.weight.device)
    twice = torch.cat([one, -one], 1)  # a from (silu(a), silu(-a))
    for layer, through in ((inner, torch.cat([twice, -twice])), (last, twice)):
        rows, columns = through.shape
        weight, bias = layer.parameters()
        weight[:rows] = 0
        weight[:rows, :columns, 1, 1] = through
        bias[:rows] = 0


@torch.no_grad()
def remove_checkerboard(decoder: Decoder) -> None:
    """Make the last convolution of a decoder's head deaf to a checkerboard of pixels,
    which layers that enlarge an image tend to leave (Odena et al. 2016, Distill,
    doi:10.23915/distill.00003).

    Of a signal that changes its sign from pixel to pixel, both ways, a 3x3 kernel w
    passes p = sum_ij (-1)^(i+j) w_ij times as much: its response at the frequency
    (pi, pi). Less p k, with k the outer product of (-1, 2, -1) / 4 with itself, it
    passes nothing of that; smooth surfaces stay as they are, for k adds up to zero.

    Raises:
        ValueError: for a decoder without a head, whose last convolution draws before
            the pixel shuffle and never sees a checkerboard.
    """
    if isinstance(decoder.out[-1], nn.PixelShuffle):
        raise ValueError("this decoder has no head; give vae.head_channels, such as 16")
    w = decoder.last_layer
    sign = w.new_tensor([1.0, -1.0, 1.0])
    k = w.new_tensor([-0.25, 0.5, -0.25])
    p = (w * torch.outer(sign, sign)).sum((2, 3), keepdim=True)
    w.sub_(p * torch.outer(k, k))


def middle(config: VAEConfig, width: int) -> list[nn.Module]:
    """The blocks at the latent's resolution, between encoder and decoder."""
    if config.layout == "compact":
        attention = [Attention(width)] if config.mid_attention else []
        return [*attention, resblock(config, width, width)]
    attention = [Attention(width, width, config.norm_num_groups)]
    return [
        resblock(config, width, width),
        *(attention if config.mid_attention else []),
        resblock(config, width, width),
    ]


def resblock(config: VAEConfig, in_channels: int, out_channels: int) -> ResBlock:
    return ResBlock(in_channels, out_channels, groups=config.norm_num_groups)


def downsample(config: VAEConfig, width: int, wider: int) -> Downsample:
    if config.layout == "compact":
        return Downsample(width, wider)
    return Downsample(width, width, one_sided=True)


def upsample(config: VAEConfig, width: int, narrower: int) -> Upsample:
    if config.layout == "compact":
        return Upsample(width, narrower)
    return Upsample(width, width, copy_first=True)


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
            TypeError: for images that are no tensors of floating-point numbers.
            ValueError: if the channels are wrong or f does not divide a side.
        """
        f, wanted = self.config.downsampling, self.config.in_channels
        floating("the image", x, f"(B, {wanted}, H, W) in [-1, 1]")
        fits = x.ndim == 4 and x.shape[1] == wanted and min(x.shape[2:]) >= f
        if not fits or x.shape[2] % f or x.shape[3] % f:
            raise ValueError(
                f"got images of shape {tuple(x.shape)}; this autoencoder wants "
                f"(B, {wanted}, H, W) with H and W multiples of {f}"
            )
        moments = self.encoder(x.to(self.dtype))
        mu, logvar = moments.float().chunk(2, dim=1)  # in half precision too
        return DiagonalGaussian(mu, logvar)

    def decode(self, z: Tensor) -> Tensor:
        """Images (B, in_channels, H, W) for raw latents (B, C, H/f, W/f)."""
        floating("the latent", z, f"(B, {self.config.latent_channels}, h, w)")
        if z.ndim != 4 or z.shape[1] != self.config.latent_channels:
            raise ValueError(
                f"got latents of shape {tuple(z.shape)}; this decoder wants "
                f"(B, {self.config.latent_channels}, h, w)"
            )
        return self.decoder(z.to(self.dtype))

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are kept in; images and latents may be of another."""
        return next(self.parameters()).dtype

    def forward(
        self, x: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, DiagonalGaussian]:
        """Reconstruction of ``x`` through a sampled latent, and the posterior."""
        posterior = self.encode(x)
        return self.decode(posterior.sample(generator)), posterior
