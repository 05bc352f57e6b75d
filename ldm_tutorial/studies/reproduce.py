"""The register of studies, and how one is run and recorded.

A study is a list of arms that differ in one thing. ``ldm-tutorial reproduce NAME`` runs
them one after the other and records what came out in ``NAME.json``, with pictures
beside it. An arm that is done is not run again; one that was stopped goes on. With
``--arms`` some are run again, or for the first time, and the record keeps the others.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ldm_tutorial.disk import as_path, get, read_json, replacing
from ldm_tutorial.records import Row, known, write_record
from ldm_tutorial.storage import config_to_dict
from ldm_tutorial.studies.attribution import attribution_arms
from ldm_tutorial.studies.compression import compression_arms
from ldm_tutorial.studies.cost_growth import growth_arms
from ldm_tutorial.studies.ddpm_ablation import ddpm_arms
from ldm_tutorial.studies.decoder_study import decoder_arms
from ldm_tutorial.studies.few_steps import few_arms
from ldm_tutorial.studies.flow_study import flow_arms
from ldm_tutorial.studies.joint import joint_arms
from ldm_tutorial.studies.kl import kl_arms
from ldm_tutorial.studies.latent_study import latent_arms
from ldm_tutorial.studies.longer_budget import longer_arms
from ldm_tutorial.studies.loss_ablation import loss_arms
from ldm_tutorial.studies.own_images import own_arms
from ldm_tutorial.studies.reconstructions import reconstruction_arms
from ldm_tutorial.studies.samplers import sampler_arms
from ldm_tutorial.studies.scaling import scaling_arms
from ldm_tutorial.studies.speed import speed_arms
from ldm_tutorial.studies.star_probe import probe_arms
from ldm_tutorial.studies.study import SCALES, Study, read_row, run_arm
from ldm_tutorial.studies.time_to_quality import time_arms
from ldm_tutorial.training.folder import refuse_other

STUDIES = {
    "compression_study": Study(
        "What do f and the number of latent channels cost in quality?",
        compression_arms,
    ),
    "loss_ablation": Study(
        "What do a perceptual and an adversarial loss add to L1?", loss_arms
    ),
    "decoder_study": Study(
        "Which remedy brings back what, and what does a critic buy?", decoder_arms
    ),
    "kl_study": Study(
        "Which KL weight gives latents that a diffusion model can live in?", kl_arms
    ),
    "scaling_study": Study(
        "What does it cost to leave latents at the scale they come in?", scaling_arms
    ),
    "ddpm_ablation": Study(
        "What should the network predict, on which schedule, with which weights?",
        ddpm_arms,
    ),
    "samplers": Study(
        "How good are samples after how many function evaluations?", sampler_arms
    ),
    "frozen_vs_joint": Study(
        "Should the autoencoder be frozen while the diffusion model is trained?",
        joint_arms,
    ),
    "time_to_quality": Study(
        "How good are samples after the same time, in pixels and in latents?", time_arms
    ),
    "longer_budget": Study(
        "Do five times the time, or targets that suit patches, change the verdict?",
        longer_arms,
    ),
    "cost_growth": Study(
        "How does a training step grow with the size of the images?", growth_arms
    ),
    "speed": Study("What makes it fast, and what do our own loops cost?", speed_arms),
    "attribution": Study(
        "Which fault of a sample comes from the autoencoder, which from diffusion?",
        attribution_arms,
    ),
    "reconstructions": Study(
        "How do the shipped autoencoders' pictures look to what nobody trained on?",
        reconstruction_arms,
    ),
    "star_probe": Study("How much of the stars do the latents hold?", probe_arms),
    "flow_study": Study(
        "Noise, v or a flow, by a UNet or a transformer, for the same operations?",
        flow_arms,
    ),
    "latent_study": Study("Which latents are easy to diffuse?", latent_arms),
    "few_steps": Study(
        "What is lost when a model is distilled to one to eight steps?", few_arms
    ),
    "own_images": Study(
        "How many pictures does a model need, and when does it give them back?",
        own_arms,
        data="landscapes",
    ),
}


def reproduce(
    name: str,
    scale: str = "cpu",
    out: str | Path | None = None,
    results: str | Path | None = None,
    only: Iterable[str] = (),
    on_arm: Callable[[str, Row], Any] | None = None,
    data: str | Path | None = None,
) -> Path | None:
    """Run a study and record it.

    Args:
        out: folder of the trainings, by default ``runs/studies/NAME-SCALE``.
        results: folder for ``NAME.json`` and its pictures, by default ``data/results``;
            a smoke run, which says nothing, leaves them in ``out``.
        only: some of the arms, by name. What a record of the same scale says of the
            others stays as it is; without one nothing is written until all are done.
        on_arm: called with the name and the row of every arm that is done.
        data: a data set or a folder of pictures, for a study of any data.

    Returns:
        The path of the record, or None while arms are missing.

    Raises:
        ValueError: for an unknown study, scale or arm, for ``data`` that the study
            does not take, or if ``out`` holds arms of other settings.
    """
    study, settings = known(STUDIES, name, "study"), known(SCALES, scale, "scale")
    about = data_of(name, study, data)
    out = Path("runs", "studies", f"{name}-{scale}") if out is None else as_path(out)
    if results is None:
        results = out if scale == "smoke" else Path("data", "results")
    results = as_path(results)
    arms = study.arms(settings) if about is None else study.arms(settings, about)
    for arm in only:
        known(arms, arm, "arm")
    described = config_to_dict(settings) | ({"data": about} if about else {})
    for arm, run in arms.items():
        if not only or arm in only:
            row = run_arm(run, out / arm, described)
            if on_arm:
                on_arm(arm, row)
    path = results / f"{name}.json"
    old = recorded(path, described)
    done = {arm: out / arm / "row.json" for arm in arms}
    new = {
        arm: read_row(file)
        for arm, file in done.items()
        if file.exists() and (not only or arm in only or arm not in old["rows"])
    }
    if not all(arm in new or arm in old["rows"] for arm in arms):
        return None
    for arm in new:
        for picture in (out / arm).glob("*.png"):
            with replacing(results / name / f"{arm}-{picture.name}") as new_picture:
                new_picture.write_bytes(picture.read_bytes())
    report = {
        "study": name,
        "question": study.question,
        "command": f"ldm-tutorial reproduce {name} --scale {scale}"
        + (f" --data {about}" if about else ""),
        "scale": described,
        "rows": {a: new[a]["row"] if a in new else old["rows"][a] for a in arms},
    }
    history = {"history": old["history"]} if "history" in old else {}
    runs = kept_runs(old["runs"], new) + [
        {"arms": [arm]} | part["made"] for arm, part in new.items()
    ]
    write_record(path, report | summary(runs) | history)
    return path


def data_of(name: str, study: Study, data: str | Path | None) -> str | None:
    """What a study is about if it takes any data; None for the others."""
    if study.data is None and data is not None:
        raise ValueError(f"--data {data}: {name} is about landscapes; leave --data out")
    return study.data if data is None else str(data)


Run = dict[str, Any]


def recorded(path: Path, described: dict[str, Any]) -> dict[str, Any]:
    """The record at ``path``, empty if there is none of this scale."""
    if path.exists():
        found = read_json(path, "move it away")
        parts = {"scale": dict, "rows": dict, "runs": list}
        scale, *_ = (get(found, part, kind, str(path)) for part, kind in parts.items())
        try:
            refuse_other(path, scale, described)
            return found
        except ValueError:  # it is of another scale, and will be replaced
            pass
    return {"rows": {}, "runs": []}


def kept_runs(runs: list[Run], replaced: Iterable[str]) -> list[Run]:
    """Of earlier runs, those that some of the arms still come from."""
    left = [
        run | {"arms": [arm for arm in run["arms"] if arm not in replaced]}
        for run in runs
    ]
    return [run for run in left if run["arms"]]


def summary(runs: list[Run]) -> dict[str, Any]:
    """What a record says of all of its runs: seconds in all, and on what they ran."""
    told = {
        key: ", ".join(dict.fromkeys(str(run[key]) for run in runs))
        for key in ("device", "threads", "python", "torch")
    }
    return told | {"seconds": sum(run["seconds"] for run in runs), "runs": runs}
