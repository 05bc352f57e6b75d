"""Fuzzing: files of every kind that the library reads, damaged at random.

    python -m tests.fuzz [SECONDS] [SEED]

A picture, a config, weights, a recipe, a log, a checkpoint and a record are written;
bits flip, bytes are cut out, doubled, or replaced by what often hurts. Whatever a
reader then raises must be a ValueError or an OSError in one line. What is not is
printed with its seed, and the exit status is 1.
"""

import io
import random
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ldm_tutorial.codec import LatentCodec
from ldm_tutorial.data.images import read_image
from ldm_tutorial.disk import write_json
from ldm_tutorial.storage import load_model
from ldm_tutorial.studies.study import read_row
from ldm_tutorial.training.checkpoint import read_checkpoint, write_checkpoint
from ldm_tutorial.training.folder import read_log, read_recipe
from ldm_tutorial.vae import AutoencoderKL, VAEConfig

HURTS = (
    b"[" * 5000,
    b"9" * 5000,
    b"\0" * 64,
    b"\xff" * 8,
    b"null",
    b"NaN",
    b"\n",
    b'"',
)
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "TGA", "PPM")


def seeds() -> dict[str, bytes]:
    """Good files, by name."""
    found = {}
    pixels = np.random.default_rng(0).integers(0, 255, (24, 20, 3), np.uint8)
    for kind in FORMATS:
        place = io.BytesIO()
        Image.fromarray(pixels).save(place, kind)
        found[f"picture.{kind.lower()}"] = place.getvalue()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        LatentCodec(AutoencoderKL(VAEConfig(channels=(8,), downsampling=4))).save(
            folder
        )
        write_json(folder / "recipe.json", {"kind": "VAERecipe", "size": 16})
        parts = {"scale": {"steps": 1}, "made": {"seconds": 1}, "row": {"psnr": 20.5}}
        write_json(folder / "row.json", parts)
        line = '{"step": 1, "loss": 0.5}\n'
        (folder / "metrics.jsonl").write_text(line * 3)
        state = {"module": {"w": torch.ones(9)}, "ema": {}, "optimizer": {}}
        state |= {"step": 1, "seconds": 0.5, "config": {"steps": 2}}
        write_checkpoint(folder / "checkpoint.pt", state)
        return found | {path.name: path.read_bytes() for path in folder.iterdir()}


def damaged(content: bytes, dice: random.Random) -> bytes:
    """The same, but for what happened to it."""
    found = bytearray(content)
    for _ in range(dice.choice((1, 1, 1, 2, 8))):
        at, end = sorted(dice.randrange(len(found) + 1) for _ in range(2))
        how = dice.randrange(5)
        if how == 0 and at < len(found):
            found[at] ^= 1 << dice.randrange(8)
        elif how == 1:
            del found[at : min(end, at + dice.choice((1, 9, 999)))]
        elif how == 2:
            found[at:at] = found[at:end][:999]
        elif how == 3:
            found[at : at + dice.randrange(9)] = dice.choice(HURTS)
        else:
            del found[at:]
    return bytes(found)


def read(folder: Path, name: str) -> None:
    """Read a file as the library does."""
    if name.startswith("picture"):
        read_image(folder / name, 16)
    elif name == "recipe.json":
        read_recipe(folder / name)
    elif name == "row.json":
        read_row(folder / name)
    elif name == "metrics.jsonl":
        read_log(folder / name)
    elif name == "checkpoint.pt":
        read_checkpoint(folder)
    else:
        load_model(folder, "LatentCodec")
        LatentCodec.load(folder)


def fuzz(seconds: float, seed: int) -> int:
    """How many damaged files were met otherwise than in one line."""
    good, counts, wrong = seeds(), Counter[str](), 0
    until = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        while time.monotonic() < until:
            dice = random.Random(seed)
            name = dice.choice(sorted(good))
            for other in ("config.json", "model.safetensors", name):
                (folder / other).write_bytes(good[other])
            (folder / name).write_bytes(damaged(good[name], dice))
            try:
                read(folder, name)
                counts["read"] += 1
            except (ValueError, OSError) as error:
                counts["refused"] += 1
                if "\n" in str(error):
                    wrong += 1
                    print(f"seed {seed}, {name}: several lines: {error}")
            except Exception:
                wrong += 1
                print(f"seed {seed}, {name}:\n{traceback.format_exc()}")
            seed += 1
    print(", ".join(f"{n} {what}" for what, n in counts.items()), f", {wrong} wrong")
    return wrong


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    given = [float(text) for text in sys.argv[1:]]
    seconds, seed = given + [60.0, 0.0][len(given) :]
    sys.exit(fuzz(seconds, int(seed)) > 0)
