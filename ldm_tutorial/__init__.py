"""Latent diffusion, small enough to read and real enough to use.

Sixteen landscapes of one class, from the weights that ship:

    from ldm_tutorial import LatentDiffusion
    images = LatentDiffusion.load("ldm-f8-sharp").sample(16, y="dusk sea")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

HOMES = {
    "codec": ("LatentCodec", "PixelCodec"),
    "gaussian": ("DiagonalGaussian",),
    "pipeline": ("LatentDiffusion",),
    "schedule": ("NoiseSchedule", "ScheduleConfig"),
    "unet": ("UNet", "UNetConfig"),
    "vae": ("AutoencoderKL", "VAEConfig"),
}


def __getattr__(name: str) -> Any:
    """Names are fetched when they are asked for: torch takes seconds to import, and the
    command line can answer before."""
    for home, names in HOMES.items():
        if name in names:
            return getattr(import_module(f"ldm_tutorial.{home}"), name)
    raise AttributeError(f"module 'ldm_tutorial' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
