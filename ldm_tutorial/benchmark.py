"""What latent and pixel diffusion cost, side by side."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ldm_tutorial.codec import LatentCodec, PixelCodec
from ldm_tutorial.efficiency import (
    activation_bytes,
    count_flops,
    count_parameters,
    peak_bytes,
    time_side_by_side,
)
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.recipes import LDMRecipe, best_device, build_ldm
from ldm_tutorial.unet import UNetConfig

# Three models of about the same number of parameters: on pixels, on pixels in patches,
# and on latents.
BENCHMARK = {
    "pixel": UNetConfig(
        channels=(32, 64, 96, 128), num_res_blocks=1, attention_levels=(3,)
    ),
    "patch 4": UNetConfig(
        channels=(96, 128), num_res_blocks=1, attention_levels=(1,), patch_size=4
    ),
    "latent": UNetConfig(channels=(96, 128), num_res_blocks=1),
}


def benchmark(
    codec: LatentCodec, size: int = 64, batch_size: int = 8, repeats: int = 5
) -> dict[str, dict[str, float]]:
    """What latent and pixel diffusion cost, measured in turns in one run, for the
    models of BENCHMARK.

    parameters: of the UNet; gflops: of the UNet for one image; train_seconds: median of
    a training step for a batch; train_megabytes: what its forward pass keeps;
    sample_seconds, sample_megabytes: median and most memory held for drawing a batch
    in ten steps, decoder included.
    """
    device = best_device()
    models = {}
    for name, unet in BENCHMARK.items():
        torch.manual_seed(0)
        space = codec if name == "latent" else PixelCodec()
        models[name] = build_ldm(LDMRecipe(size=size, unet=unet), space).to(device)
    report: dict[str, dict[str, float]] = {}
    calls: dict[str, Callable[[], Any]] = {}
    t = torch.zeros(batch_size, dtype=torch.int64, device=device)
    for name, model in models.items():
        z = torch.randn(batch_size, *model.codec.latent_shape(size), device=device)
        sampling = partial(model.sample, batch_size, steps=10)
        calls[f"{name} train_seconds"] = partial(training_step, model, z, t)
        calls[f"{name} sample_seconds"] = sampling
        report[name] = {
            "parameters": count_parameters(model.unet),
            "gflops": count_flops(partial(model.unet, z[:1], t[:1])) / 1e9,
            "train_megabytes": activation_bytes(model.unet, z, t) / 1e6,
            "sample_megabytes": peak_bytes(sampling) / 1e6,
        }
    for name, timing in time_side_by_side(calls, repeats).items():
        model_name, _, what = name.rpartition(" ")
        report[model_name][what] = timing.median
    return report


def training_step(model: LatentDiffusion, z: Tensor, y: Tensor) -> None:
    """Loss and gradients of a batch of encoded images."""
    model.loss(z, y)[0].backward()
    model.zero_grad()
