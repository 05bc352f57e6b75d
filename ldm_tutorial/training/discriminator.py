"""The patch discriminator: it judges every patch of an image, not the image.

PatchGAN of Isola et al. 2017 (arXiv:1611.07004, sec. 3.2), as VQGAN and latent
diffusion train their autoencoders against it; and what keeps it from winning.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ldm_tutorial.layers import group_norm
from ldm_tutorial.noise import drawn

Norm = Literal["group", "spectral", "none"]


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Shape of a ``PatchDiscriminator``.

    Attributes:
        in_channels: channels of the image.
        channels: width of the first layer; every further one doubles it.
        num_layers: convolutions with stride 2; with 2 a judgement sees a patch of
            34 x 34 pixels, with 3 (as in VQGAN) one of 70 x 70.
        norm: group normalises what the inner layers see of each image; spectral bounds
            by how much any layer can stretch a difference (Miyato et al. 2018,
            arXiv:1802.05957); none does neither.
    """

    in_channels: int = 3
    channels: int = 32
    num_layers: int = 2
    norm: Norm = "group"

    def __post_init__(self):
        for name in ("in_channels", "channels", "num_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}; give 1 or more")
        if self.norm not in get_args(Norm):
            known = ", ".join(get_args(Norm))
            raise ValueError(f"norm={self.norm!r} is unknown; choose {known}")


class PatchDiscriminator(nn.Module):
    """Image (B, 3, H, W) in [-1, 1] -> logits (B, 1, h, w), high where it looks real.

    GroupNorm takes the place of BatchNorm: each image is judged by itself, and no
    running average changes when the generator asks for a judgement.
    """

    def __init__(self, config: DiscriminatorConfig | None = None):
        super().__init__()
        self.config = config or DiscriminatorConfig()
        width = self.config.channels
        blocks: list[nn.Module] = [conv4x4(self.config.in_channels, width, 2), leaky()]
        for stride in [2] * (self.config.num_layers - 1) + [1]:
            blocks.append(conv4x4(width, 2 * width, stride))
            if self.config.norm == "group":
                blocks.append(group_norm(2 * width))
            blocks.append(leaky())
            width *= 2
        self.blocks = nn.Sequential(*blocks)
        self.out = conv4x4(width, 1, 1)
        if self.config.norm == "spectral":
            for layer in [m for m in self.modules() if isinstance(m, nn.Conv2d)]:
                spectral_norm(layer)

    @property
    def smallest(self) -> int:
        """The least side of an image in pixels."""
        return 3 * 2**self.config.num_layers

    def forward(self, x: Tensor) -> Tensor:
        """
        Raises:
            ValueError: for images that are too small.
        """
        self.check(x)
        return self.out(self.blocks(x)).float()  # also under autocast

    def check(self, x: Tensor) -> None:
        """Raise a ValueError for what are no images, or too small ones."""
        wanted = self.config.in_channels
        if x.ndim != 4 or x.shape[1] != wanted or min(x.shape[2:]) < self.smallest:
            raise ValueError(
                f"got images of shape {tuple(x.shape)}; this discriminator wants (B, "
                f"{wanted}, H, W) with sides of {self.smallest} or more: give larger "
                "images, or adversarial_weight=0"
            )


def conv4x4(in_channels: int, out_channels: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 4, stride=stride, padding=1)


def leaky() -> nn.LeakyReLU:
    return nn.LeakyReLU(0.2)


def r1_penalty(
    discriminator: nn.Module, x: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """R1 (Mescheder et al. 2018, arXiv:1801.04406, eq. 9): the squared length of the
    gradient of a judgement with respect to the real images x (B, C, H, W) it sees, in
    the mean over all judgements.

    A critic that tells real from fake by a trifle must be steep between them; this
    makes steepness dear. One backward pass finds all gradients at once: with a random
    sign for each judgement they add up to a gradient whose squared length is, on
    average over the signs, the sum of theirs.
    """
    x = x.detach().float().requires_grad_()
    with torch.autocast(x.device.type, enabled=False):
        logits = discriminator(x)
        coin = drawn(torch.rand, logits.shape, generator, logits.device)
        signed = torch.where(coin < 0.5, logits, -logits).sum()
        (slope,) = torch.autograd.grad(signed, x, create_graph=True)
    return slope.square().sum() / logits.numel()
