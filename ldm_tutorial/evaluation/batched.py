"""Many images through a model, a batch at a time."""

from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, TypeVar

import torch
from torch import Tensor

from ldm_tutorial.codec import Codec
from ldm_tutorial.data import batch_of
from ldm_tutorial.noise import Generators
from ldm_tutorial.pipeline import LatentDiffusion

Batch = TypeVar("Batch", bound=Sized)
Progress = Callable[[str, int, int], Any]  # what is judged, how much is done, of all


def counted(
    batches: Iterable[Batch], what: str, total: int, progress: Progress | None
) -> Iterator[Batch]:
    """The batches, and a word on each to ``progress``."""
    done = 0
    for batch in batches:
        yield batch
        done += len(batch[0] if isinstance(batch, list | tuple) else batch)
        if progress:
            progress(what, done, total)


def in_colour(x: Tensor) -> Tensor:
    """Images (B, 1 or 3, H, W) with three channels, for networks that know no grey."""
    return x.expand(-1, 3, -1, -1)


def through(codec: Codec, x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Images that went through a codec and back, (B, 3, H, W)."""
    return codec.decode(codec.encode(x, generator))


def decoded(codec: Codec, x: Tensor, generator: torch.Generator | None) -> Tensor:
    """The same for many images, on the CPU."""
    device = device_of(codec)
    return in_batches(lambda part: through(codec, part.to(device), generator).cpu(), x)


def device_of(codec: Any) -> torch.device:
    """Where the weights of a codec are, which is a module; the CPU if it has none."""
    return next(codec.parameters(), torch.empty(0)).device


def in_batches(function: Callable[..., Tensor], *sets: Tensor) -> Tensor:
    """``function`` of sets of images, 128 of 64 x 64 pixels at a time, or as many
    pixels."""
    together = batch_of(max(sets[0].shape[-2:]))
    parts = zip(*(x.split(together) for x in sets), strict=True)
    return torch.cat([function(*part) for part in parts])


def each_class(model: LatentDiffusion, n: int) -> Tensor:
    """Classes (n,), each in turn; zeros for an unconditional model."""
    return torch.arange(n) % max(1, len(model.classes))


def draw(
    model: LatentDiffusion,
    y: Tensor,
    steps: int,
    guidance_scale: float,
    generator: Generators,
    **options: Any,
) -> Tensor:
    """Samples (n, 3, H, W) of the classes ``y`` (n,), on the CPU; ``options`` as of
    ``LatentDiffusion.sample``, ``generator`` too: one, or one for each sample."""
    return torch.cat([*drawn(model, y, steps, guidance_scale, generator, **options)])


def drawn(
    model: LatentDiffusion,
    y: Tensor,
    steps: int,
    guidance_scale: float,
    generator: Generators,
    **options: Any,
) -> Iterator[Tensor]:
    """``draw`` in batches, 128 of 64 x 64 pixels at a time, or as many pixels."""
    for rows in torch.arange(len(y)).split(batch_of(getattr(model, "image_size", 64))):
        part = model.sample(
            len(rows),
            y=y[rows] if model.classes else None,
            steps=steps,
            guidance_scale=guidance_scale,
            generator=(
                generator
                if isinstance(generator, torch.Generator)
                else generator[rows[0] : rows[-1] + 1]
            ),
            **options,
        )
        yield part.cpu()


def share(right: Tensor) -> float:
    """Mean of bools (B,)."""
    return float(right.float().mean())
