"""The exercise on the UNet's forward pass: its parts are given, the wiring is not."""

from typing import Any

import torch
from torch import Tensor

from ldm_tutorial.layers import ResBlock
from ldm_tutorial.teach.task import Case, Exercise
from ldm_tutorial.teach.tasks.inputs import randn
from ldm_tutorial.unet import UNet, UNetConfig, apply


def unet_forward(unet: UNet, z_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """The way through a UNet with classes, from its parts."""
    emb = unet.time_embedding(t) + unet.class_embedding(y)
    h = unet.stem(z_t)
    skips = [h]
    for layers in unet.down:
        h = apply(layers, h, emb)
        skips.append(h)
    h = apply(unet.middle, h, emb)
    for layers in unet.up:
        if isinstance(layers[0], ResBlock):
            h = torch.cat([h, skips.pop()], dim=1)
        h = apply(layers, h, emb)
    return unet.out(h)


def network(channels: tuple[int, ...], blocks: int, seed: int = 1) -> UNet:
    """A small UNet of four classes, whose weights are all at work."""
    last = len(channels) - 1
    config = UNetConfig(2, channels, blocks, attention_levels=(last,), num_classes=4)
    with torch.random.fork_rng(devices=[]):
        unet = UNet(config)
    with torch.no_grad():
        for i, p in enumerate(unet.parameters()):
            size = 0.5 / max(1.0, float(p[0].numel()) ** 0.5)
            centre = 1.0 if p.ndim == 1 else 0.0
            p.copy_(centre + size * randn(1000 * seed + i, *p.shape))
    return unet.eval()


def inputs(channels: tuple[int, ...], blocks: int, size: int = 4, seed: int = 1):
    def make():
        t, y = torch.tensor([3, 700]), torch.tensor([0, 3])
        if seed > 1:
            t, y = torch.tensor([999, 40]), torch.tensor([2, 1])
        return network(channels, blocks, seed), randn(seed, 2, 2, size, size), t, y

    return make


def wiring_slip(kind: str):
    def f(unet, z_t, t, y):
        emb = unet.time_embedding(t) + unet.class_embedding(y)
        if kind == "time alone":
            emb = unet.time_embedding(t)
        if kind == "class alone":
            emb = unet.class_embedding(y)
        if kind == "product":
            emb = unet.time_embedding(t) * unet.class_embedding(y)
        h = unet.stem(z_t)
        skips = [] if kind in ("stem not kept", "kept before") else [h]
        for layers in unet.down:
            if kind == "kept before":
                skips.append(h)
            h = apply(layers, h, emb)
            if kind != "kept before":
                skips.append(h)
        for _ in range({"no middle": 0, "middle twice": 2}.get(kind, 1)):
            h = apply(unet.middle, h, emb)
        if kind == "middle kept":
            skips.append(h)
        for layers in unet.up:
            if isinstance(layers[0], ResBlock) or kind == "every stage":
                skip = skips.pop(0 if kind == "oldest first" else -1)
                pair = [skip, h] if kind == "skip first" else [h, skip]
                if kind == "no skips":
                    pair = [h, torch.zeros_like(skip)]
                h = torch.cat(pair, dim=1)
            h = apply(layers, h, emb)
        if kind == "residual":
            return z_t + unet.out(h)
        return h if kind == "no end" else unet.out(h)

    return f


TOLERANCE: dict[str, Any] = {"rtol": 1e-3, "atol": 1e-4}

UNET_FORWARD = Exercise(
    name="unet_forward",
    chapter=3,
    difficulty=3,
    trains="reading a network from its parts, and what a skip connection is in code",
    title="the way through a UNet",
    prompt=(
        "The parts are built; wire them. `unet.time_embedding(t)` and "
        "`unet.class_embedding(y)` add up to one embedding, which every residual "
        "block sees. `unet.stem` takes `z_t` in. `unet.down` and `unet.up` are lists "
        "of stages, `unet.middle` is one stage, and `apply(stage, h, emb)` goes "
        "through one. Keep the output of the stem and of each stage on the way down. "
        "On the way up, a stage that begins with a `ResBlock` (`stage[0]` is its first "
        "part) first takes the last of the arrays still kept, appended to `h` along "
        "the channels; the other stages only enlarge `h`. `unet.out` makes the "
        "prediction, of the shape of `z_t`."
    ),
    reference=unet_forward,
    lines="9-11 lines",
    cases=(
        Case(
            inputs((32, 32), 1),
            note="a UNet of two levels with 32 channels each",
            **TOLERANCE,
        ),
        Case(
            inputs((8, 32), 2, seed=2),
            note="a UNet of two levels with 8 and 32 channels, two blocks a level",
            **TOLERANCE,
        ),
        Case(
            inputs((8, 16, 32), 1, seed=3),
            note="a UNet of three levels with 8, 16 and 32 channels",
            **TOLERANCE,
        ),
    ),
    properties=(
        (
            "The gradient should reach every part of the network.",
            lambda f: reaches_all(f),
        ),
    ),
    hints=(
        "Draw it as a U first: left side down, and at every stage put the array aside; "
        "bottom; right side up, and at every stage take one back.",
        "A list serves: skips.append(h) on the way down, skips.pop() on the way up, "
        "which gives the last one first. isinstance(stage[0], ResBlock) asks whether "
        "to take one.",
        "Appending to h along the channels is torch.cat of two arrays, dim=1, h first. "
        "At the end the list should be empty.",
    ),
    misconceptions={
        "time alone": (
            wiring_slip("time alone"),
            "the class has no effect: its embedding was not added",
        ),
        "class alone": (
            wiring_slip("class alone"),
            "the time has no effect: its embedding was not added",
        ),
        "no middle": (
            wiring_slip("no middle"),
            "the middle was left out, between the way down and the way up",
        ),
        "skip first": (
            wiring_slip("skip first"),
            "the kept array was put in front of h; it is appended to it, and weights "
            "know their channels by place",
        ),
        "no skips": (
            wiring_slip("no skips"),
            "what was kept on the way down does not arrive on the way up",
        ),
        "oldest first": (
            wiring_slip("oldest first"),
            "the oldest of the kept arrays was taken first; the way up begins with the "
            "last one, .pop()",
        ),
        "kept before": (
            wiring_slip("kept before"),
            "each array was kept before its stage; keep what comes out of the stage",
        ),
        "middle kept": (
            wiring_slip("middle kept"),
            "the output of the middle was kept, too; it is `h` already",
        ),
        "every stage": (
            wiring_slip("every stage"),
            "every stage on the way up took an array; only those that begin with a "
            "ResBlock do",
        ),
        "stem not kept": (
            wiring_slip("stem not kept"),
            "the output of the stem was not kept, so the list is empty before the way "
            "up ends",
        ),
        "no end": (
            wiring_slip("no end"),
            "`unet.out` is missing: the features came back in place of the prediction",
        ),
        "product": (
            wiring_slip("product"),
            "the two embeddings were multiplied; they are added",
        ),
        "middle twice": (
            wiring_slip("middle twice"),
            "the middle was gone through twice",
        ),
        "residual": (
            wiring_slip("residual"),
            "z_t was added at the end; the prediction is what `unet.out` makes",
        ),
    },
    source=(unet_forward, UNet.forward, UNet.descend, apply),
)


def reaches_all(f) -> bool:
    unet, z_t, t, y = inputs((32, 32), 1)()
    f(unet, z_t, t, y).square().sum().backward()
    return all(p.grad is not None for p in unet.parameters())
