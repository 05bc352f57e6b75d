"""The command ``sample``."""

import torch
from jsonargparse import Namespace

from ldm_tutorial.cli.checks import (
    check_grid,
    check_number,
    check_picture,
    check_seed,
    read_model,
)
from ldm_tutorial.cli.options import sampling
from ldm_tutorial.cli.pictures import write_grid
from ldm_tutorial.data import batch_of
from ldm_tutorial.noise import generators
from ldm_tutorial.pipeline import LatentDiffusion


def sample(options: Namespace) -> None:
    check_number(options.n, 1, "images")
    check_seed(options.seed)
    check_picture(options.out)
    model = read_model(LatentDiffusion, options.model)
    check_grid(options.n, model.image_size)
    label = options.label
    if label is not None and label not in model.classes and is_integer(label):
        label = int(label)
    n, images = options.n, []
    each = torch.arange(n) % max(1, len(model.classes))
    sources = generators(options.seed, n)
    for rows in torch.arange(n).split(batch_of(model.image_size)):
        part = model.sample(
            len(rows),
            y=each[rows] if model.classes and label is None else label,
            generator=sources[rows[0] : rows[-1] + 1],
            **sampling(options),
        )
        images.append(part.cpu())
    names = None
    if len(model.classes) > 1:
        chosen = each if label is None else [label] * n
        names = [c if isinstance(c, str) else model.classes[c] for c in chosen]
    write_grid(torch.cat(images), options.out, names)
    print(f"wrote {options.out}: {n} images")


def is_integer(text: str) -> bool:
    return text.removeprefix("-").isdecimal()
