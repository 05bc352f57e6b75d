"""A place for a training that a lost session must not cost."""

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

DRIVE = Path("/content/drive/MyDrive")  # where Colab mounts a Google Drive


def run_folder(name: str, recipe: Any) -> Path | None:
    """Where the checkpoints of a training go; None if it is not worth keeping.

    Pass it on as ``out``: a folder with a checkpoint of the same recipe lets the
    training go on from there, and None keeps nothing. The folder is a new one for every
    recipe, so that a changed setting starts afresh.

    In Colab it lies on the Google Drive if one is mounted, else on the runtime's own
    disk, which survives a restarted kernel and not a lost machine. Elsewhere there is
    none, unless LDM_TUTORIAL_RUNS names a folder for all runs.

    Args:
        name: of the training, e.g. "chapter-3".
        recipe: its recipe, a dataclass.
    """
    base = base_folder()
    if base is None:
        return None
    text = json.dumps(asdict(recipe), sort_keys=True, default=str)
    folder = base / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    if (folder / "checkpoint.pt").exists():
        print(
            f"{folder} holds a checkpoint of this training, which goes on from there."
        )
    else:
        print(f"If this session ends, the training goes on from {folder}.")
    return folder


def base_folder() -> Path | None:
    if named := os.environ.get("LDM_TUTORIAL_RUNS"):
        return Path(named).expanduser()
    if "COLAB_RELEASE_TAG" not in os.environ:
        return None
    return (DRIVE if DRIVE.is_dir() else Path("/content")) / "ldm-tutorial-runs"
