"""What a training at the scale of Stable Diffusion costs with the course's modules.

Operations are counted by torch on arrays without values (the device "meta"), so a
network of any size is counted on a laptop.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ldm_tutorial.cost.efficiency import count_flops
from ldm_tutorial.unet import UNet, UNetConfig
from ldm_tutorial.vae import AutoencoderKL
from ldm_tutorial.vae_config import STABLE_DIFFUSION

A100_PEAK = 312e12  # operations a second in bfloat16, of NVIDIA's data sheet

# The UNet of Stable Diffusion 1 without its reading of text: widths, residual blocks
# and levels with attention of v1-inference.yaml in CompVis/stable-diffusion.
SD_UNET = UNetConfig(
    in_channels=4,
    channels=(320, 640, 1280, 1280),
    num_res_blocks=2,
    attention_levels=(0, 1, 2),
)


@dataclass(frozen=True)
class Phase:
    """A stretch of a training: so many steps on images of so many pixels."""

    steps: int
    image_size: int
    batch_size: int = 2048


# Stable Diffusion 1.1, on from it 1.2, and on from that 1.3: steps, sizes and the batch
# (32 x 8 x 2 x 4 images) of its model card, Stable_Diffusion_v1_Model_Card.md there.
SD_V1 = (
    Phase(237_000, 256),
    Phase(194_000, 512),
    Phase(515_000, 512),
    Phase(195_000, 512),
)


@dataclass(frozen=True)
class Bill:
    """What a training asks for.

    Attributes:
        images: images seen, each as often as it is seen.
        denoiser: operations of the UNet, forward and backward.
        encoder: operations of the encoder, forward, at every step anew.
    """

    images: int
    denoiser: int
    encoder: int

    def gpu_hours(self, share: float, peak: float = A100_PEAK, cached: bool = False):
        """Hours on one accelerator of ``peak`` operations a second that achieves a
        ``share`` of them; ``cached`` latents were encoded before.

        Raises:
            ValueError: for a share that is not above 0 and at most 1.
        """
        if not 0 < share <= 1:
            raise ValueError(f"share={share}; give more than 0 and at most 1")
        total = self.denoiser + (0 if cached else self.encoder)
        return total / (peak * share) / 3600


def bill(phases: Sequence[Phase] = SD_V1, unet: UNetConfig = SD_UNET) -> Bill:
    """The bill of a latent diffusion model with Stable Diffusion's autoencoder. A
    backward pass is counted as two forward passes."""
    seen: dict[int, int] = {}
    for phase in phases:
        images = phase.steps * phase.batch_size
        seen[phase.image_size] = seen.get(phase.image_size, 0) + images
    denoiser = encoder = 0
    for size, images in seen.items():
        of_unet, of_encoder = forward_flops(unet, size)
        denoiser += 3 * of_unet * images
        encoder += of_encoder * images
    return Bill(sum(seen.values()), denoiser, encoder)


def forward_flops(unet: UNetConfig, image_size: int) -> tuple[int, int]:
    """Operations of one forward pass of the UNet, and of the encoder, for one image."""
    with torch.device("meta"), torch.no_grad():
        network, vae = UNet(unet), AutoencoderKL(STABLE_DIFFUSION)
        side = image_size // STABLE_DIFFUSION.downsampling
        z, t = torch.empty(1, unet.in_channels, side, side), torch.zeros(1)
        x = torch.empty(1, STABLE_DIFFUSION.in_channels, image_size, image_size)
        return (
            count_flops(lambda: network(z, t.long())),
            count_flops(lambda: vae.encode(x)),
        )
