"""A run on disk: what was asked for, how far it is, its log and its checkpoint.

A run that was stopped anywhere goes on exactly as if nothing had happened, and a folder
that holds something else is refused before anything in it is touched.
"""

import hashlib
import json
import re
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

from torch import nn

from ldm_tutorial.data import NAMES, DataConfig
from ldm_tutorial.disk import (
    append,
    as_path,
    get,
    parsed,
    read_bytes,
    read_json,
    replacing,
    write_json,
)
from ldm_tutorial.storage import config_to_dict, find_model
from ldm_tutorial.training.checkpoint import PARTS, read_checkpoint, write_checkpoint
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


# Files of a run that are written beside their place first; see ``disk.replacing``.
WRITTEN: tuple[str, ...] = (
    "checkpoint.pt",
    "metrics.jsonl",
    "model.safetensors",
    "config.json",
)
WRITTEN += ("recipe.json", "result.json", "train_config.json", "images.json")
LONGEST_LOG = 2**27  # bytes


class RunFolder:
    """The files of one run: its log and its last checkpoint."""

    def __init__(
        self,
        out: str | Path | None,
        settings: dict[str, Any],
        state: dict[str, Any],
        writes: bool = True,
    ):
        self.out = as_path(out) if out is not None else None
        self.settings, self.state = settings, state
        self.writes = writes and self.out is not None
        self.step, self.seconds = 0, 0.0
        self.lines: list[Log] = []
        if self.out:
            self.lines = self._resume(self.out)
        if self.writes:
            for name in WRITTEN:  # half of a file, from a process that was killed
                self._file(name + ".new").unlink(missing_ok=True)
            self._rewrite_log()

    def _file(self, name: str) -> Path:
        """The path of a file of a run that has a folder."""
        assert self.out is not None
        return self.out / name

    def _resume(self, out: Path) -> list[Log]:
        """Take up the state of the last checkpoint; gives the log up to there."""
        saved = read_checkpoint(out)
        if saved is None:
            read_log(out / "metrics.jsonl")  # complains if it is not one of ours
            return []
        refuse_other(out, saved["config"], self.settings, grows="steps")
        try:
            for name, part in self.state.items():
                if name in saved or name in PARTS:  # older ones have fewer
                    # A copy: the file that the tensors lie in will be replaced.
                    part.load_state_dict(deepcopy(saved[name]))
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(
                f"{out} holds a run of another model; choose another folder, or "
                "the same model to go on with that run"
            ) from None
        self.step, self.seconds = saved["step"], float(saved["seconds"])
        if self.step > self.settings.get("steps", self.step):
            raise ValueError(
                f"{out} holds a run of {self.step} steps, and "
                f"{self.settings['steps']} were asked for; give as many, or more"
            )
        if "log" in saved:
            return [json.loads(line) for line in saved["log"].splitlines()]
        lines = read_log(out / "metrics.jsonl")  # checkpoints of old have no log
        return [line for line in lines if line["step"] <= self.step]

    def _rewrite_log(self) -> None:
        path = self._file("metrics.jsonl")
        if self.lines:
            with replacing(path) as new:
                new.write_text(as_text(self.lines))
        else:  # it comes with its first line
            path.unlink(missing_ok=True)

    def log(self, line: Log) -> None:
        self.lines.append(line)
        if self.writes:
            append(self._file("metrics.jsonl"), as_text([line]))

    def checkpoint(self, step: int, seconds: float) -> None:
        """Write the state so that a crash leaves the old checkpoint or the new one. The
        log lies in it too: what happens to its file does no harm."""
        if not self.writes:
            return
        state = {name: part.state_dict() for name, part in self.state.items()}
        state |= {"step": step, "seconds": seconds, "config": self.settings}
        state |= {"log": as_text(self.lines)}
        write_checkpoint(self._file("checkpoint.pt"), state)
        write_json(self._file("train_config.json"), self.settings)


def as_text(lines: list[Log]) -> str:
    return "".join(json.dumps(line) + "\n" for line in lines)


def read_log(path: Path) -> list[Log]:
    """The lines of a log, if there is one. A last line without its end is left out: a
    process died while it wrote it.

    Raises:
        ValueError: if it is damaged, or no log of a training.
    """
    if not path.exists():
        return []
    mend = "put a copy in its place, or choose another folder"
    *whole, _ = read_bytes(path, mend, LONGEST_LOG).split(b"\n")
    lines = []
    for number, text in enumerate(whole, 1):
        name = f"{path}, line {number},"
        line = parsed(text, name, mend)
        get(line, "step", int, name)
        lines.append(line)
    return lines


