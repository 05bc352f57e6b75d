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
    """CUDA if there is a device, else the GPU of a Mac, else the CPU. Of several
    processes that train together (torchrun) each has the CUDA device of its LOCAL_RANK;
    a Mac's GPU is not for several.

    Raises:
        ValueError: if there are more processes on this machine than CUDA devices.
    """
    several = os.environ.get("WORLD_SIZE", "1") != "1"
    if not torch.cuda.is_available():
        mac = torch.backends.mps.is_available() and not several
        return torch.device("mps" if mac else "cpu")
    local = os.environ.get("LOCAL_RANK", "")
    if not several or not local.isdecimal():
        return torch.device("cuda")
    if int(local) >= torch.cuda.device_count():
        raise ValueError(
            f"LOCAL_RANK={local} and there are {torch.cuda.device_count()} CUDA "
            "devices on this machine; start as many processes with torchrun"
        )
    return torch.device("cuda", int(local))


def computes_bf16(device: torch.device) -> bool:
    """Whether bfloat16 saves time here. A CPU without instructions for it computes it
    all the same, several times slower than float32, and an Intel or AMD one that knows
    AVX-512 may have none."""
    if device.type != "cpu":
        return True
    known = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    if not torch.backends.mkldnn.is_available() or known is None or not known():
        return False
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    instructions = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in instructions)


def memory() -> int:
    """Bytes that are free where a model is trained."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0]
    import psutil

    return psutil.virtual_memory().available


def environment() -> dict[str, Any]:
    """Where and when a record was made: day, device, whether bf16 was computed in bf16,
    threads and how they wait, and versions. ``commit`` is that of a checkout, and null
    where there is none."""
    from ldm_tutorial import __version__

    return {
        "date": datetime.now(UTC).date().isoformat(),
        "version": __version__,
        "commit": commit(HERE),
        "device": device_name(),
        "bf16": computes_bf16(best_device()),
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
