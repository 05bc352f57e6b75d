"""Recorded results, ``data/results``: figures with their fingerprint, and pictures.

In a checkout they lie in ``data/`` beside the package; the wheel carries them inside
it, where a notebook opened alone finds them.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ldm_tutorial.disk import read_json, replacing, write_json
from ldm_tutorial.storage import ROOTS

Row = dict[str, Any]


def results(name: str) -> dict[str, Any]:
    """A recorded result, ``data/results/NAME.json``.

    Raises:
        FileNotFoundError: if there is none of that name.
    """
    for root in ROOTS:
        path = root / "results" / f"{name}.json"
        if path.is_file():
            return read_json(path)
    raise FileNotFoundError(f"no recorded result {name!r} in data/results")


def fingerprint(report: dict[str, Any]) -> str:
    """A fingerprint of a record, without what it says of its own fingerprint: a figure
    that was changed by hand no longer fits it."""
    rest = {k: v for k, v in report.items() if k != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()[:16]


def write_record(path: Path, report: dict[str, Any]) -> None:
    """Write a record with its fingerprint."""
    write_json(path, report | {"digest": fingerprint(report)})


def to_bytes(x: Tensor) -> Tensor:
    """Images in [-1, 1] as bytes, as they are stored."""
    return ((x + 1) * 127.5).round().clamp(0, 255).byte()


def write_pictures(path: Path, x: Tensor) -> None:
    """Write images (B, 3, H, W) in [-1, 1] side by side as one PNG."""
    from PIL import Image

    x = torch.cat(list(x.detach().cpu()), dim=-1).permute(1, 2, 0)  # (H, B W, 3)
    with replacing(path) as new:
        Image.fromarray(to_bytes(x).numpy()).save(new, "PNG", optimize=True)


def pictures(study: str, name: str) -> Tensor:
    """Images of a recorded study, ``data/results/STUDY/NAME.png``, (B, 3, H, H).

    Raises:
        FileNotFoundError: if there are none of that name.
    """
    import numpy
    from PIL import Image

    for root in ROOTS:
        path = root / "results" / study / f"{name}.png"
        if path.is_file():
            pixels = torch.from_numpy(numpy.array(Image.open(path).convert("RGB")))
            x = pixels.permute(2, 0, 1).float() / 127.5 - 1
            return torch.stack(x.split(x.shape[1], dim=-1))
    raise FileNotFoundError(f"no pictures {name!r} in data/results/{study}")


def known(table: dict[str, Any], name: str, what: str) -> Any:
    """The entry of a table, or a ValueError that lists what there is."""
    if name not in table:
        raise ValueError(f"no {what} {name!r}; choose from {', '.join(table)}")
    return table[name]
