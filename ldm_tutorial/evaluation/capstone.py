"""The capstone: the best model that ten minutes of one core can train.

A model is judged on landscapes and noise of a seed that nothing else in the library
uses. What it cost is read from the records of its trainings. Both are on a card.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ldm_tutorial.codec import LatentCodec
from ldm_tutorial.data import DataConfig, Images
from ldm_tutorial.disk import read_json
from ldm_tutorial.evaluation.batched import Progress
from ldm_tutorial.evaluation.samples import evaluate_samples
from ldm_tutorial.landscapes.dataset import Landscapes
from ldm_tutorial.machine import environment
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.records import fingerprint
from ldm_tutorial.storage import find_model, shipped
from ldm_tutorial.training.folder import digest, read_log

BUDGET = 600.0  # seconds of one core, over all trainings
IMAGES = 1000
SEED = 20_611  # of the landscapes and of the noise; train on anything but this
VERSION = 1
FACTORS = (
    *("agreement_time", "agreement_biome", "tv_sun_x", "tv_sun_y"),
    *("tv_sun_radius", "tv_tree_count", "tv_house"),
    *("forbidden_any", "starry_nights", "memorised"),
)


@dataclass(frozen=True)
class HiddenLandscapes(DataConfig):
    """Landscapes whose held-out images are of the capstone's own seed."""

    def load(self, split: str, length: int | None = None) -> Images:
        seed = 0 if split == "train" else SEED
        return Landscapes(split, length, seed, self.size)


def judge_capstone(
    model: LatentDiffusion,
    spent: dict[str, Any],
    name: str = "",
    images: int = IMAGES,
    progress: Progress | None = None,
    **options: Any,
) -> dict[str, Any]:
    """The card of a model: what it draws, and what it cost.

    Args:
        model: of landscapes of 64 pixels and their classes.
        spent: as ``cpu_seconds`` gives it.
        name: of whoever trained it.
        images: fewer than IMAGES are for a first look: the card then fits no board.
        options: of ``LatentDiffusion.sample``, such as ``steps``.

    Raises:
        ValueError: for a model of other images.
    """
    if model.image_size != 64 or model.classes != tuple(Landscapes.classes):
        raise ValueError(
            "the capstone is about landscapes of 64 x 64 pixels and their classes, and "
            "this model makes others; train with --data landscapes --size 64"
        )
    report = evaluate_samples(
        model,
        HiddenLandscapes(),
        images,
        seed=SEED,
        factors=True,
        progress=progress,
        **options,
    )
    factors = report.pop("factors")
    kept = [name + end for name in FACTORS for end in ("", "_ci95", "_real")]
    judged = {k: v for k, v in report.items() if not k.startswith("n_")}
    card = {"version": VERSION, "name": name or "anonymous", "budget": BUDGET}
    card |= spent | {
        "parameters": sum(p.numel() for p in model.unet.parameters()),
        "samples": judged,
        "factors": {k: factors[k] for k in kept if k in factors},
        "judged": environment() | {"date": datetime.now(UTC).date().isoformat()},
    }
    return card | {"digest": fingerprint(card)}


# What it cost


def cpu_seconds(model: Path, vae: Path | None = None) -> dict[str, Any]:
    """What the trainings of a model cost, in seconds of one core, by their records.

    The shipped autoencoders are free. Any other needs the folder of its training.

    Raises:
        ValueError: if a record is missing, was changed, or says that more was used
            than the budget, that something trained was started from, or that it was no
            CPU.
    """
    found = record_of(model)
    runs = {"denoiser": found}
    if found["recipe"].get("decoder") not in (None, *shipped()):
        raise ValueError(
            f"{model} has the decoder of {found['recipe']['decoder']}, whose cost no "
            "record here tells; leave decoder out, or give a shipped one"
        )
    codec = read_json(model / "recipe.json").get("codec")
    if codec != "pixels" and codec not in free_codecs():
        if vae is None:
            raise ValueError(
                f"{model} was trained with an autoencoder of your own, whose cost "
                "counts; give the folder of its training: --vae DIR"
            )
        if digest(LatentCodec.load(vae)) != codec:
            raise ValueError(f"{model} was not trained with the autoencoder in {vae}")
        runs["autoencoder"] = record_of(vae)
    used = {name: used_by(record) for name, record in runs.items()}
    total = round(sum(used.values()), 1)
    if total > BUDGET:
        raise ValueError(
            f"{model} took {total:g} CPU seconds and the budget is {BUDGET:g}; train "
            "for fewer steps, or a smaller network"
        )
    return {
        "weights": hashlib.sha256(
            (model / "model.safetensors").read_bytes()
        ).hexdigest()[:16],
        "cpu_seconds": total,
        "runs": {
            name: {"cpu_seconds": round(used[name], 1)}
            | {k: record.get(k) for k in ("seconds", "threads", "steps", "seed")}
            | {k: record.get(k) for k in ("device", "torch", "commit")}
            for name, record in runs.items()
        },
    }


def free_codecs() -> set[str]:
    """Digests of the shipped autoencoders."""
    names = [name for name in shipped() if name.startswith("vae")]
    return {digest(LatentCodec.load(name)) for name in names}


def record_of(folder: Path) -> dict[str, Any]:
    """The record that a training from nothing, on a CPU, left in its folder.

    Raises:
        ValueError: for anything else.
    """
    path = folder / "result.json"
    try:
        record = read_json(path)
        last = read_log(folder / "metrics.jsonl")[-1]["seconds"]
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        raise ValueError(
            f"{folder} is no finished training: it needs result.json and metrics.jsonl "
            "as train-vae and train-ldm write them"
        ) from None
    if record.get("digest") != fingerprint(record) or record.get("seconds") != last:
        raise ValueError(f"{path} was changed after the training; train again")
    if not str(record["device"]).startswith("CPU"):
        raise ValueError(
            f"{folder} was trained on {record['device']}, and the budget is in CPU "
            "seconds; train with CUDA_VISIBLE_DEVICES= (empty)"
        )
    start = record["recipe"].get("init")
    if start is not None and not (start in shipped() and "vae" in record["recipe"]):
        raise ValueError(
            f"{folder} began with the weights of {start}, whose cost it does not tell; "
            "begin with none (leave --init out)"
        )
    return record


def used_by(record: dict[str, Any]) -> float:
    """Seconds of one core: as the process counted them, or by the clock times threads
    for a run that was stopped and went on."""
    counted = record.get("cpu_seconds")
    return counted or record["seconds"] * record["threads"]


def find_run(name: str) -> Path:
    """The folder of a training, which a shipped model has none of."""
    folder = find_model(name)
    if folder != Path(name):
        raise ValueError(
            f"{name} is shipped; train a model of your own and give its folder"
        )
    return folder
