"""This machine: the device to train on, and what a record says of it."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve().parent.parent  # of a checkout, or of site-packages


def best_device() -> torch.device:
    """CUDA if there is a device, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def environment() -> dict[str, Any]:
    """Where and when a record was made: day, device, threads and how they wait, and
    versions. ``commit`` is that of a checkout, and null where there is none."""
    from ldm_tutorial import __version__

    return {
        "date": datetime.now(UTC).date().isoformat(),
        "version": __version__,
        "commit": commit(HERE),
        "device": device_name(),
        "threads": torch.get_num_threads(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "default"),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def device_name() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU ({platform.machine()})"


def commit(folder: Path) -> str | None:
    """The commit that a checkout is at, with a ``+`` if its library was changed since;
    None if the folder is not the top of a checkout, or git is not installed."""
    if not (folder / ".git").exists():
        return None
    git = ("git", "-C", str(folder))
    try:
        head = subprocess.run(
            (*git, "rev-parse", "--short=12", "HEAD"), capture_output=True, text=True
        )
        changed = subprocess.run(
            (*git, "status", "--porcelain", "--", "ldm_tutorial"),
            capture_output=True,
            text=True,
        )
    except OSError:
        return None
    if head.returncode:
        return None
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")
