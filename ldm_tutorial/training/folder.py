"""A run on disk: what was asked for, how far it is, its log and its checkpoint.

A run that was stopped anywhere goes on exactly as if nothing had happened, and a folder
that holds something else is refused before anything in it is touched.
"""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from ldm_tutorial.data import NAMES, DataConfig
from ldm_tutorial.storage import config_to_dict, find_model, write_json
from ldm_tutorial.training.config import Log

# Settings that a run may go on with others of: those that cannot change what a training
# ends with; and how many images a folder holds, which may gain and lose some.
HARMLESS = {
    "log_every",
    "checkpoint_every",
    "validate_every",
    "num_workers",
    "download",
    "skip_bad",
    "images",
}


class RunFolder:
    """The files of one run: its log and its last checkpoint."""

    def __init__(
        self,
        out: str | Path | None,
        settings: dict[str, Any],
        state: dict[str, Any],
        writes: bool = True,
    ):
        self.out = Path(out) if out else None
        self.settings, self.state = settings, state
        self.writes = writes and self.out is not None
        self.step, self.seconds = 0, 0.0
        self.lines: list[Log] = []
        if self.out:
            self.out.mkdir(parents=True, exist_ok=True)
            self._resume(self.out)
            self._read_log(self.out)
        if self.writes:
            self._rewrite_log()

    def _file(self, name: str) -> Path:
        """The path of a file of a run that has a folder."""
        assert self.out is not None
        return self.out / name

    def _resume(self, out: Path) -> None:
        saved = read_checkpoint(out)
        if saved is None:
            return
        refuse_other(out, saved["config"], self.settings)
        try:
            for name, part in self.state.items():
                if name in saved or name != "finite":  # older checkpoints do not count
                    part.load_state_dict(saved[name])
        except (RuntimeError, ValueError, KeyError):
            raise ValueError(
                f"{out} holds a run of another model; choose another folder, or "
                "the same model to go on with that run"
            ) from None
        self.step, self.seconds = saved["step"], saved["seconds"]

    def _read_log(self, out: Path) -> None:
        """Keep the lines up to the checkpoint: later ones will be made again."""
        path = out / "metrics.jsonl"
        for text in path.read_text().splitlines() if path.exists() else []:
            try:
                line = json.loads(text)
            except json.JSONDecodeError:  # the process died while it wrote this line
                break
            if line["step"] <= self.step:
                self.lines.append(line)

    def _rewrite_log(self) -> None:
        new = self._file("metrics.jsonl.new")
        new.write_text("".join(json.dumps(line) + "\n" for line in self.lines))
        os.replace(new, self._file("metrics.jsonl"))

    def log(self, line: Log) -> None:
        self.lines.append(line)
        if self.writes:
            with self._file("metrics.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")

    def checkpoint(self, step: int, seconds: float) -> None:
        """Write the state so that a crash leaves the old checkpoint or the new one."""
        if not self.writes:
            return
        state = {name: part.state_dict() for name, part in self.state.items()}
        state |= {"step": step, "seconds": seconds, "config": self.settings}
        new = self._file("checkpoint.pt.new")
        with new.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self._file("checkpoint.pt"))
        write_json(self._file("train_config.json"), self.settings)


def read_checkpoint(out: Path) -> dict[str, Any] | None:
    """The checkpoint in a folder, or None if there is none.

    Raises:
        ValueError: if it cannot be read.
    """
    path = out / "checkpoint.pt"
    if not path.exists():
        return None
    with path.open("rb") as file:
        try:
            saved = torch.load(file, map_location="cpu", weights_only=True)
        except Exception:  # a broken file makes torch fail in many ways
            saved = {}
    if saved.keys() >= {"module", "ema", "optimizer", "step", "seconds", "config"}:
        return saved
    raise ValueError(
        f"{path} is damaged or no checkpoint; put a copy in its place, or move it away "
        "to train from the start"
    )


