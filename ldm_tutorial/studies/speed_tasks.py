"""What the study ``speed`` times: training steps as tasks, and its rows."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from ldm_tutorial.cost.efficiency import Timing, time_side_by_side
from ldm_tutorial.cost.spaces import SPACES
from ldm_tutorial.machine import best_device
from ldm_tutorial.records import Row
from ldm_tutorial.studies.study import DATA, Scale
from ldm_tutorial.training.config import TrainConfig
from ldm_tutorial.training.losses import VAELossConfig
from ldm_tutorial.training.tasks import CachedLatentTraining, VAETraining
from ldm_tutorial.vae import AutoencoderKL, VAEConfig

CHUNK = 8  # training steps, or steps of the optimiser, that are timed at once

VAE_STEP = "training step of the autoencoder"

UNET_STEP = "training step of the UNet on latents of 4 x 8 x 8"

Ways = dict[str, Callable[[], Any]]
Batch = tuple[Tensor, ...]


def timing_rows(timings: dict[str, Timing], calls: int = 1) -> dict[str, Row]:
    """For each way: seconds (the median, of one of the ``calls`` that were timed at
    once), the fastest and the slowest, and how many times as fast as the first way it
    is: by the medians, and at least and at most in any one turn."""
    first, *_ = timings.values()
    rows = {}
    for name, timing in timings.items():
        turns = [a / b for a, b in zip(first.seconds, timing.seconds, strict=True)]
        fastest, slowest = timing.spread
        rows[name] = {
            "seconds": timing.median / calls,
            "fastest": fastest / calls,
            "slowest": slowest / calls,
            "ratio": first.median / timing.median,
            "ratio_least": min(turns),
            "ratio_most": max(turns),
        }
    return rows


def compare_ways(
    what: str, ways: Ways, scale: Scale, calls: int = 1, **more: Any
) -> Row:
    """The row of an arm: its ways side by side."""
    timings = time_side_by_side(ways, scale.repeats)
    row = {"what": what, "repeats": scale.repeats} | more
    return row | {"ways": timing_rows(timings, calls)}


@dataclass(frozen=True)
class Task:
    """A module as the training loop takes it, and batches for it."""

    module: nn.Module
    batches: list[Batch]
    precision: Literal["no", "bf16"] = "no"

    def step(self) -> Callable[[], Tensor]:
        """A bare training step, which returns its loss."""
        return bare_step(self.module, self.batches, self.precision)

    def channels_last(self) -> "Task":
        """The same with the channels of a pixel beside each other in memory."""
        last = {"memory_format": torch.channels_last}
        batches: list[tuple[Tensor, ...]]
        batches = [(x.contiguous(**last), y) for x, y in self.batches]
        return replace(self, module=deepcopy(self.module).to(**last), batches=batches)

    def bf16(self) -> "Task":
        """The same under autocast to bfloat16."""
        return replace(self, module=deepcopy(self.module), precision="bf16")


def bare_step(
    module: nn.Module, batches: list[Batch], precision: str = "no"
) -> Callable[[], Tensor]:
    """A training step with nothing around it: loss, gradient, clipping, fused AdamW."""
    device = batches[0][0].device
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)
    generator = torch.Generator(device).manual_seed(0)
    following = cycle(batches)
    autocast: AbstractContextManager[Any] = nullcontext()
    if precision == "bf16":
        autocast = torch.autocast(device.type, torch.bfloat16)
    module.train()

    def step() -> Tensor:
        with autocast:
            loss, _ = module(*next(following), generator=generator)
        loss.backward()
        clip_grad_norm_(parameters, TrainConfig.gradient_clip)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step


def noise(batch: int, channels: int, size: int) -> Batch:
    """What has the shape of images and classes: the time does not depend on more."""
    x = torch.randn(batch, channels, size, size, device=best_device())
    return x, torch.zeros(batch, dtype=torch.int64, device=x.device)


def vae_task(scale: Scale, **shape: Any) -> Task:
    """An autoencoder on images; ``shape`` are fields of VAEConfig."""
    torch.manual_seed(0)
    vae = AutoencoderKL(VAEConfig(channels=scale.channels, **shape))
    module = VAETraining(vae.to(best_device()), VAELossConfig())
    return Task(module, [noise(scale.vae.batch_size, 3, DATA.size)])


def latent_task(scale: Scale, name: str = "f8", **shape: Any) -> Task:
    """A UNet on the moments of latents that were encoded before; ``shape`` are fields
    of UNetConfig."""
    space = SPACES[name]
    space = replace(space, unet=replace(space.unet, **shape))
    model = space.model(DATA.size).to(best_device())
    C, h, _ = model.codec.latent_shape(DATA.size)
    batch = noise(scale.ldm.batch_size, 2 * C, h)
    return Task(CachedLatentTraining(model), [batch])


def pixel_task(scale: Scale, name: str) -> Task:
    """A UNet on images, a quarter as many."""
    model = SPACES[name].model(DATA.size).to(best_device())
    return Task(model, [noise(scale.ldm.batch_size // 4, 3, DATA.size)])


def compare_steps(what: str, tasks: dict[str, Task], scale: Scale) -> Row:
    """The row of an arm whose ways are training steps."""
    ways = {name: task.step() for name, task in tasks.items()}
    parameters = {
        name: trainable_parameters(task.module) for name, task in tasks.items()
    }
    batch = len(next(iter(tasks.values())).batches[0][0])
    return compare_ways(what, ways, scale, batch=batch, parameters=parameters)


def trainable_parameters(module: nn.Module) -> int:
    """Parameters without those of a frozen autoencoder."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def images_at_once(scale: Scale) -> int:
    """Images that are images_at_once at once."""
    return scale.vae.batch_size // 2


def repeat(function: Callable[[], Any], times: int) -> None:
    for _ in range(times):
        function()
