"""Other libraries' models for the same work, through their public interfaces.

Every library has a class with the same methods; a sampler gets noise (B, C, H, W) of
unit variance. The UNets have 4 to 5 million parameters each, the autoencoders f = 8 and
4 latent channels. Two of the libraries have no autoencoder: a sample of theirs is
decoded by the one of diffusers.
"""

import contextlib
import io
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, ClassVar

from torch import Tensor

from ldm_tutorial.diffusion import diffusion_loss
from ldm_tutorial.samplers import ddim, last
from ldm_tutorial.schedule import NoiseSchedule
from ldm_tutorial.training.losses import VAELossConfig, kl_loss, reconstruction_loss
from ldm_tutorial.unet import UNet, UNetConfig
from ldm_tutorial.vae import AutoencoderKL, VAEConfig

Shape = tuple[int, int, int]
Network = Any  # a module of a library: what can be done with it, only the library knows

LATENT, PIXEL = (4, 8, 8), (3, 64, 64)
SCHEDULE = NoiseSchedule.linear()  # Ho et al. 2020, as in all of the libraries


class Ours:
    """This library: the default autoencoder, and UNets of the peers' size."""

    autoencodes = True
    spaces: tuple[Shape, ...] = (LATENT, PIXEL)  # of the UNets that it has
    configs: ClassVar = {
        LATENT: UNetConfig(4, (48, 96, 160), 1, attention_levels=(1, 2)),
        PIXEL: UNetConfig(3, (32, 64, 128, 128), 1, attention_levels=(3,)),
    }

    def autoencoder(self) -> Network:
        return AutoencoderKL()

    def through(self, vae: Network, x: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction of ``x`` through a sampled latent, and the mean KL divergence
        in nats per latent element."""
        x_hat, posterior = vae(x)
        return x_hat, kl_loss(posterior)

    def decode(self, vae: Network, z: Tensor) -> Tensor:
        return vae.decode(z)

    def unet(self, shape: Shape) -> Network:
        """A new UNet for arrays of this shape, LATENT or PIXEL."""
        return UNet(self.configs[shape])

    def predict(self, unet: Network, z_t: Tensor, t: Tensor) -> Tensor:
        """The noise in ``z_t``."""
        return unet(z_t, t)

    def draw(self, unet: Network, z_T: Tensor, steps: int) -> Tensor:
        """z_0 by the library's own DDIM, eta = 0; pixels are held to [-1, 1]."""
        clip = 1.0 if z_T.shape[1:] == PIXEL else None
        return last(ddim(unet, SCHEDULE, z_T, steps=steps, clip=clip))


class Patched(Ours):
    """This library, with patches of 4 x 4 pixels folded into channels: by the UNet, and
    by encoder and decoder, which are narrower as well."""

    spaces = (PIXEL,)
    configs: ClassVar = {
        PIXEL: UNetConfig(3, (112, 128), 1, attention_levels=(1,), patch_size=4)
    }

    def autoencoder(self) -> Network:
        return AutoencoderKL(VAEConfig(decoder_patch=4, channels=(32, 64, 64, 128)))


class Diffusers:
    """https://github.com/huggingface/diffusers"""

    autoencodes = True
    spaces: tuple[Shape, ...] = (LATENT, PIXEL)
    widths: ClassVar = {LATENT: (64, 128, 128), PIXEL: (32, 64, 128, 128)}
    attends: ClassVar = {
        LATENT: (False, True, True),
        PIXEL: (False, False, False, True),
    }

    def autoencoder(self) -> Network:
        from diffusers import AutoencoderKL

        return AutoencoderKL(
            block_out_channels=(32, 64, 64, 128),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
        )

    def through(self, vae: Network, x: Tensor) -> tuple[Tensor, Tensor]:
        q = vae.encode(x).latent_dist
        return vae.decode(q.sample()).sample, q.kl().mean() / q.mean[0].numel()

    def decode(self, vae: Network, z: Tensor) -> Tensor:
        return vae.decode(z).sample

    def unet(self, shape: Shape) -> Network:
        from diffusers import UNet2DModel

        down = ["Attn" * attends + "DownBlock2D" for attends in self.attends[shape]]
        return UNet2DModel(
            sample_size=shape[1],
            in_channels=shape[0],
            out_channels=shape[0],
            layers_per_block=1,
            block_out_channels=self.widths[shape],
            down_block_types=down,
            up_block_types=[name.replace("Down", "Up") for name in down[::-1]],
        )

    def predict(self, unet: Network, z_t: Tensor, t: Tensor) -> Tensor:
        return unet(z_t, t).sample

    def draw(self, unet: Network, z_T: Tensor, steps: int) -> Tensor:
        from diffusers import DDIMScheduler

        scheduler: Any = DDIMScheduler(clip_sample=z_T.shape[1:] == PIXEL)
        scheduler.set_timesteps(steps)
        z = z_T
        for t in scheduler.timesteps:
            z = scheduler.step(unet(z, t).sample, t, z).prev_sample
        return z


class DenoisingDiffusion(Diffusers):
    """https://github.com/lucidrains/denoising-diffusion-pytorch"""

    autoencodes = False
    dims: ClassVar = {LATENT: (56, (1, 2, 2)), PIXEL: (32, (1, 2, 4, 4))}

    def unet(self, shape: Shape) -> Network:
        from denoising_diffusion_pytorch import Unet

        dim, mults = self.dims[shape]
        return Unet(dim, dim_mults=mults, channels=shape[0])

    def predict(self, unet: Network, z_t: Tensor, t: Tensor) -> Tensor:
        return unet(z_t, t)

    def draw(self, unet: Network, z_T: Tensor, steps: int) -> Tensor:
        """It draws its own z_T, and clamps latents as well."""
        from denoising_diffusion_pytorch import GaussianDiffusion

        sampler = GaussianDiffusion(
            unet,
            image_size=z_T.shape[-1],
            sampling_timesteps=steps,
            objective="pred_noise",
            beta_schedule="linear",
            auto_normalize=False,
        ).to(z_T.device)
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
            return sampler.sample(batch_size=len(z_T))


class SmallDiffusion(Diffusers):
    """https://github.com/yuanchenyang/smalldiffusion. Its arrays are z_0 + sigma eps,
    and its UNet is told sigma."""

    autoencodes = False
    attention: ClassVar = {LATENT: (4, 2), PIXEL: (8,)}  # sides
    dims: ClassVar = {LATENT: (64, (1, 2, 2)), PIXEL: (32, (1, 2, 4, 4))}

    def unet(self, shape: Shape) -> Network:
        from smalldiffusion import Unet

        C, side, _ = shape
        ch, mults = self.dims[shape]
        attention = self.attention[shape]
        return Unet(side, C, C, ch, mults, 4, 1, attention, dropout=0.0)

    def predict(self, unet: Network, z_t: Tensor, t: Tensor) -> Tensor:
        alpha_bar_t = SCHEDULE.at(t, like=z_t)
        sigma = (1 / alpha_bar_t - 1).sqrt()
        return unet(z_t / alpha_bar_t.sqrt(), sigma)

    def draw(self, unet: Network, z_T: Tensor, steps: int) -> Tensor:
        from smalldiffusion import ScheduleDDPM, samples

        sigmas = ScheduleDDPM().sample_sigmas(steps)
        return last(samples(unet, sigmas, xt=z_T * sigmas[0]))


Library = Ours | Diffusers
OURS, PATCHED = "ldm-tutorial", "ldm-tutorial, patch 4"
LIBRARIES: dict[str, type[Ours] | type[Diffusers]] = {
    OURS: Ours,
    PATCHED: Patched,
    "diffusers": Diffusers,
    "denoising-diffusion-pytorch": DenoisingDiffusion,
    "smalldiffusion": SmallDiffusion,
}
PEERS = [name for name in LIBRARIES if not name.startswith(OURS)]


def check_installed(names: Sequence[str]) -> None:
    """Raise a ValueError for a peer that is unknown or not there. With any of them
    diffusers is needed: ratios are to it."""
    if unknown := [name for name in names if name not in PEERS]:
        raise ValueError(f"no peer {unknown[0]!r}; choose from {', '.join(PEERS)}")
    needed = dict.fromkeys([*names, "diffusers"]) if names else []
    missing = [name for name in needed if find_spec(name.replace("-", "_")) is None]
    if missing:
        raise ValueError(
            f"{', '.join(missing)} not installed: pip install 'ldm-tutorial[peers]', "
            "or leave out --against"
        )


def versions(names: Sequence[str]) -> dict[str, str]:
    """Their versions."""
    return {name: version(name) for name in dict.fromkeys([*names, "diffusers"])}


def autoencoder_loss(library: Library, vae: Network, x: Tensor) -> Tensor:
    """L1 per pixel value + 1e-3 KL per latent element, this project's default."""
    x_hat, kl = library.through(vae, x)
    return reconstruction_loss(x_hat, x) + VAELossConfig.kl_weight * kl


def unet_loss(library: Library, unet: Network, z_0: Tensor) -> Tensor:
    """Mean squared error of the noise at uniform times of SCHEDULE."""
    return diffusion_loss(partial(library.predict, unet), SCHEDULE, z_0)
