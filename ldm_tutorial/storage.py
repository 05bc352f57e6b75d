"""Models on disk: a folder with ``config.json`` and ``model.safetensors``.

Nothing is unpickled, so a folder from a stranger can do no harm. Reference models ship
with the course: in a checkout they lie in ``data/`` beside the package; the wheel
carries them inside it.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

PACKAGE = Path(__file__).resolve().parent
ROOTS = (PACKAGE.parent / "data", PACKAGE / "_data")


def shipped() -> list[str]:
    """Names of the shipped reference models."""
    folders = [p.parent for root in ROOTS for p in root.glob("reference/*/config.json")]
    return sorted({folder.name for folder in folders})


def find_model(name: str | Path) -> Path:
    """The folder of a model: a path, or the name of a shipped reference model.

    Raises:
        FileNotFoundError: if there is no such folder with a ``config.json``.
    """
    for folder in (Path(name), *(root / "reference" / name for root in ROOTS)):
        if (folder / "config.json").is_file():
            return folder
    raise FileNotFoundError(
        f"no model at {str(name)!r}: give a folder that holds config.json and "
        f"model.safetensors, or a shipped model: {', '.join(shipped()) or 'none'}"
    )


def save_model(
    folder: str | Path,
    kind: str,
    config: dict[str, Any],
    tensors: dict[str, Tensor],
    dtype: torch.dtype | None = None,
) -> None:
    """Write a model; ``dtype=torch.float16`` halves the file."""
    from safetensors.torch import save

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    if dtype is not None:
        tensors = {k: v.to(dtype) for k, v in tensors.items()}
    (folder / "model.safetensors.new").write_bytes(save(tensors))
    os.replace(folder / "model.safetensors.new", folder / "model.safetensors")
    write_json(folder / "config.json", {"kind": kind, **config})


def load_model(name: str | Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config and float32 tensors of a model that ``save_model`` wrote.

    Raises:
        FileNotFoundError: if the folder or one of its two files is missing.
        ValueError: if a file is damaged, or the model is of another kind.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = find_model(name)
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise FileNotFoundError(f"{weights} is missing; save the model again")
    try:
        config = json.loads((folder / "config.json").read_text())
        tensors = load_file(weights)
    except (json.JSONDecodeError, SafetensorError) as error:
        raise ValueError(f"the model in {folder} is damaged: {error}") from None
    found = (
        config.pop("kind", "nothing known") if isinstance(config, dict) else "a list"
    )
    if found != kind:
        raise ValueError(f"{folder} holds a model of kind {found!r}; wanted {kind!r}")
    return config, {k: v.float() for k, v in tensors.items()}


def describe(part: Any, role: str) -> dict[str, Any]:
    """The kind and the config under which a part of a model is saved, as JSON values.

    Raises:
        TypeError: if it lacks one of them; it would come back as something else.
    """
    kind, config = (getattr(part, name, None) for name in ("kind", "config"))
    if not isinstance(kind, str) or config is None:
        raise TypeError(
            f"this {role}, a {type(part).__name__}, cannot be saved: give it a name "
            "`kind`, a `config` of JSON values and a class method `from_config`, or "
            "save its state_dict yourself"
        )
    values = config if isinstance(config, dict) else config_to_dict(config)
    return {"kind": kind, **values}


def rebuild(described: dict[str, Any], known: Mapping[str, Any]) -> Any:
    """The part of a model that ``describe`` described, with fresh weights.

    Raises:
        ValueError: for a kind that is not in ``known``.
    """
    kind = described["kind"]
    if kind not in known:
        raise ValueError(
            f"this model has a part of kind {kind!r}, which is unknown here; known are "
            f"{', '.join(known)}; give its class: kinds={{{kind!r}: ...}}"
        )
    config = {name: value for name, value in described.items() if name != "kind"}
    return known[kind].from_config(config)


def config_to_dict(config: Any) -> dict[str, Any]:
    """A config dataclass as JSON values (tuples become lists)."""
    return json.loads(json.dumps(asdict(config)))


def config_from_dict(cls: type, values: dict[str, Any]) -> Any:
    """A frozen config dataclass from JSON values (lists become tuples).

    Raises:
        ValueError: for a field that the class does not have.
    """
    known = {field.name for field in fields(cls)}
    if unknown := set(values) - known:
        raise ValueError(
            f"{cls.__name__} has no field {', '.join(sorted(unknown))}; "
            f"it has {', '.join(sorted(known))}"
        )
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_text(json.dumps(value, indent=2) + "\n")
    os.replace(new, path)
