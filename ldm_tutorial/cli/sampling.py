"""The command ``sample``."""

from pathlib import Path

import torch
import torch.nn.functional as F
from jsonargparse import Namespace
from torch import Tensor

from ldm_tutorial.cli.checks import check_number, check_picture, check_seed, read_model
from ldm_tutorial.cli.options import sampling
from ldm_tutorial.noise import generators
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.records import to_bytes


def sample(options: Namespace) -> None:
    check_number(options.n, 1, "images")
    check_seed(options.seed)
    check_picture(options.out)
    model = read_model(LatentDiffusion, options.model)
    label = options.label
    if label is not None and label not in model.classes and is_integer(label):
        label = int(label)
    x = model.sample(
        options.n,
        y=label,
        generator=generators(options.seed, options.n),
        **sampling(options),
    )
    write_grid(x, options.out)


def is_integer(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def write_grid(x: Tensor, out: Path) -> None:
    """Write images (B, 3, H, W) as one nearly square picture, lined in black."""
    from PIL import Image

    columns = max(1, round(len(x) ** 0.5))
    rows = -(-len(x) // columns)
    x = F.pad(x.cpu(), (1, 1, 1, 1), value=-1.0)
    B, C, H, W = x.shape
    x = torch.cat([x, x.new_full((rows * columns - B, C, H, W), -1.0)])
    x = x.view(rows, columns, C, H, W).permute(0, 3, 1, 4, 2)
    x = x.reshape(rows * H, columns * W, C)
    out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(to_bytes(x).numpy()).save(out)
    print(f"wrote {out}: {B} images")
