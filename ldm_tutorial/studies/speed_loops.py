"""What the study ``speed`` asks of the library's own loops: what do they cost?"""

import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from ldm_tutorial.cost.efficiency import Timing, synchronize
from ldm_tutorial.cost.spaces import SPACES
from ldm_tutorial.data import whole
from ldm_tutorial.machine import best_device
from ldm_tutorial.records import Row
from ldm_tutorial.studies.speed_tasks import (
    CHUNK,
    UNET_STEP,
    VAE_STEP,
    Batch,
    Ways,
    bare_step,
    compare_ways,
    images_at_once,
    latent_task,
    noise,
    repeat,
    timing_rows,
    trainable_parameters,
    vae_task,
)
from ldm_tutorial.studies.study import DATA, Scale
from ldm_tutorial.training.config import TrainConfig
from ldm_tutorial.training.loop import train

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


def measure_loop(
    what: str, module: nn.Module, dataset: Any, size: int, scale: Scale
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
    ways = timing_rows(turns.timings(), CHUNK)
    bare = ways["bare loop"]["seconds"]
    saving = checkpoint / (config.checkpoint_every * bare)
    return {
        "what": what,
        "repeats": scale.repeats,
        "batch": size,
        "parameters": trainable_parameters(module),
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
    dataset: Any = DATA.load("train", CHUNK * size)
    if not drawn:
        dataset = TensorDataset(*whole(dataset, len(dataset)))
    what = f"{VAE_STEP}, images {'drawn in the loop' if drawn else 'at hand'}"
    return measure_loop(what, vae_task(scale).module, dataset, size, scale)


def loop_unet(scale: Scale) -> Row:
    size, task = scale.ldm.batch_size, latent_task(scale)
    _, channels, side, _ = task.batches[0][0].shape
    moments, y = noise(CHUNK * size, channels, side)
    dataset = TensorDataset(moments.cpu(), y.cpu())
    return measure_loop(UNET_STEP, task.module, dataset, size, scale)


def sampler(scale: Scale, k: int = 50) -> Row:
    """DDIM against nothing but its calls of the UNet and the decoder."""
    model, n = (
        SPACES["f8"].model(DATA.size).to(best_device()).eval(),
        images_at_once(scale),
    )
    z, t = torch.randn(n, *model.codec.latent_shape(DATA.size)), torch.zeros(n)
    z, t = z.to(model.device), t.to(model.device, torch.int64)

    @torch.no_grad()
    def bare() -> None:
        repeat(partial(model.unet, z, t), k)
        model.codec.decode(z)

    ways: Ways = {"bare calls": bare, f"ddim {k}": partial(model.sample, n, steps=k)}
    row = compare_ways("images from latents, decoded", ways, scale, batch=n)
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
    return compare_ways("batch of images", ways, scale, CHUNK, batch=size)


def run_through(dataset: Any, size: int) -> None:
    for _ in DataLoader(dataset, batch_size=size):
        pass
