"""The same work in this library and in others, in one run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ldm_tutorial.cost.efficiency import (
    count_flops,
    count_parameters,
    time_side_by_side,
    training_step,
)
from ldm_tutorial.cost.peers import (
    LATENT,
    LIBRARIES,
    OURS,
    PIXEL,
    Library,
    Shape,
    autoencoder_loss,
    unet_loss,
)
from ldm_tutorial.layers import conv3x3
from ldm_tutorial.machine import best_device
from ldm_tutorial.records import Row


@dataclass(frozen=True)
class Work:
    """Something that every library can do.

    Attributes:
        images: how many at a time.
        shape: of the arrays that a UNet works on; None for the autoencoder.
        draws: draw images, with the decoder where there is one, or train.
    """

    images: int
    shape: Shape | None = None
    draws: bool = False


WORKS = {
    "autoencoder step": Work(32),
    "latent UNet step": Work(64, LATENT),
    "pixel UNet step": Work(16, PIXEL),
    "latent sampling": Work(16, LATENT, draws=True),
    "pixel sampling": Work(16, PIXEL, draws=True),
}
# 3x3 convolutions, (images, channels, side): the fastest is what the machine can do.
CONVOLUTIONS = ((32, 64, 32), (32, 128, 16), (64, 128, 8))


@dataclass(frozen=True)
class Ready:
    """A system that is ready for its work.

    Attributes:
        parameters: of the network that is trained, or called in every step.
        flops: forward, for one image; of drawing, all steps and the decoder.
        call: does it once.
    """

    parameters: int
    flops: int
    call: Callable[[], Any]


def time_libraries(
    peers: Sequence[str],
    repeats: int = 5,
    works: dict[str, Work] = WORKS,
    steps: int = 50,
) -> list[Row]:
    """The same work in several libraries, as rows: work, system, parameters, forward
    gflops per image (of drawing: all its steps and the decoder), images_per_second and
    its _spread, slowest first; to_diffusers, the ratio of the medians.

    Training also says gflops_per_second, forward and backward, and rate_share: that
    over the rate of the fastest 3x3 convolution, which takes its turn as well.

    Args:
        peers: names of LIBRARIES; this library and diffusers are always there.
        repeats: of all but drawing in pixels, which gets half as many.
        steps: of the samplers.
    """
    names = [n for n in LIBRARIES if n.startswith(OURS) or n in (*peers, "diffusers")]
    rows: list[Row] = []
    for name, work in works.items():
        systems = {}
        for system in names:
            library = LIBRARIES[system]()
            if takes_part(library, work):
                systems[system] = prepare(library, work, steps)
        slow = work.draws and work.shape == PIXEL
        rows += rows_of_work(
            name, work, systems, max(1, repeats // 2) if slow else repeats
        )
    return rows


def takes_part(library: Library, work: Work) -> bool:
    if work.shape is None:
        return library.autoencodes
    return work.shape in library.spaces


def prepare(library: Library, work: Work, steps: int) -> Ready:
    """A library's networks for a work, with new weights."""
    device = best_device()
    torch.manual_seed(0)
    if work.shape is None:
        vae = library.autoencoder().to(device)
        x = torch.rand(work.images, *PIXEL, device=device) * 2 - 1
        forward = count_flops(lambda: library.through(vae, x[:1]))
        step = training_step(vae, partial(autoencoder_loss, library, vae, x))
        return Ready(count_parameters(vae), forward, step)
    unet = library.unet(work.shape).to(device)
    z = torch.randn(work.images, *work.shape, device=device)
    t = torch.zeros(1, dtype=torch.int64, device=device)
    forward = count_flops(lambda: library.predict(unet, z[:1], t))
    if not work.draws:
        step = training_step(unet, partial(unet_loss, library, unet, z))
        return Ready(count_parameters(unet), forward, step)
    unet.eval()
    decoder = library.autoencoder().eval().to(device) if work.shape == LATENT else None
    decoding = count_flops(lambda: library.decode(decoder, z[:1])) if decoder else 0

    @torch.no_grad()
    def draw() -> Tensor:
        z_0 = library.draw(unet, z, steps)
        return library.decode(decoder, z_0) if decoder else z_0

    return Ready(count_parameters(unet), steps * forward + decoding, draw)


def rows_of_work(
    name: str, work: Work, systems: dict[str, Ready], repeats: int
) -> list[Row]:
    """The rows of one work."""
    flops = {} if work.draws else {k: count_flops(s.call) for k, s in systems.items()}
    bounds = {} if work.draws else convolutions()
    calls = {k: s.call for k, s in (systems | bounds).items()}
    timings = time_side_by_side(calls, repeats)
    rows = []
    for system, ready in systems.items():
        timing = timings[system]
        row = {
            "work": name,
            "system": system,
            "parameters": ready.parameters,
            "gflops": ready.flops / 1e9,
            "images_per_second": work.images / timing.median,
            "images_per_second_spread": [work.images / s for s in timing.spread[::-1]],
            "to_diffusers": timings["diffusers"].median / timing.median,
        }
        if not work.draws:
            rate = flops[system] / timing.median
            best = max(b.flops / timings[k].median for k, b in bounds.items())
            row |= {"gflops_per_second": rate / 1e9, "rate_share": rate / best}
        rows.append(row)
    return rows


def convolutions() -> dict[str, Ready]:
    """Forward and backward passes of single convolutions, in both memory layouts."""
    made = {}
    for B, C, side in CONVOLUTIONS:
        for layout in (torch.contiguous_format, torch.channels_last):
            conv = conv3x3(C, C).to(best_device())
            conv = conv.to(memory_format=layout)  # type: ignore[call-overload]
            x = torch.randn(B, C, side, side, device=best_device())
            x = x.to(memory_format=layout).requires_grad_()
            call = partial(gradients, conv, x, torch.randn_like(x))
            flops = 3 * 2 * 9 * C**2 * B * side**2  # forward, and two gradients
            made[f"{B} x {C} x {side}, {layout}"] = Ready(0, flops, call)
    return made


def gradients(conv: nn.Module, x: Tensor, grad: Tensor) -> None:
    conv(x).backward(grad)
    x.grad = None
    conv.zero_grad()