def refuse_other(
    out: Path, saved: dict[str, Any], asked: dict[str, Any], prefix: str = ""
) -> None:
    """Raise a ValueError that names the first setting in which two runs differ.

    Settings are nested dictionaries; one that is missing on a side is not compared, nor
    is one that cannot change the result.
    """
    for name in [name for name in asked if name in saved and name not in HARMLESS]:
        old, new, name = saved[name], asked[name], prefix + name
        if isinstance(old, dict) and isinstance(new, dict):
            refuse_other(out, old, new, name + ".")
        elif old != new:
            raise ValueError(
                f"{out} holds a run with {name}={old}, and {name}={new} was asked for; "
                "choose another folder, or the same settings to go on with that run"
            )


def settings(
    recipe: DataConfig, codec: Any = None, dataset: Any = None
) -> dict[str, Any]:
    """What decides a run, as JSON values: the recipe, a digest of the codec, and what a
    data set of one's own is."""
    described: dict[str, Any] = {"kind": type(recipe).__name__}
    if codec is not None:
        described["codec"] = digest(codec)
    described |= config_to_dict(recipe)
    if "objective" in described:
        objective = cast(Any, recipe).objective
        kind = getattr(objective, "kind", type(objective).__name__)
        described["objective"] = {"kind": kind, **described["objective"]}
    if dataset is not None:
        described["data"] = f"{type(dataset).__name__} of {len(dataset)}"
    return described


def digest(codec: Any) -> str:
    """A short name for the codec's very weights; "pixels" where there are none."""
    tensors = codec.state_dict() if isinstance(codec, nn.Module) else {}
    if not tensors:
        return "pixels"
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(name.encode() + tensor.detach().cpu().numpy().tobytes())
    return found.hexdigest()[:12]


def check_folder(out: Path, described: dict[str, Any]) -> None:
    """Refuse to train in a folder that holds something else.

    Raises:
        ValueError: if there is a run of another recipe, or a model without a run.
    """
    path = out / "recipe.json"
    started = (out / "checkpoint.pt").exists()
    if (out / "model.safetensors").exists() and not started:
        raise ValueError(
            f"{out} holds a finished model without its checkpoint.pt, and training "
            "would overwrite it; choose another folder"
        )
    if started and path.exists():
        try:
            saved = json.loads(path.read_text())
        except ValueError:
            raise ValueError(
                f"{path} is damaged; put a copy in its place, or choose another folder"
            ) from None
        if same_kind_of_data(saved, described):
            saved = {k: v for k, v in saved.items() if k != "data"}
        refuse_other(out, saved, described)


def same_kind_of_data(saved: Any, asked: dict[str, Any]) -> bool:
    """Whether both runs are about a folder of images: it may have moved."""
    old, new = (d.get("data") if isinstance(d, dict) else None for d in (saved, asked))
    if not isinstance(old, str) or not isinstance(new, str):
        return False
    own = any(re.fullmatch(r"\w+ of \d+", name) for name in (old, new))
    return not own and old not in NAMES and new not in NAMES


def what_changed(out: Path, described: dict[str, Any], images: int) -> list[str]:
    """What is different since a run was begun, though it goes on: in words."""
    try:
        saved = json.loads((out / "recipe.json").read_text())
        before = json.loads((out / "train_config.json").read_text())["images"]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # no run, or none that was begun with images
    changes = []
    if isinstance(saved, dict) and saved.get("data") != described.get("data"):
        changes.append(f"the images were in {saved.get('data')}")
    if before != images:
        changes.append(f"there were {before} images to train on, and now {images}")
    return changes


def trained_on(folder: str | Path) -> dict[str, Any]:
    """The ``recipe.json`` beside a model, or {} if there is none, as with the shipped
    ones (which were trained on landscapes of 64 x 64 pixels)."""
    place = Path(folder)
    if not (place / "checkpoint.pt").exists():
        place = find_model(folder)
    path = place / "recipe.json"
    try:
        found = json.loads(path.read_text()) if path.exists() else {}
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{path} is damaged; remove it, or put a copy in its place")
    return found
