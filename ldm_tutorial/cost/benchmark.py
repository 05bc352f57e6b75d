"""What diffusion costs in pixels, in patches and in latents.

Everything that is compared is timed in one run, in turns. Weights are new: the cost
does not depend on them.
"""

import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context, parent_process
from threading import Event, Thread
from typing import Any

import psutil
import torch
from torch import nn

from ldm_tutorial.codec import LatentCodec
from ldm_tutorial.cost.efficiency import (
    Timing,
    activation_bytes,
    count_flops,
    count_parameters,
    peak_bytes,
    time_side_by_side,
    training_step,
)
from ldm_tutorial.cost.peers import Ours, autoencoder_loss
from ldm_tutorial.cost.spaces import SPACES
from ldm_tutorial.machine import best_device
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.records import Row, known
from ldm_tutorial.vae import AutoencoderKL

STEPS = 10  # of the sampler
MEASURES = (  # rows of the table
    *("parameters", "gflops", "train_ms", "sample_ms", "decode_ms", "decode_share"),
    *("encode_ms", "autoencoder_train_ms"),
    *("activation_mb", "train_peak_mb", "sample_peak_mb", "resident_mb"),
)
DRAWN = {  # bars of the figure
    "gflops": "operations",
    "train_ms": "training time",
    "sample_ms": "sampling time",
    "activation_mb": "activations",
    "train_peak_mb": "peak, training",
    "sample_peak_mb": "peak, sampling",
    "resident_mb": "resident",
}

HEADS = {  # columns of the table of libraries, as wide as a page of the book
    "gflops": " GFLOP",
    "images_per_second": " images/s",
    "to_diffusers": " ratio",
    "rate_share": "  rate",
}


def benchmark(
    names: Sequence[str] = tuple(SPACES),
    size: int = 64,
    batch_size: int = 16,
    repeats: int = 5,
) -> dict[str, Row]:
    """What diffusion costs in each of SPACES, by UNets of one size.

    parameters: of the UNet; gflops: of the UNet, forward, for one image.
    train_ms, sample_ms, decode_ms, encode_ms, autoencoder_train_ms: median milliseconds
    per image of a training step on encoded images, of drawing in STEPS steps, decoder
    included, of decoding and encoding, and of a training step of the autoencoder; each
    with the fastest and the slowest, _spread. decode_share: the decoder's part of the
    drawing. activation_mb: what a training step keeps for its backward pass, for one
    image. train_peak_mb, sample_peak_mb: the most memory held at once, for the batch,
    by ``efficiency.peak_bytes``. resident_mb: what the system sees, by
    ``resident_bytes``. Where there is no autoencoder, its figures are 0.

    Raises:
        ValueError: for an unknown space, or a size that does not fit one.
    """
    spaces = {name: known(SPACES, name, "space") for name in names}
    models = {name: space.model(size) for name, space in spaces.items()}
    report: dict[str, Row] = {}
    calls: dict[str, Callable[[], Any]] = {}
    for name, model in models.items():
        report[name], timed = costs(model.to(best_device()), batch_size)
        report[name]["resident_mb"] = resident_bytes(name, size, batch_size) / 1e6
        calls |= {f"{name}/{what}": call for what, call in timed.items()}
    for key, timing in time_side_by_side(calls, repeats).items():
        name, what = key.split("/")
        report[name] |= per_image(what, timing, batch_size)
    for row in report.values():
        row["decode_share"] = row["decode_ms"] / row["sample_ms"]
    return report


def costs(model: LatentDiffusion, n: int) -> tuple[Row, dict[str, Callable[[], Any]]]:
    """Figures of a model that need no clock, and calls on ``n`` images to be timed."""
    size, device = model.image_size, model.device
    z = torch.randn(n, *model.codec.latent_shape(size), device=device)
    t = torch.zeros(n, dtype=torch.int64, device=device)
    train = training_step(model.unet, lambda: model.loss(z, t)[0])
    sample = partial(model.sample, n, steps=STEPS)
    train()  # makes what the optimiser keeps
    row: Row = {
        "parameters": count_parameters(model.unet),
        "gflops": count_flops(partial(model.unet, z[:1], t[:1])) / 1e9,
        "activation_mb": activation_bytes(model.unet, z, t) / n / 1e6,
        "train_peak_mb": peak_bytes(train) / 1e6,
        "sample_peak_mb": peak_bytes(sample) / 1e6,
    }
    row |= {"decode_ms": 0.0, "encode_ms": 0.0, "autoencoder_train_ms": 0.0}
    calls: dict[str, Callable[[], Any]] = {"train_ms": train, "sample_ms": sample}
    if isinstance(model.codec, LatentCodec):
        x = torch.rand(n, 3, size, size, device=device) * 2 - 1
        vae = AutoencoderKL(model.codec.vae.config).to(device)
        step = training_step(vae, partial(autoencoder_loss, Ours(), vae, x))
        calls["decode_ms"] = partial(model.codec.decode, z)
        calls["encode_ms"] = partial(model.codec.encode, x)
        calls["autoencoder_train_ms"] = step
    return row, calls


def resident_bytes(name: str, size: int, n: int) -> int:
    """By how much a process grows that makes a model of SPACES and trains it for two
    steps on ``n`` images: weights, gradients, what the optimiser keeps, activations,
    and scratch space, in the memory of the CPU."""
    spawn = get_context("spawn")
    with ProcessPoolExecutor(1, spawn, end_with_parent) as process:
        try:
            return process.submit(grown, name, size, n).result()
        except BrokenProcessPool:
            raise MemoryError(f"the process that measured {name} was killed") from None


def end_with_parent() -> None:
    """Let this process end when the one that started it does, however that ends, and
    leave Ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def wait() -> None:
        if parent := parent_process():
            parent.join()
            os._exit(1)

    Thread(target=wait, daemon=True).start()


def grown(name: str, size: int, n: int) -> int:
    """``resident_bytes`` of this process, which looks at itself every millisecond.
    What torch loads when it trains for the first time does not count."""
    line = nn.Linear(1, 1)
    training_step(line, lambda: line(torch.ones(1, 1)).sum())()
    seen, done = [psutil.Process().memory_info().rss], Event()

    def watch() -> None:
        while not done.wait(0.001):
            seen.append(psutil.Process().memory_info().rss)

    watcher = Thread(target=watch)
    watcher.start()
    try:
        model = SPACES[name].model(size).to(best_device())
        z = torch.randn(n, *model.codec.latent_shape(size), device=model.device)
        step = training_step(model.unet, lambda: model.loss(z, torch.zeros(n))[0])
        step()
        step()
    finally:  # a thread that still watched would keep the process alive
        done.set()
        watcher.join()
    return max(seen) - seen[0]


def per_image(what: str, timing: Timing, n: int) -> Row:
    """Milliseconds per image: the median, and the fastest and the slowest call."""
    spread = [1000 * seconds / n for seconds in timing.spread]
    return {what: 1000 * timing.median / n, f"{what}_spread": spread}
