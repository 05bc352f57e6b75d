"""What the loop trains: modules whose ``forward(*batch, generator=...)`` returns a
loss and a dictionary of numbers to log."""

from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ldm_tutorial.codec import LatentCodec
from ldm_tutorial.diffusion import add_noise, random_times
from ldm_tutorial.gaussian import DiagonalGaussian
from ldm_tutorial.metrics import psnr
from ldm_tutorial.noise import normal_like
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.training.bands import band_distance
from ldm_tutorial.training.discriminator import PatchDiscriminator, r1_penalty
from ldm_tutorial.training.losses import (
    VAELossConfig,
    adaptive_weight,
    hinge_d_loss,
    hinge_g_loss,
    scale_equivariance,
    vae_loss,
)
from ldm_tutorial.training.perceptual import Alignment, FeatureDistance, load_perceptual
from ldm_tutorial.training.processes import (
    mean_over_processes,
    moments_over_processes,
    std_over_processes,
)
from ldm_tutorial.vae import AutoencoderKL

# Of the alignment loss, for the UNet as in REPA and for the encoder as in REPA-E (its
# command's proj-coeff and vae-align-proj-coeff).
ALIGNMENT_WEIGHT, ENCODER_ALIGNMENT_WEIGHT = 0.5, 1.5
STANDING = ("d_loss", "d_real", "d_fake", "r1")  # how a game of two players stands

Values = tuple[Tensor, dict[str, Tensor]]  # a loss, and what is logged beside it


