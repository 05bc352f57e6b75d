"""Models on disk: a folder with ``config.json`` and ``model.safetensors``.

Nothing is unpickled, so a folder from a stranger can do no harm. Reference models ship
with the course: in a checkout they lie in ``data/`` beside the package; the wheel
carries them inside it.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
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


def describe(
    part: Any, role: str, known: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The kind and the config under which a part of a model is saved, as JSON values.

    Args:
        known: classes by the kinds that are taken already.

    Raises:
        TypeError: if the part would not come back as what it is.
    """
    part = getattr(part, "_orig_mod", part)  # of a compiled module
    name = type(part).__name__
    kind, config = (getattr(part, field, None) for field in ("kind", "config"))
    rebuilt = callable(getattr(part, "from_config", None))
    if not isinstance(kind, str) or config is None or not rebuilt:
        raise TypeError(
            f"this {role}, a {name}, cannot be saved: give it a name `kind`, a "
            "`config` of JSON values and a class method `from_config`, or save its "
            "state_dict yourself"
        )
    own = "kind" in vars(type(part)) or "kind" in getattr(part, "__dict__", {})
    if not own or (known or {}).get(kind, type(part)) is not type(part):
        raise TypeError(
            f"this {role}, a {name}, would come back as another {kind}; give {name} a "
            "`kind` of its own"
        )
    try:
        values = config_to_dict(config)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"the config of this {role}, a {name}, is not made of JSON values: {error}"
        ) from None
    if "kind" in values:
        raise TypeError(
            f"the config of this {role}, a {name}, has an entry 'kind', where the name "
            "of its class is written; call it otherwise"
        )
    return {"kind": kind, **values}


def rebuild(described: dict[str, Any], known: Mapping[str, Any]) -> Any:
    """The part of a model that ``describe`` described, with fresh weights. A dataclass
    gets tuples, which may be what it has, in place of lists, which JSON has.

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
    part = known[kind]
    return part.from_config(tuples(config) if is_dataclass(part) else config)


def tuples(value: Any) -> Any:
    """JSON values with a tuple for every list."""
    if isinstance(value, dict):
        return {name: tuples(item) for name, item in value.items()}
    return tuple(map(tuples, value)) if isinstance(value, list) else value


def config_to_dict(config: Any) -> dict[str, Any]:
    """A config, a dataclass or a mapping, as JSON values (tuples become lists).

    Raises:
        TypeError, ValueError: for anything else.
    """
    if is_dataclass(config) and not isinstance(config, type):
        config = asdict(config)
    return json.loads(json.dumps(dict(config)))


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
