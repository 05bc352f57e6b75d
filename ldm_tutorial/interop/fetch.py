"""Weights of other people's autoencoders, fetched from where they are published."""

import os
import shutil
from pathlib import Path

import torch

from ldm_tutorial.codec import LatentCodec
from ldm_tutorial.interop.diffusers import WEIGHTS, load_vae

HUB = "https://huggingface.co"


def fetch_vae(
    name: str = "stabilityai/sd-vae-ft-mse",
    *,
    download: bool = False,
    folder: str | Path | None = None,
    hub: str = HUB,
) -> LatentCodec:
    """A published autoencoder in diffusers' format, from the disk once it is there.

    Args:
        name: owner and model, as ``hub`` names them.
        download: get what is missing (335 MB for Stable Diffusion's).
        folder: where to keep it; by default beside what torch.hub downloads.

    Raises:
        FileNotFoundError: if it is not on the disk, and is not to be or cannot be got.
    """
    cache = Path(torch.hub.get_dir()) / "ldm_tutorial" / name.replace("/", "--")
    folder = cache if folder is None else Path(folder)
    for file in ("config.json", WEIGHTS):
        if (folder / file).is_file():
            continue
        if not download:
            raise FileNotFoundError(
                f"the weights of {name} are not on this machine; give download=True to "
                "fetch them"
            )
        get(f"{hub}/{name}/resolve/main/{file}", folder / file)
    return load_vae(folder)


def get(address: str, path: Path) -> None:
    """Download a file; what breaks off leaves nothing behind that looks whole."""
    from urllib.request import urlopen

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    try:
        with urlopen(address, timeout=60) as source, part.open("wb") as target:
            shutil.copyfileobj(source, target)
    except OSError as error:
        raise FileNotFoundError(f"{address} could not be fetched: {error}") from None
    os.replace(part, path)
