"""What the commands check before they begin, and how they fail: in one line."""

import json
import os
import re
import sys
from pathlib import Path
from typing import Any, NoReturn

from ldm_tutorial import machine
from ldm_tutorial.data.card import printable
from ldm_tutorial.storage import find_model
from ldm_tutorial.training import unfinished

PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def plain(message: str) -> str:
    """A message of jsonargparse with options and types as a user writes them."""
    message = re.sub(r"required: [\w-]+\.", "required: --", message)
    message = re.sub(r'Parser key "(\w)":', r"-\1:", message)
    message = re.sub(r'Parser key "([\w.]+)":', r"--\1:", message)
    return re.sub(r"<class '(\w+)'>|typing\.(?=Literal)", r"\1", message)


def fail(message: object, status: int = 2) -> NoReturn:
    text = printable(" ".join(str(message).split()))
    print(f"ldm-tutorial: error: {text}", file=sys.stderr)
    raise SystemExit(status)


def check_writable(folder: Path) -> None:
    """Raise a ValueError if a folder could not be made or written in."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise ValueError(f"cannot write to {folder}: {place} is a file; change --out")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ValueError(f"cannot write to {folder}: no permission; change --out")


def check_picture(out: Path) -> None:
    """Raise a ValueError if no picture can be written under this name."""
    if out.suffix.lower() not in PICTURES or out.is_dir():
        raise ValueError(
            f"cannot write a picture to {out}; give a file name that ends in "
            + ", ".join(PICTURES)
        )
    check_writable(out.parent)


def check_number(n: int, least: int, what: str) -> None:
    if n < least:
        raise ValueError(f"-n {n}: give a number of {what} from {least} on")


def check_seed(seed: int) -> None:
    if not 0 <= seed < 2**63:
        raise ValueError(f"--seed {seed}: give 0 or more, below 2**63")


def read_model(cls: type[Any], name: str) -> Any:
    """A model from a folder or by a shipped name, on the best device.

    Raises:
        ValueError: if its files do not fit each other.
    """
    try:
        model = unfinished.load(cls, name)
        if unfinished.is_unfinished(name):
            step = unfinished.unfinished_step(name)
            print(
                f"{name} is not finished: its averaged weights after {step} steps",
                file=sys.stderr,
            )
        return model.to(machine.best_device())
    except (KeyError, TypeError, AttributeError, RuntimeError):
        raise ValueError(
            f"the model in {find_model(name)} is damaged: its config.json and "
            "model.safetensors do not fit; save or copy it again"
        ) from None


def kind_of(name: str) -> str | None:
    """What ``config.json`` says that a folder holds."""
    if unfinished.is_unfinished(name):
        return unfinished.recipe_of(name)["model"]["kind"]
    path = find_model(name) / "config.json"
    try:
        return json.loads(path.read_text())["kind"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is damaged; save or copy the model again") from None
