"""The study ``cost_growth``: how a training step grows with the size of the images."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ldm_tutorial.cost.efficiency import (
    activation_bytes,
    count_flops,
    time_side_by_side,
    training_step,
)
from ldm_tutorial.cost.spaces import SPACES
from ldm_tutorial.layers import Attention
from ldm_tutorial.machine import best_device
from ldm_tutorial.records import Row
from ldm_tutorial.studies.study import (
    DATA,
    Arm,
    Pictures,
    Scale,
    loss_alone,
)
from ldm_tutorial.unet import UNet

SIZES = (32, 64, 128, 256)


def growth_arms(scale: Scale) -> dict[str, Arm]:
    return {
        str(size): partial(time_at_size, scale, size) for size in SIZES[: scale.sizes]
    }


def time_at_size(scale: Scale, size: int, folder: Path) -> tuple[Row, Pictures]:
    """A training step in each space at one size, per image."""
    batch = max(1, 8 * DATA.size**2 // size**2)
    device = best_device()
    t = torch.zeros(batch, dtype=torch.int64, device=device)
    calls: dict[str, Callable[[], Any]] = {}
    row: dict[str, dict[str, Any]] = {}
    for name, space in SPACES.items():
        model = space.model(size).to(device)
        z = torch.randn(batch, *model.codec.latent_shape(size), device=device)
        loss = partial(model.loss, z, t)
        calls[name] = training_step(model.unet, partial(loss_alone, loss))
        row[name] = {
            "gflops": count_flops(partial(model.unet, z, t)) / batch / 1e9,
            "attention_gflops": attention_flops(model.unet, z, t) / batch / 1e9,
            "megabytes": activation_bytes(model.unet, z, t) / batch / 1e6,
        }
    for name, timing in time_side_by_side(calls, scale.repeats).items():
        row[name]["seconds"] = timing.median / batch
        row[name]["spread"] = [s / batch for s in timing.spread]
    return {"size": size, "batch_size": batch, "spaces": row}, {}


def attention_flops(unet: UNet, z: Tensor, t: Tensor) -> int:
    """What the attention layers take of a call."""
    inputs: list[tuple[Attention, Tensor]] = []
    layers = [layer for layer in unet.modules() if isinstance(layer, Attention)]
    hooks = [
        layer.register_forward_pre_hook(lambda layer, x: inputs.append((layer, x[0])))
        for layer in layers
    ]
    with torch.no_grad():
        unet(z, t)
    for hook in hooks:
        hook.remove()
    return sum(count_flops(partial(layer, x)) for layer, x in inputs)
