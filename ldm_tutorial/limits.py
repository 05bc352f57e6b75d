"""How large a model may be asked for: absurd sizes are refused before anything is
built, whether they come from a command line or from a file."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from ldm_tutorial.machine import memory

# The largest value of each number in the config of a model; of a list, of each entry.
MOST = {
    **dict.fromkeys(("in_channels", "latent_channels", "head_channels"), 4096),
    **dict.fromkeys(("downsampling", "encoder_patch", "decoder_patch"), 1024),
    **dict.fromkeys(("patch", "patch_size", "num_heads", "mlp_ratio"), 1024),
    **dict.fromkeys(("channels", "width", "features"), 65_536),
    **dict.fromkeys(("num_res_blocks", "depth"), 256),
    "num_classes": 1_000_000,
    "num_train_timesteps": 100_000,
    "size": 8192,
    "image_size": 8192,
}
LEAST = {
    **dict.fromkeys(("in_channels", "latent_channels", "channels", "width"), 1),
    **dict.fromkeys(("num_res_blocks", "depth", "num_heads", "features"), 1),
    **dict.fromkeys(("patch", "patch_size", "num_train_timesteps", "image_size"), 1),
}
MOST_LEVELS = 16  # entries of a list of widths
TRAINING = 5  # weights, gradients, two moments of Adam, and the average, as float32
ACTIVATIONS = 8  # times the images of a batch: the least that a training holds of them


def check_limits(values: Mapping[str, Any]) -> None:
    """Raise a ValueError for a number in a config that no model could have."""
    for name, value in values.items():
        entries = value if isinstance(value, tuple | list) else (value,)
        if name == "channels" and not 1 <= len(entries) <= MOST_LEVELS:
            raise ValueError(
                f"{name} has {len(entries)} levels; give 1 to {MOST_LEVELS}"
            )
        for entry in entries:
            if not isinstance(entry, int | float):
                continue
            if entry > MOST.get(name, entry):
                raise ValueError(f"{name}={value}; give at most {MOST[name]}")
            if entry < LEAST.get(name, entry):
                raise ValueError(f"{name}={value}; give {LEAST[name]} or more")


def check_model(build: Callable[[], nn.Module]) -> None:
    """Raise a ValueError if the training of a module, which ``build`` makes where no
    memory is taken, could not fit into this machine."""
    with torch.device("meta"):
        count = sum(p.numel() for p in build().parameters())
    check_memory(
        4 * TRAINING * count, f"{count / 1e6:,.0f} M parameters", "a smaller model"
    )


def check_batch(numbers: int) -> None:
    """Raise a ValueError if images of so many numbers could not be computed at once."""
    what = f"batches of {numbers / 1e6:,.0f} M numbers"
    check_memory(4 * ACTIVATIONS * numbers, what, "fewer or smaller images at once")


def check_memory(needed: int, what: str, mend: str) -> None:
    if needed > (there := memory()):
        raise ValueError(
            f"{what} take at least {needed / 1e9:,.0f} GB in a training, and this "
            f"machine has {there / 1e9:,.1f} GB free; take {mend}"
        )