class VAETraining(nn.Module):
    """What the loop trains: an autoencoder with its loss, and its discriminator if
    there is an adversarial term.

    One loss serves both players: in the autoencoder's term the discriminator's weights
    are constants, and in the discriminator's term the reconstruction is.

    The log shows how the game stands, each as a running mean over some twenty steps:
    d_loss, which is near 1 while the discriminator has to guess; d_real and d_fake, the
    mean logits, which stay close together in a game that both can win; and r1, if there
    is that penalty, over the steps that take it.

    Args:
        download: fetch the network of the perceptual loss if it is not on disk.
    """

    def __init__(self, vae: AutoencoderKL, loss: VAELossConfig, download: bool = False):
        super().__init__()
        self.vae, self.loss = vae, loss
        self.discriminator: PatchDiscriminator | None = None
        self.step: Tensor
        self.standing: Tensor
        if loss.adversarial_weight:
            shape = replace(loss.discriminator, in_channels=vae.config.in_channels)
            self.discriminator = PatchDiscriminator(shape)
            self.register_buffer("step", torch.zeros((), dtype=torch.int64))
            self.register_buffer("standing", torch.zeros(4))
        self.alignment: Alignment | None = None
        if loss.alignment_weight:
            self.alignment = Alignment(vae.config.latent_channels)
        self.steps_done = 0  # ``step`` as a number, without asking the device for it
        self.register_load_state_dict_post_hook(count_again)
        self.frozen = frozen_perceptual(loss, download)

    def check(self, x: Tensor) -> None:
        """Raise a ValueError for images that are too small for one of the losses."""
        for judge in self.frozen:
            judge.check(x)
        if self.discriminator is not None:
            self.discriminator.check(x)
        if self.loss.band_weight:
            band_distance(x, x)
        if self.loss.equivariance_weight:
            check_halves(x, 2 * self.vae.config.downsampling)
        if self.alignment is not None:
            self.alignment.check(x)

    def forward(
        self,
        x: Tensor,
        y: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Values:
        x_hat, posterior = self.vae(x, generator)
        perceptual = self.frozen[0].to(x.device) if self.frozen else None
        loss, parts = vae_loss(x_hat, x, posterior, self.loss, perceptual)
        for name, (weight, value) in self.of_the_latent(x, posterior.mode()).items():
            loss, parts[name] = loss + weight * value, value.detach()
        if self.discriminator is None or not self.training:
            return loss, parts
        more, more_parts = self.adversarial(
            self.discriminator, loss, x_hat, x, generator
        )
        self.steps_done += 1
        self.step += 1
        return loss + more, parts | more_parts

    def of_the_latent(self, x: Tensor, z: Tensor) -> dict[str, tuple[float, Tensor]]:
        """What is asked of latents z of images x for the sake of a diffusion model:
        weights and terms, by name."""
        asked, config = {}, self.loss
        if config.equivariance_weight:
            term = scale_equivariance(self.vae.decode, x, z, config.reconstruction)
            asked["equivariance"] = (config.equivariance_weight, term)
        if self.alignment is not None:
            asked["alignment"] = (config.alignment_weight, self.alignment(z, x))
        return asked

    def adversarial(
        self,
        discriminator: PatchDiscriminator,
        nll: Tensor,
        x_hat: Tensor,
        x: Tensor,
        generator: torch.Generator | None,
    ) -> Values:
        """The terms of both players, and what they are made of. The discriminator
        learns from the first step; until the start the autoencoder does not listen.

        ``nll`` may hold the KL: it does not depend on the decoder's last layer.
        """
        config, step = self.loss, self.steps_done
        real, fake = discriminator(torch.cat([x, x_hat.detach()])).chunk(2)
        total = hinge_d_loss(real, fake)
        now = {"d_loss": total, "d_real": real.mean(), "d_fake": fake.mean()}
        if config.r1_weight and step % config.r1_every == 0:
            now["r1"] = r1_penalty(discriminator, x, generator)
            total = total + config.r1_every * config.r1_weight / 2 * now["r1"]
        parts = self.running(now)
        if step >= config.adversarial_start:
            constant = {k: p.detach() for k, p in discriminator.named_parameters()}
            logits = functional_call(discriminator, constant, (x_hat,))
            g_loss = hinge_g_loss(logits)
            weight = adaptive_weight(nll, g_loss, self.vae.decoder.last_layer)
            total = total + config.adversarial_weight * weight * g_loss
            parts |= {"g_loss": g_loss.detach(), "adaptive_weight": weight}
        return total, parts

    @torch.no_grad()
    def running(self, now: dict[str, Tensor]) -> dict[str, Tensor]:
        """Running means of how the game stands; what is not measured now stays."""
        for i, name in enumerate(STANDING):
            if name in now:
                every = self.loss.r1_every if name == "r1" else 1
                seen = self.steps_done // every
                value = mean_over_processes(now[name].float())
                self.standing[i].lerp_(value, max(0.05, 1 / (1 + seen)))
        shown = STANDING if self.loss.r1_weight else STANDING[:3]
        return dict(zip(shown, self.standing.clone(), strict=False))


def count_again(training: VAETraining, _: Any) -> None:
    """After a state was loaded: how many steps it had seen."""
    if training.discriminator is not None:
        training.steps_done = int(training.step)


class CachedLatentTraining(nn.Module):
    """What the loop trains: a diffusion model on latents that were encoded once.

    The cache holds mean and logvar, so that every step samples z afresh.
    """

    def __init__(self, model: LatentDiffusion):
        super().__init__()
        self.model = model

    def forward(
        self,
        moments: Tensor,
        y: Tensor,
        *,
        generator: torch.Generator | None = None,
    ) -> Values:
        z = DiagonalGaussian(*moments.chunk(2, dim=1)).sample(generator)
        z_0 = autoencoder(self.model).normalise(z)
        return self.model.loss(z_0, y, generator=generator)


class JointTraining(nn.Module):
    """What the loop trains: an autoencoder and a diffusion model on its latents, at
    once.

    The log monitors both: the diffusion loss; reconstruction, psnr (dB) and KL; the
    standard deviation of the raw latents; and the alignment loss if there is one.

    Args:
        kind: as ``LDMRecipe.autoencoder``. The codec's mean and standard deviation
            follow the latents, but for joint, where they stay what they were.
    """

    def __init__(self, model: LatentDiffusion, kind: str, loss: VAELossConfig):
        super().__init__()
        self.model, self.kind, self.config = model, kind, loss
        autoencoder(model).vae.requires_grad_(True)
        self.perceptual = frozen_perceptual(loss)
        self.alignment: Alignment | None = None
        if kind == "joint-aligned":
            self.alignment = Alignment(model.unet.config.channels[-1])

    def forward(
        self,
        x: Tensor,
        y: Tensor,
        *,
        generator: torch.Generator | None = None,
    ) -> Values:
        codec = autoencoder(self.model)
        posterior = codec.vae.encode(x)
        raw = posterior.sample(generator)
        x_hat = codec.vae.decode(raw)
        judge = self.perceptual[0].to(x.device) if self.perceptual else None
        loss, parts = vae_loss(x_hat, x, posterior, self.config, judge)
        denoising, more = self.denoising(self.unit_scale(raw), x, y, generator)
        with torch.no_grad():
            parts |= {"psnr": psnr(x_hat, x).mean()}
            parts["latent_std"] = std_over_processes(raw)
        return loss + denoising, parts | more

    def denoising(
        self, z: Tensor, x: Tensor, y: Tensor, generator: torch.Generator | None
    ) -> Values:
        """The terms that the diffusion model brings in, for latents z of images x."""
        stops = self.kind in ("detached", "joint-aligned")
        z_0 = z.detach() if stops else z
        loss, parts = self.model.loss(z_0, y, generator=generator)
        if self.alignment is None:
            return loss, parts
        z = scaled_gradient(z, ENCODER_ALIGNMENT_WEIGHT / ALIGNMENT_WEIGHT)
        schedule = self.model.schedule
        t = random_times(z, len(schedule), generator)
        z_t = add_noise(z, normal_like(z, generator), schedule.at(t, like=z))
        h, _, _ = self.model.unet.descend(z_t, t, y)
        distance = self.alignment(h, x)
        parts["alignment"] = distance.detach()
        return loss + ALIGNMENT_WEIGHT * distance, parts

    def unit_scale(self, raw: Tensor) -> Tensor:
        """What the diffusion model is trained on."""
        codec = autoencoder(self.model)
        if self.kind == "joint":
            return codec.normalise(raw)
        mean, std = moments_over_processes(raw)
        if self.training:
            codec.follow(mean.detach(), std.detach())
        if self.kind == "detached":
            return codec.normalise(raw)
        return (raw - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)


def check_halves(x: Tensor, multiple: int) -> None:
    """Raise a ValueError for images whose latents have no half."""
    if any(side % multiple for side in x.shape[-2:]):
        raise ValueError(
            f"images of {x.shape[-1]} pixels have latents that cannot be halved; give "
            f"a size that is a multiple of {multiple}, or equivariance_weight=0"
        )


def scaled_gradient(z: Tensor, factor: float) -> Tensor:
    """z itself; gradients that pass through it are multiplied by ``factor``."""
    return z.detach() + factor * (z - z.detach())


def autoencoder(model: LatentDiffusion) -> LatentCodec:
    """The codec of a model that is trained on latents."""
    return cast(LatentCodec, model.codec)


def frozen_perceptual(
    loss: VAELossConfig, download: bool = False
) -> tuple[FeatureDistance, ...]:
    """The network of the perceptual term, if there is one. Inside a tuple it is no
    submodule of a training: it is neither trained nor saved."""
    if loss.perceptual == "none":
        return ()
    return (load_perceptual(loss.perceptual, download),)
