"""Latent diffusion, small enough to read and real enough to use.

Sixteen landscapes of one class, from the weights that ship:

    from ldm_tutorial import LatentDiffusion
    images = LatentDiffusion.load("ldm-f8").sample(16, y="dusk sea")
"""

from ldm_tutorial.codec import LatentCodec, PixelCodec
from ldm_tutorial.gaussian import DiagonalGaussian
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.schedule import NoiseSchedule, ScheduleConfig
from ldm_tutorial.unet import UNet, UNetConfig
from ldm_tutorial.vae import AutoencoderKL, VAEConfig

__version__ = "0.1.0"

__all__ = [
    "AutoencoderKL",
    "DiagonalGaussian",
    "LatentCodec",
    "LatentDiffusion",
    "NoiseSchedule",
    "PixelCodec",
    "ScheduleConfig",
    "UNet",
    "UNetConfig",
    "VAEConfig",
]