def refuse_other(
    out: Path,
    saved: dict[str, Any],
    asked: dict[str, Any],
    prefix: str = "",
    grows: str = "",
) -> None:
    """Raise a ValueError that names the first setting in which two runs differ.

    Settings are nested dictionaries; one that is missing on a side is not compared, nor
    is one that cannot change the result. The one named ``grows`` may be larger now.
    """
    for name in [name for name in asked if name in saved and name not in HARMLESS]:
        old, new, name = saved[name], asked[name], prefix + name
        if isinstance(old, dict) and isinstance(new, dict):
            refuse_other(out, old, new, name + ".", grows)
        elif name == grows and isinstance(old, int) and old < new:
            continue
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
    for name in ("model.safetensors", "config.json"):
        if (out / name).exists() and not started:
            raise ValueError(
                f"{out} holds a finished model ({name}) without its checkpoint.pt, and "
                "training would overwrite it; choose another folder"
            )
    if path.exists():
        saved = read_recipe(path)
        if same_kind_of_data(saved, described):
            saved = {k: v for k, v in saved.items() if k != "data"}
        if started:
            refuse_other(out, saved, described, grows="train.steps")


def read_recipe(path: Path) -> dict[str, Any]:
    """A ``recipe.json``.

    Raises:
        ValueError: if it is damaged, or of another program.
    """
    mend = "put a copy in its place, or choose another folder"
    recipe = read_json(path, mend)
    get(recipe, "kind", str, str(path))
    return recipe


def same_kind_of_data(saved: Any, asked: dict[str, Any]) -> bool:
    """Whether both runs are about a folder of images: it may have moved."""
    old, new = (d.get("data") if isinstance(d, dict) else None for d in (saved, asked))
    if not isinstance(old, str) or not isinstance(new, str):
        return False
    own = any(re.fullmatch(r"\w+ of \d+", name) for name in (old, new))
    return not own and old not in NAMES and new not in NAMES


def keep_images(out: Path, images: dict[str, str]) -> None:
    """Note which images a run is trained on: a digest of each by its name."""
    if images:
        write_json(out / "images.json", images)


def what_changed(
    out: Path,
    described: dict[str, Any],
    images: int,
    digests: dict[str, str] | None = None,
) -> list[str]:
    """What is different since a run was begun, though it goes on: in words.

    Args:
        described: its settings now.
        images: how many there are now to train on.
        digests: of these images by name, as ``keep_images`` noted them.
    """
    try:
        saved = read_json(out / "recipe.json")
        before = read_json(out / "train_config.json")["images"]
    except (OSError, ValueError, KeyError):
        return []  # no run, or none that was begun with images
    changes = []
    if saved.get("data") != described.get("data"):
        changes.append(f"the images were in {saved.get('data')}")
    steps = [d.get("train", {}).get("steps") for d in (saved, described)]
    if steps[0] != steps[1]:
        changes.append(
            f"{steps[0]} steps were asked for, and now {steps[1]}: the learning rate "
            "goes on along the longer curve"
        )
    if before != images:
        changes.append(f"there were {before} images to train on, and now {images}")
    try:
        noted = read_json(out / "images.json", longest=LONGEST_LOG)
    except (OSError, ValueError):
        return changes
    return changes + other_images(noted, digests or {})


def other_images(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """Which images came, went, or are not what they were, in words; nothing is said
    where one side is not known."""
    if not old or not new:
        return []
    found = {
        "gone": sorted(old.keys() - new.keys()),
        "new": sorted(new.keys() - old.keys()),
        "not the pictures that they were": sorted(
            name for name in old.keys() & new.keys() if old[name] != new[name]
        ),
    }
    return [
        f"{what}: {', '.join(names[:3])}"
        + f" and {len(names) - 3:,} more" * (len(names) > 3)
        for what, names in found.items()
        if names
    ]


def trained_on(folder: str | Path) -> dict[str, Any]:
    """The ``recipe.json`` beside a model, or {} if there is none, as with the shipped
    ones (which were trained on landscapes of 64 x 64 pixels)."""
    place = as_path(folder)
    if not (place / "checkpoint.pt").exists():
        place = find_model(folder)
    path = place / "recipe.json"
    mend = "remove it, or put a copy in its place"
    return read_json(path, mend) if path.exists() else {}
