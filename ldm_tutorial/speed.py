"""What makes it fast: one measure at a time, against the same work without it.

Every arm of the study times two or more ways of doing the same work, in turns, in one
process. A ratio says how many times as fast a way is as the first of its arm; one below
1 is a measure that does not pay on the machine it was taken on, and stays in the record
as it is. What a measure does to quality is not asked here.
"""

import math
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader, Dataset, TensorDataset

from ldm_tutorial.efficiency import (
    Timing,
    count_parameters,
    synchronize,
    time_side_by_side,
)
from ldm_tutorial.losses import VAELossConfig
from ldm_tutorial.recipes import (
    CachedLatentTraining,
    VAETraining,
    best_device,
    whole,
)
from ldm_tutorial.spaces import SPACES
from ldm_tutorial.study import DATA, Arm, Pictures, Row, Scale
from ldm_tutorial.training import TrainConfig, train
from ldm_tutorial.vae import AutoencoderKL, VAEConfig

Ways = dict[str, Callable[[], Any]]
Batch = tuple[Tensor, ...]

CHUNK = 8  # training steps, or steps of the optimiser, that are timed at once


# --- rows -----------------------------------------------------------------------------


def compare(timings: dict[str, Timing], calls: int = 1) -> dict[str, Row]:
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


def timed(what: str, ways: Ways, scale: Scale, calls: int = 1, **more: Any) -> Row:
    """The row of an arm: its ways side by side."""
    timings = time_side_by_side(ways, scale.repeats)
    row = {"what": what, "repeats": scale.repeats} | more
    return row | {"ways": compare(timings, calls)}


# --- the work -------------------------------------------------------------------------


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
    autocast = nullcontext()
    if precision == "bf16":
        autocast = torch.autocast(device.type, torch.bfloat16)
    module.train()

    def step() -> Tensor:
        with autocast:
            loss, _ = module(*next(following), generator)
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


def vae_task(scale: Scale, **shape: int) -> Task:
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


def steps(what: str, tasks: dict[str, Task], scale: Scale) -> Row:
    """The row of an arm whose ways are training steps."""
    ways = {name: task.step() for name, task in tasks.items()}
    parameters = {name: trained(task.module) for name, task in tasks.items()}
    batch = len(next(iter(tasks.values())).batches[0][0])
    return timed(what, ways, scale, batch=batch, parameters=parameters)


