"""Models on disk: a folder with ``config.json`` and ``model.safetensors``.

Nothing is unpickled, so a folder from a stranger can do no harm. A digest of both files
lies in the head of the weights: a bit that has flipped since is noticed. Reference
models ship with the course: in a checkout they lie in ``data/`` beside the package; the
wheel carries them inside it.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from ldm_tutorial.disk import as_path, parsed, read_json, replacing, write_json
from ldm_tutorial.limits import check_limits

PACKAGE = Path(__file__).resolve().parent
ROOTS = (PACKAGE.parent / "data", PACKAGE / "_data")
DIGEST = "digest"  # its place among the metadata of the weights
LONGEST_HEAD = 2**24  # bytes: enough for a hundred thousand tensors
AGAIN = "save or copy the model again"
CODEC_OF = "codec_of"  # in a config: the shipped autoencoder whose tensors are not here


def shipped() -> list[str]:
    """Names of the shipped reference models."""
    folders = [p.parent for root in ROOTS for p in root.glob("reference/*/config.json")]
    return sorted({folder.name for folder in folders})


def find_model(name: str | Path) -> Path:
    """The folder of a model: a path, or the name of a shipped reference model.

    Raises:
        FileNotFoundError: if there is no such folder with a ``config.json``.
    """
    here = as_path(name)
    for folder in (here, *(root / "reference" / name for root in ROOTS)):
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

    folder = as_path(folder)
    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    if dtype is not None:
        tensors = {k: v.to(dtype) for k, v in tensors.items()}
    config = {"kind": kind, **config}
    content = memoryview(save(tensors))
    start = 8 + int.from_bytes(content[:8], "little")
    head = json.loads(bytes(content[8:start]))
    found = hashlib.sha256(described(head, config))
    found.update(content[start:])
    written = json.dumps({"__metadata__": {DIGEST: found.hexdigest()}} | head).encode()
    written += b" " * (-len(written) % 8)
    with replacing(folder / "model.safetensors") as new, new.open("wb") as file:
        file.write(len(written).to_bytes(8, "little") + written)
        file.write(content[start:])
    write_json(folder / "config.json", config)


def described(head: dict[str, Any], config: dict[str, Any]) -> bytes:
    """What a digest begins with: names, types and places of the tensors, and the
    config, as JSON that does not depend on how it was written."""
    return json.dumps([head, config], sort_keys=True).encode()


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
    config = read_json(folder / "config.json", AGAIN)
    found = config.get("kind", "nothing known")
    if found != kind:
        raise ValueError(f"{folder} holds a model of kind {found!r}; wanted {kind!r}")
    check_digest(weights, config)
    try:
        tensors = load_file(weights)
    except SafetensorError as error:
        raise ValueError(f"{weights} is damaged: {error}; {AGAIN}") from None
    del config["kind"]
    if (lender := config.pop(CODEC_OF, None)) is not None:
        tensors = lent(lender, folder) | tensors
    return config, {k: v.float() for k, v in tensors.items()}


def lent(name: Any, folder: Path) -> dict[str, Tensor]:
    """The tensors of a shipped autoencoder, named as in a model that has it as codec.

    Raises:
        ValueError: for what is not shipped: a model from a stranger names no files.
    """
    if name not in shipped():
        raise ValueError(
            f"{folder} borrows its codec from {name!r}, which is not shipped; {AGAIN}"
        )
    return {f"codec.{k}": v for k, v in load_model(name, "LatentCodec")[1].items()}


def share_codec(folder: str | Path, name: str) -> None:
    """Leave out of a saved model the tensors of its codec that a shipped autoencoder
    has, to the bit: what ships together need not ship twice. The model is read as
    before, where that autoencoder is shipped.

    Raises:
        ValueError: if they have no tensor in common.
    """
    from safetensors.torch import load_file

    folder, lender = as_path(folder), find_model(name)
    config = read_json(folder / "config.json", AGAIN)
    own, other = (load_file(at / "model.safetensors") for at in (folder, lender))
    same = {
        f"codec.{k}"
        for k, v in other.items()
        if f"codec.{k}" in own and torch.equal(own[f"codec.{k}"], v)
    }
    if not same:
        raise ValueError(f"the codec in {folder} has nothing of {name}; give another")
    kind = config.pop("kind")
    rest = {k: v for k, v in own.items() if k not in same}
    save_model(folder, kind, config | {CODEC_OF: name}, rest)


def check_digest(weights: Path, config: dict[str, Any]) -> None:
    """Hold weights and config against the digest that was saved with them; files of
    other programs, and those of old, have none.

    Raises:
        ValueError: if they are not what was saved.
    """
    with weights.open("rb") as file:
        head = read_head(file, weights)
        saved = head.pop("__metadata__", None)
        if not isinstance(saved, dict) or DIGEST not in saved:
            return
        found = hashlib.sha256(described(head, config))
        while part := file.read(2**20):
            found.update(part)
    if found.hexdigest() != saved[DIGEST]:
        raise ValueError(
            f"{weights} or the config.json beside it is damaged: they are not what was "
            f"saved (their digest is another one); {AGAIN}"
        )


def read_head(file: BinaryIO, path: Path) -> dict[str, Any]:
    """What a safetensors file says of its tensors; the file is left where they begin.

    Raises:
        ValueError: if it says nothing that can be read.
    """
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= LONGEST_HEAD:
        raise ValueError(f"{path} is damaged: it is no safetensors file; {AGAIN}")
    return parsed(file.read(length), str(path), AGAIN)


def built(
    build: Callable[[], Any], tensors: dict[str, Tensor], name: str | Path
) -> Any:
    """A module with the tensors of a model that was read. It is built without memory
    first, so that a config of absurd sizes is refused before it takes any.

    Args:
        build: gives the module, with fresh weights.
        name: of the model, for messages.

    Raises:
        ValueError: if config and tensors do not fit each other.
    """
    try:
        with torch.device("meta"):
            wanted = {k: v.shape for k, v in build().state_dict().items()}
        if wanted == {k: v.shape for k, v in tensors.items()}:
            module: nn.Module = build()
            module.load_state_dict(tensors)
            return module
    except (LookupError, TypeError, AttributeError, RuntimeError, ArithmeticError):
        pass
    raise ValueError(
        f"the model in {find_model(name)} is damaged: its config.json and "
        f"model.safetensors do not fit; {AGAIN}"
    )


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
        ValueError: for a field that the class does not have, or an absurd size.
    """
    known = {field.name for field in fields(cls)}
    check_limits(values)
    if unknown := set(values) - known:
        raise ValueError(
            f"{cls.__name__} has no field {', '.join(sorted(unknown))}; "
            f"it has {', '.join(sorted(known))}"
        )
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
