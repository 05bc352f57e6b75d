"""The study ``kl_study``: which KL weight gives latents that a diffusion model can use.

Seven autoencoders that differ in the KL weight alone, what their latents look like, and
the same small diffusion model trained on each.
"""

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ldm_tutorial.codec import LatentCodec
from ldm_tutorial.evaluation import latents
from ldm_tutorial.records import Row
from ldm_tutorial.storage import config_to_dict
from ldm_tutorial.studies.study import (
    DATA,
    SHOWN,
    Arm,
    Pictures,
    Scale,
    describe_vae,
    held_out,
    ldm_recipe,
    reconstructed,
    sample_pictures,
    train_small_ldm,
    trained_vae,
    vae_recipe,
)
from ldm_tutorial.training.losses import kl_weight_from

# Stable Diffusion's weight, in our unit: nats per element against the mean error.
STABLE_DIFFUSION = kl_weight_from("sums", 1e-6, 3 * 256 * 256, 4 * 32 * 32)
WEIGHTS = (0.0, STABLE_DIFFUSION, 1e-4, 1e-3, 1e-2, 1e-1, 10.0)
NOISE = (0.05, 0.1, 0.2, 0.4, 0.8)


def kl_arms(scale: Scale) -> dict[str, Arm]:
    return {
        f"kl-{weight:.2g}": partial(train_at_weight, scale, weight)
        for weight in WEIGHTS
    }


def train_at_weight(scale: Scale, weight: float, folder: Path) -> tuple[Row, Pictures]:
    recipe = vae_recipe(scale, kl_weight=weight)
    codec = trained_vae(recipe, folder / "vae")
    diffusion = ldm_recipe(scale)
    quality, model = train_small_ldm(codec, scale, folder / "ldm", diffusion)
    row = {
        "recipe": {"vae": config_to_dict(recipe), "ldm": config_to_dict(diffusion)},
        "kl_weight": weight,
    }
    row |= describe_vae(codec, scale, recipe.train)
    row |= {"latents": describe_latents(codec, scale.judged), "samples": quality}
    return row, {
        "reconstruction": reconstructed(codec),
        "dream": prior_samples(codec),
        "walk": interpolation(codec),
        "sample": sample_pictures(model, scale.steps),
    }


@torch.no_grad()
def describe_latents(codec: LatentCodec, n: int) -> Row:
    """What the latents of held-out images look like."""
    generator = torch.Generator().manual_seed(0)
    x = held_out(n)
    q = codec.vae.encode(x)
    raw = q.sample(generator)
    z = codec.normalise(raw)
    return {
        "nats": float(q.kl().mean()),
        "active": latents.active_units(q),
        "sigma": float(q.std.mean()),
        "raw": latents.moments(raw),
        "std_per_channel": codec.std.flatten().tolist(),
        "unit": latents.moments(z),
        "correlations": latents.correlations(z),
        "spectrum": latents.radial_spectrum(z).tolist(),
        "noise": list(NOISE),
        "psnr_under_noise": latents.decode_under_noise(
            codec, z[:128], NOISE, generator
        ),
    }


@torch.no_grad()
def prior_samples(codec: LatentCodec) -> Tensor:
    """Decoded draws from the prior N(0, I), the same draws for every codec."""
    shape = codec.latent_shape(DATA.size)
    z = torch.randn(SHOWN, *shape, generator=torch.Generator().manual_seed(0))
    return codec.vae.decode(z)


@torch.no_grad()
def interpolation(codec: LatentCodec) -> Tensor:
    """From one held-out image to the next, along a sphere."""
    a, b = codec.normalise(codec.vae.encode(held_out(2)).mode())
    steps = torch.linspace(0, 1, SHOWN).tolist()
    return codec.decode(torch.stack([latents.slerp(a, b, t) for t in steps]))
