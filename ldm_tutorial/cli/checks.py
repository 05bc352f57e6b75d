"""What the commands check before they begin."""

import os
import re
import sys
from pathlib import Path
from typing import Any

from ldm_tutorial import machine
from ldm_tutorial.disk import as_path, get, read_json
from ldm_tutorial.storage import find_model, shipped
from ldm_tutorial.training import unfinished

MOST_IMAGES = 100_000  # each has a generator of its own
LARGEST = 2**26  # pixels of a picture that is written
PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def plain(message: str) -> str:
    """A message of jsonargparse with options and types as a user writes them."""
    message = re.sub(r"required: [\w-]+\.", "required: --", message)
    message = re.sub(r'Parser key "(\w)":', r"-\1:", message)
    message = re.sub(r'Parser key "([\w.]+)":', r"--\1:", message)
    return re.sub(r"<class '(\w+)'>|typing\.(?=Literal)", r"\1", message)


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


def check_number(n: int, least: int, what: str, most: int = MOST_IMAGES) -> None:
    if n < least:
        raise ValueError(f"-n {n}: give a number of {what} from {least} on")
    if n > most:
        raise ValueError(f"-n {n}: give a number of {what} up to {most}")


def check_grid(n: int, size: int) -> None:
    """Raise a ValueError if so many images would make an absurd picture."""
    if size**2 > LARGEST:
        raise ValueError(f"--size {size}: give images of at most {LARGEST**0.5:.0f}")
    if n * max(size, 64) ** 2 > LARGEST:
        raise ValueError(
            f"-n {n}: a picture of so many images would have "
            f"{n * max(size, 64) ** 2 / 1e6:,.0f} million pixels; give fewer, up to "
            f"{LARGEST // max(size, 64) ** 2}"
        )


def check_seed(seed: int) -> None:
    if not 0 <= seed < 2**63:
        raise ValueError(f"--seed {seed}: give 0 or more, below 2**63")


def read_model(cls: type[Any], name: str) -> Any:
    """A model from a folder or by a shipped name, on the best device. What a user might
    not expect is said: that a folder hides a shipped model, or that it is unfinished.

    Raises:
        ValueError: if its files do not fit each other.
    """
    here = as_path(name)
    if name in shipped() and here.is_dir():
        found = here.resolve() if is_model(here) else "the shipped model"
        print(f"{name}: taking {found}, since a folder {name} is here", file=sys.stderr)
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
            f"the model in {here if is_model(here) else find_model(name)} is damaged: "
            "its config.json and model.safetensors do not fit; save or copy it again"
        ) from None


def is_model(folder: Path) -> bool:
    return (folder / "config.json").is_file() or unfinished.is_unfinished(folder)


def kind_of(name: str) -> str | None:
    """What ``config.json`` says that a folder holds."""
    if unfinished.is_unfinished(name):
        return unfinished.recipe_of(name)["model"]["kind"]
    path = find_model(name) / "config.json"
    mend = "save or copy the model again"
    return get(read_json(path, mend), "kind", str, str(path))
