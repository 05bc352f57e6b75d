"""The study ``latent_study``: which latents are easy to diffuse?

The same small flow model on latents of several kinds, and how well each is given back.
``plain`` goes on with ``vae-f8`` for some steps on its own loss, ``equivariant`` and
``aligned`` for as many with one term more. ``c4``, ``c8`` and ``c16`` are trained from
nothing and differ in their channels. ``features`` are SceneNet's; ``features-shift``
has its times moved towards the noise, as the number of its channels asks for.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ldm_tutorial.codec import Codec
from ldm_tutorial.data import whole
from ldm_tutorial.evaluation.batched import in_batches
from ldm_tutorial.evaluation.latents import radial_spectrum
from ldm_tutorial.evaluation.reports import evaluate_codec
from ldm_tutorial.flow import FlowMatching
from ldm_tutorial.machine import best_device
from ldm_tutorial.metrics import psnr
from ldm_tutorial.records import Row
from ldm_tutorial.storage import config_to_dict
from ldm_tutorial.studies.feature_codec import FeatureCodec, FeatureDecoding
from ldm_tutorial.studies.study import (
    DATA,
    Arm,
    Pictures,
    Scale,
    done,
    held_out,
    ldm_recipe,
    sample_pictures,
    train_small_ldm,
    trained_vae,
)
from ldm_tutorial.training.loop import train
from ldm_tutorial.training.losses import VAELossConfig
from ldm_tutorial.training.recipes import VAERecipe
from ldm_tutorial.vae_config import VAEConfig

# of the losses that fine-tune vae-f8
TUNED: dict[str, dict[str, Any]] = {
    "plain": {},
    "equivariant": {"equivariance_weight": 1.0},
    "aligned": {"alignment_weight": 0.1},
}
HEADLINE = ("plain", "equivariant")  # get several seeds
CHANNELS = (4, 8, 16)
# Zheng et al. (2025, eq. 8) shift times by the root of how many times more numbers
# there are; here than in the 4 x 8 x 8 of vae-f8.
SHIFTS = {"features": 1.0, "features-shift": 4.0}


def latent_arms(scale: Scale) -> dict[str, Arm]:
    arms: dict[str, Arm] = {
        f"{name}-seed{seed}": partial(diffuse_tuned, scale, name, seed)
        for name in TUNED
        for seed in range(scale.seeds if name in HEADLINE else 1)
    }
    arms |= {f"c{C}": partial(diffuse_channels, scale, C) for C in CHANNELS}
    return arms | {
        name: partial(diffuse_features, scale, shift) for name, shift in SHIFTS.items()
    }


def tuned_recipe(scale: Scale, name: str, seed: int = 0) -> VAERecipe:
    steps = max(1, scale.vae.steps * 3 // 5)
    train = replace(scale.vae, steps=steps, learning_rate=5e-4, seed=seed)
    loss = VAELossConfig(**TUNED[name])
    return VAERecipe(length=scale.images, init="vae-f8", loss=loss, train=train)


def diffuse_tuned(
    scale: Scale, name: str, seed: int, folder: Path
) -> tuple[Row, Pictures]:
    recipe = tuned_recipe(scale, name, seed)
    codec = trained_vae(recipe, folder / "vae")
    described = {"vae": config_to_dict(recipe)}
    return diffuse(scale, codec, described, folder, seed)


def diffuse_channels(scale: Scale, C: int, folder: Path) -> tuple[Row, Pictures]:
    recipe = VAERecipe(
        length=scale.images,
        vae=VAEConfig(channels=scale.channels, latent_channels=C),
        train=scale.vae,
    )
    codec = trained_vae(recipe, folder / "vae")
    return diffuse(scale, codec, {"vae": config_to_dict(recipe)}, folder)


def diffuse_features(scale: Scale, shift: float, folder: Path) -> tuple[Row, Pictures]:
    """Both arms of features share the codec."""
    shared = folder.parent / "shared" / "features"
    codec = done(FeatureCodec, shared)
    if codec is None:
        images: Any = DATA.load("train", scale.images)
        torch.manual_seed(scale.vae.seed)
        x = whole(images, 1024)[0].to(best_device())
        codec = FeatureCodec.fit(x, scale.channels)
        train(FeatureDecoding(codec), images, scale.vae, shared)
        codec.save(shared)
    described = {"features": config_to_dict(scale.vae)}
    return diffuse(scale, codec, described, folder, shift=shift)


def diffuse(
    scale: Scale,
    codec: Codec,
    described: dict[str, Any],
    folder: Path,
    seed: int = 0,
    shift: float = 1.0,
) -> tuple[Row, Pictures]:
    """What a codec keeps, what its latents are like, and what the same diffusion model
    draws with them."""
    objective: Any = FlowMatching(shift=shift)
    train = replace(scale.ldm, seed=seed)
    recipe = ldm_recipe(scale, objective=objective, train=train)
    quality, model = train_small_ldm(codec, scale, folder / "ldm", recipe)
    codec = model.codec
    C, h, w = codec.latent_shape(DATA.size)
    row = {
        "recipe": described | {"ldm": config_to_dict(recipe)},
        "seed": seed,
        "latent_channels": C,
        "values": C * h * w,
        "reconstruction": evaluate_codec(codec, DATA, scale.judged),
        "latents": look_at_latents(codec, scale.judged),
        "samples": quality,
    }
    return row, {"sample": sample_pictures(model, scale.steps)} if seed == 0 else {}


@torch.no_grad()
def look_at_latents(codec: Any, n: int) -> dict[str, Any]:
    """The power at each frequency, relative to that at one cycle, and how well half a
    latent decodes to half an image (dB), over ``n`` held-out images."""
    x, device = held_out(n), best_device()
    encode = partial(codec.encode, generator=torch.Generator(device).manual_seed(0))
    z = in_batches(lambda part: encode(part.to(device)).cpu(), x)
    power = radial_spectrum(z)

    def half(x: Tensor, z: Tensor) -> Tensor:
        small = codec.decode(F.avg_pool2d(z.to(device), 2)).cpu()
        return psnr(small, F.avg_pool2d(x, 2))

    return {
        "spectrum": (power / power[1]).tolist(),
        "half_psnr": float(in_batches(half, x, z).mean()),
    }
