"""Models of runs that have not ended: the averaged weights of the last checkpoint.

``recipe.json`` says from the first step on what model a run trains, so a run that was
stopped, or is going on, can be sampled, judged and started from.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor

from ldm_tutorial.codec import LatentCodec
from ldm_tutorial.data import data_config, stream
from ldm_tutorial.disk import as_path, read_json
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.storage import built, describe, save_model
from ldm_tutorial.training.checkpoint import read_checkpoint

MEASURED = 512  # images that the latents of an unfinished autoencoder are measured on


def is_unfinished(folder: str | Path) -> bool:
    """Whether a folder holds a run with a checkpoint and no model yet."""
    place = as_path(folder)
    names = ("recipe.json", "checkpoint.pt", "model.safetensors", "config.json")
    recipe, checkpoint, *model = ((place / name).is_file() for name in names)
    return recipe and checkpoint and not all(model)


def model_of(module: LatentDiffusion | LatentCodec) -> dict[str, Any]:
    """What ``recipe.json`` says of the model that a run trains: {} where it has parts
    of one's own that cannot be saved."""
    try:
        return {"model": json.loads(json.dumps(described(module)))}  # no tuples
    except TypeError:
        return {}


def described(module: LatentDiffusion | LatentCodec) -> dict[str, Any]:
    if isinstance(module, LatentCodec):
        return describe(module, "codec")
    return {
        "kind": "LatentDiffusion",
        "codec": describe(module.codec, "codec"),
        "denoiser": describe(module.denoiser, "denoiser"),
        "objective": describe(module.objective, "objective"),
        "image_size": module.image_size,
        "classes": list(module.classes),
    }


def recipe_of(folder: str | Path) -> dict[str, Any]:
    """The recipe of an unfinished run, with its ``model``.

    Raises:
        ValueError: if it is damaged, or from a run that does not say what it trains.
    """
    path = as_path(folder) / "recipe.json"
    recipe = read_json(path)
    model = recipe.get("model")
    if isinstance(model, dict) and isinstance(model.get("kind"), str):
        return recipe
    raise ValueError(
        f"{folder} holds a run that is not finished, and {path.name} does not say what "
        "it trains; go on with the run to its end"
    )


def load(cls: type[Any], name: str | Path) -> Any:
    """A model of a class that saves models: finished, shipped, or of an unfinished run.

    Raises:
        FileNotFoundError, ValueError: if there is none, or one of another kind.
    """
    if not is_unfinished(name):
        return cls.load(name)
    recipe, folder = recipe_of(name), as_path(name)
    config = dict(recipe["model"])
    kind = config.pop("kind")
    wanted = "LatentCodec" if cls is LatentCodec else cls.__name__
    if kind != wanted:
        raise ValueError(f"{name} holds a model of kind {kind!r}; wanted {wanted!r}")
    tensors = averaged(folder)
    if cls is LatentCodec:
        return measured(config, tensors, recipe, folder)
    with TemporaryDirectory() as place:
        save_model(place, kind, config, tensors)
        return cls.load(place)


def averaged(folder: Path) -> dict[str, Tensor]:
    """The averaged weights of the last checkpoint, by their names in the model."""
    saved: Any = read_checkpoint(folder)
    tensors = {**saved["module"], **saved["ema"]["average"]}
    for inside in ("model.", "vae."):  # the module that was trained held the model
        found = {k: v for k, v in tensors.items() if k.startswith(inside)}
        if found:
            return {k.removeprefix("model."): v for k, v in found.items()}
    return tensors


def measured(
    config: dict[str, Any],
    tensors: dict[str, Tensor],
    recipe: dict[str, Any],
    place: Path,
) -> LatentCodec:
    """An autoencoder, and what its latents are like on the images of its recipe."""
    weights = {k.removeprefix("vae."): v for k, v in tensors.items()}
    vae = built(lambda: LatentCodec.from_config(config).vae, weights, place)
    data = data_config(recipe).load("train", MEASURED)
    return LatentCodec.fit(vae, (x for x, _ in stream(data, MEASURED)))


def unfinished_step(folder: str | Path) -> int:
    """How many steps an unfinished run has done."""
    saved: Any = read_checkpoint(as_path(folder))
    return saved["step"]