def trained(module: nn.Module) -> int:
    """Parameters without those of a frozen autoencoder."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


VAE_STEP = "training step of the autoencoder"
UNET_STEP = "training step of the UNet on latents of 4 x 8 x 8"


# --- what is computed -----------------------------------------------------------------


def cached_latents(scale: Scale) -> Row:
    """Without the cache, images must be fetched too, which is not counted."""
    return steps(UNET_STEP, caching_tasks(scale), scale)


@torch.no_grad()
def caching_tasks(scale: Scale) -> dict[str, Task]:
    model = SPACES["f8"].model(DATA.size).to(best_device())
    x, y = noise(scale.ldm.batch_size, 3, DATA.size)
    q = model.codec.vae.encode(x)
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
    return steps(VAE_STEP, tasks, scale)


def patch_stem_unet(scale: Scale) -> Row:
    """Two UNets with as many parameters."""
    tasks = {
        "full resolution": pixel_task(scale, "pixel"),
        "patch stem": pixel_task(scale, "patch 4"),
    }
    return steps("training step of a UNet on pixels", tasks, scale)


def attention_levels(scale: Scale) -> Row:
    tasks = {
        "attention at 16 x 16 and 8 x 8": latent_task(
            scale, "f4", attention_levels=(0, 1)
        ),
        "attention at 8 x 8": latent_task(scale, "f4"),
    }
    return steps("training step of the UNet on latents of 4 x 16 x 16", tasks, scale)


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
    return steps(VAE_STEP, tasks, scale)


def sampling_steps(scale: Scale) -> Row:
    """Time alone; how good the samples are is in the study ``samplers``."""
    model, n = SPACES["f8"].model(DATA.size).to(best_device()).eval(), sampled(scale)
    calls = (("ddim", 100), ("ddim", 50), ("ddim", 20), ("dpm-solver++", 15))
    ways: Ways = {
        f"{sampler} {k}": partial(model.sample, n, steps=k, sampler=sampler)
        for sampler, k in calls
    }
    return timed("images from latents, decoded", ways, scale, batch=n)


def sampled(scale: Scale) -> int:
    """Images that are sampled at once."""
    return scale.vae.batch_size // 2


# --- how it is computed ---------------------------------------------------------------


def channels_last(what: str, make: Callable[[Scale], Task], scale: Scale) -> Row:
    task = make(scale)
    tasks = {"contiguous": task, "channels last": task.channels_last()}
    return steps(what, tasks, scale)


def bf16(what: str, make: Callable[[Scale], Task], scale: Scale) -> Row:
    task = make(scale)
    return steps(what, {"float32": task, "bf16": task.bf16()}, scale)


def compiled(scale: Scale) -> Row:
    """The first step, which waits for the compiler, is told apart from the gain. Where
    nothing could be compiled, the row says why."""
    row = {"what": UNET_STEP, "batch": scale.ldm.batch_size}
    if scale.repeats < 3:
        return row | {"failed": "not tried: a compiler takes a minute at any scale"}
    tasks = {"eager": latent_task(scale), "compiled": latent_task(scale)}
    tasks["compiled"].module.model.unet.compile()
    start = now()
    try:
        # What an earlier process compiled on this machine must not shorten the wait.
        with torch.compiler.config.patch(force_disable_caches=True):
            tasks["compiled"].step()()
    except Exception as error:  # what is missing decides what is raised
        reason = next(iter(str(error).strip().splitlines()), "")
        return row | {"failed": f"{type(error).__name__}: {reason}"}
    first = now() - start
    row = steps(UNET_STEP, tasks, scale)
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
    return timed("step of AdamW for the UNet", ways, scale, CHUNK, **more)


def adamw_step(options: dict[str, bool]) -> torch.optim.AdamW:
    """The optimiser of a UNet whose gradients are there already."""
    parameters = list(SPACES["f8"].model(DATA.size).unet.to(best_device()).parameters())
    generator = torch.Generator().manual_seed(0)
    for p in parameters:
        p.grad = torch.randn(p.shape, generator=generator).to(p.device)
    return torch.optim.AdamW(parameters, **options)


def repeat(function: Callable[[], Any], times: int) -> None:
    for _ in range(times):
        function()


# --- what our own loops cost ----------------------------------------------------------


HAS = {
    "bare loop": "batches at hand; loss, gradient, clipping, fused AdamW",
    "train": "the same, and: batches by a DataLoader, a learning rate and random "
    "numbers for every step, averaged weights, the log",
}


@dataclass
class Turns:
    """A bare loop that takes its turn whenever ``train`` has written a line of its log.

    So each of the two runs for CHUNK steps, one after the other, and what ``train``
    does once, at its start and its end, is not counted.
    """

    step: Callable[[], Tensor]
    bare: list[float] = field(default_factory=list)
    train: list[float] = field(default_factory=list)
    since: float = 0.0

    def on_start(self, step: int) -> None:
        self.since = now()

    def on_log(self, line: dict[str, float]) -> None:
        logged = now()
        self.train.append(logged - self.since)
        repeat(self.step, CHUNK)
        self.since = now()
        self.bare.append(self.since - logged)

    def timings(self) -> dict[str, Timing]:
        """Without the first turn of each, which warms up."""
        turns = {"bare loop": self.bare, "train": self.train}
        return {name: Timing(tuple(seconds[1:])) for name, seconds in turns.items()}


def now() -> float:
    synchronize()
    return time.perf_counter()


def loop(
    what: str, module: nn.Module, dataset: Dataset, size: int, scale: Scale
) -> Row:
    """The row of ``train`` against a bare loop on the same module and data.

    overhead_percent is what ``train`` costs beyond the bare loop, checkpoints at their
    usual interval included. checkpoint_seconds counts all that ``train`` does after its
    last step: the checkpoint, and averaged weights that are put in place.
    """
    batches = on_device(whole(dataset, CHUNK * size), size)
    turns = Turns(bare_step(deepcopy(module), batches))
    config = TrainConfig(
        steps=CHUNK * (scale.repeats + 1),
        batch_size=size,
        learning_rate=1e-4,
        log_every=CHUNK,
    )
    with tempfile.TemporaryDirectory() as out:
        train(module, dataset, config, out, turns.on_log, turns.on_start)
        checkpoint = now() - turns.since
    ways = compare(turns.timings(), CHUNK)
    bare = ways["bare loop"]["seconds"]
    saving = checkpoint / (config.checkpoint_every * bare)
    return {
        "what": what,
        "repeats": scale.repeats,
        "batch": size,
        "parameters": trained(module),
        "ways": ways,
        "has": HAS,
        "checkpoint_seconds": checkpoint,
        "checkpoint_every": config.checkpoint_every,
        "overhead_percent": 100 * (ways["train"]["seconds"] / bare - 1 + saving),
    }


def on_device(data: Batch, size: int) -> list[Batch]:
    parts = [tensor.to(best_device()).split(size) for tensor in data]
    return list(zip(*parts, strict=True))


def loop_vae(scale: Scale, drawn: bool = False) -> Row:
    """With images that lie ready, or are drawn in the loop."""
    size = scale.vae.batch_size
    dataset = DATA.load("train", CHUNK * size)
    if not drawn:
        dataset = TensorDataset(*whole(dataset, len(dataset)))
    what = f"{VAE_STEP}, images {'drawn in the loop' if drawn else 'at hand'}"
    return loop(what, vae_task(scale).module, dataset, size, scale)


def loop_unet(scale: Scale) -> Row:
    size, task = scale.ldm.batch_size, latent_task(scale)
    _, channels, side, _ = task.batches[0][0].shape
    moments, y = noise(CHUNK * size, channels, side)
    dataset = TensorDataset(moments.cpu(), y.cpu())
    return loop(UNET_STEP, task.module, dataset, size, scale)


def sampler(scale: Scale, k: int = 50) -> Row:
    """DDIM against nothing but its calls of the UNet and the decoder."""
    model, n = SPACES["f8"].model(DATA.size).to(best_device()).eval(), sampled(scale)
    z, t = torch.randn(n, *model.codec.latent_shape(DATA.size)), torch.zeros(n)
    z, t = z.to(model.device), t.to(model.device, torch.int64)

    @torch.no_grad()
    def bare() -> None:
        repeat(partial(model.unet, z, t), k)
        model.codec.decode(z)

    ways: Ways = {"bare calls": bare, f"ddim {k}": partial(model.sample, n, steps=k)}
    row = timed("images from latents, decoded", ways, scale, batch=n)
    seconds = [way["seconds"] for way in row["ways"].values()]
    return row | {"overhead_percent": 100 * (seconds[1] / seconds[0] - 1)}


def data_path(scale: Scale) -> Row:
    """Batches of images: drawn, and picked from tensors."""
    size = scale.vae.batch_size
    landscapes = DATA.load("train", CHUNK * size)
    ready = TensorDataset(*whole(landscapes, len(landscapes)))
    order = torch.arange(len(ready)).flip(0).split(size)

    def indexed() -> None:
        for chosen in order:
            _ = [tensor[chosen] for tensor in ready.tensors]

    ways: Ways = {
        "drawn": partial(run_through, landscapes, size),
        "tensors, by a DataLoader": partial(run_through, ready, size),
        "tensors, by index": indexed,
    }
    return timed("batch of images", ways, scale, CHUNK, batch=size)


def run_through(dataset: Dataset, size: int) -> None:
    for _ in DataLoader(dataset, batch_size=size):
        pass


# --- the study ------------------------------------------------------------------------

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
