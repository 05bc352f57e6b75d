"""What makes it fast: one measure at a time, against the same work without it.

Every arm of the study times two or more ways of doing the same work, in turns, in one
process. A ratio says how many times as fast a way is as the first of its arm; one below
1 is a measure that does not pay on the machine it was taken on, and stays in the record
as it is. What a measure does to quality is not asked here.
"""

import math
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ldm_tutorial.cost.efficiency import (
    count_parameters,
)
from ldm_tutorial.cost.spaces import SPACES
from ldm_tutorial.machine import best_device
from ldm_tutorial.records import Row
from ldm_tutorial.studies.speed_loops import (
    data_path,
    loop_unet,
    loop_vae,
    now,
    sampler,
)
from ldm_tutorial.studies.speed_tasks import (
    CHUNK,
    UNET_STEP,
    VAE_STEP,
    Task,
    Ways,
    compare_steps,
    compare_ways,
    images_at_once,
    latent_task,
    noise,
    pixel_task,
    repeat,
    vae_task,
)
from ldm_tutorial.studies.study import DATA, Arm, Pictures, Scale
from ldm_tutorial.training.tasks import CachedLatentTraining, autoencoder


def cached_latents(scale: Scale) -> Row:
    """Without the cache, images must be fetched too, which is not counted."""
    return compare_steps(UNET_STEP, caching_tasks(scale), scale)


@torch.no_grad()
def caching_tasks(scale: Scale) -> dict[str, Task]:
    model = SPACES["f8"].model(DATA.size).to(best_device())
    x, y = noise(scale.ldm.batch_size, 3, DATA.size)
    q = autoencoder(model).vae.encode(x)
    moments = torch.cat([q.mu, q.logvar], dim=1)
    cached = CachedLatentTraining(deepcopy(model))
    return {
        "encoding every batch": Task(model, [(x, y)]),
        "cached latents": Task(cached, [(moments, y)]),
    }


def patch_stem_vae(scale: Scale) -> Row:
    tasks = {
        "full resolution": vae_task(scale, encoder_patch=1, decoder_patch=1),
        "patch stem": vae_task(scale),
    }
    return compare_steps(VAE_STEP, tasks, scale)


def patch_stem_unet(scale: Scale) -> Row:
    """Two UNets with as many parameters."""
    tasks = {
        "full resolution": pixel_task(scale, "pixel"),
        "patch stem": pixel_task(scale, "patch 4"),
    }
    return compare_steps("training step of a UNet on pixels", tasks, scale)


def attention_levels(scale: Scale) -> Row:
    tasks = {
        "attention at 16 x 16 and 8 x 8": latent_task(
            scale, "f4", attention_levels=(0, 1)
        ),
        "attention at 8 x 8": latent_task(scale, "f4"),
    }
    return compare_steps(
        "training step of the UNet on latents of 4 x 16 x 16", tasks, scale
    )


def wide_groups(scale: Scale) -> Row:
    """Few groups also keep convolutions fast that have their channels last."""
    narrow_groups = vae_task(scale)
    for layer in narrow_groups.module.modules():
        if isinstance(layer, nn.GroupNorm):
            layer.num_groups = math.gcd(32, layer.num_channels)
    wide = vae_task(scale)
    tasks = {
        "32 groups": narrow_groups,
        "8 groups at most": wide,
        "32 groups, channels last": narrow_groups.channels_last(),
        "8 groups at most, channels last": wide.channels_last(),
    }
    return compare_steps(VAE_STEP, tasks, scale)


def sampling_steps(scale: Scale) -> Row:
    """Time alone; how good the samples are is in the study ``samplers``."""
    model, n = (
        SPACES["f8"].model(DATA.size).to(best_device()).eval(),
        images_at_once(scale),
    )
    calls = (("ddim", 100), ("ddim", 50), ("ddim", 20), ("dpm-solver++", 15))
    ways: Ways = {
        f"{sampler} {k}": partial(model.sample, n, steps=k, sampler=sampler)
        for sampler, k in calls
    }
    return compare_ways("images from latents, decoded", ways, scale, batch=n)


def channels_last(what: str, make: Callable[[Scale], Task], scale: Scale) -> Row:
    task = make(scale)
    tasks = {"contiguous": task, "channels last": task.channels_last()}
    return compare_steps(what, tasks, scale)


def bf16(what: str, make: Callable[[Scale], Task], scale: Scale) -> Row:
    task = make(scale)
    return compare_steps(what, {"float32": task, "bf16": task.bf16()}, scale)


def compiled(scale: Scale) -> Row:
    """The first step, which waits for the compiler, is told apart from the gain. Where
    nothing could be compiled, the row says why."""
    row: Row = {"what": UNET_STEP, "batch": scale.ldm.batch_size}
    if scale.repeats < 3:
        return row | {"failed": "not tried: a compiler takes a minute at any scale"}
    tasks = {"eager": latent_task(scale), "compiled": latent_task(scale)}
    compiled: Any = tasks["compiled"].module
    compiled.model.unet.compile()
    start = now()
    try:
        # What an earlier process compiled on this machine must not shorten the wait.
        config: Any = torch.compiler.config
        with config.patch(force_disable_caches=True):
            tasks["compiled"].step()()
    except Exception as error:  # what is missing decides what is raised
        reason = next(iter(str(error).strip().splitlines()), "")
        return row | {"failed": f"{type(error).__name__}: {reason}"}
    first = now() - start
    row = compare_steps(UNET_STEP, tasks, scale)
    return row | {"compile_seconds": first - row["ways"]["compiled"]["seconds"]}


OPTIMIZERS = {
    "one tensor at a time": {"foreach": False, "fused": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}


def adamw(scale: Scale) -> Row:
    ways: Ways = {
        name: partial(repeat, adamw_step(options).step, CHUNK)
        for name, options in OPTIMIZERS.items()
    }
    unet = SPACES["f8"].model(DATA.size).unet
    more = {
        "parameters": count_parameters(unet),
        "tensors": len(list(unet.parameters())),
    }
    return compare_ways("step of AdamW for the UNet", ways, scale, CHUNK, **more)


def adamw_step(options: dict[str, Any]) -> torch.optim.AdamW:
    """The optimiser of a UNet whose gradients are there already."""
    parameters = list(SPACES["f8"].model(DATA.size).unet.to(best_device()).parameters())
    generator = torch.Generator().manual_seed(0)
    for p in parameters:
        p.grad = torch.randn(p.shape, generator=generator).to(p.device)
    return torch.optim.AdamW(parameters, **options)


MEASURES: dict[str, Callable[[Scale], Row]] = {
    "cached-latents": cached_latents,
    "patch-stem-vae": patch_stem_vae,
    "patch-stem-unet": patch_stem_unet,
    "attention-levels": attention_levels,
    "wide-groups": wide_groups,
    "sampling-steps": sampling_steps,
    "channels-last-vae": partial(channels_last, VAE_STEP, vae_task),
    "channels-last-unet": partial(channels_last, UNET_STEP, latent_task),
    "bf16-vae": partial(bf16, VAE_STEP, vae_task),
    "bf16-unet": partial(bf16, UNET_STEP, latent_task),
    "compile": compiled,
    "adamw": adamw,
    "loop-vae": loop_vae,
    "loop-vae-drawn": partial(loop_vae, drawn=True),
    "loop-unet": loop_unet,
    "sampler": sampler,
    "data": data_path,
}


def speed_arms(scale: Scale) -> dict[str, Arm]:
    return {name: partial(measure, scale, name) for name in MEASURES}


def measure(scale: Scale, name: str, folder: Path) -> tuple[Row, Pictures]:
    return MEASURES[name](scale), {}
