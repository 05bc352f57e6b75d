"""Studies: the experiments of the book that take longer than a chapter.

A study is a list of arms that differ in one thing. ``ldm-tutorial reproduce NAME`` runs
them one after the other and records what came out in ``NAME.json``, with pictures
beside it. An arm that is done is not run again; one that was stopped goes on.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from ldm_tutorial import latents
from ldm_tutorial.attribution import attribution_arms
from ldm_tutorial.codec import LatentCodec
from ldm_tutorial.cost_studies import growth_arms, time_arms
from ldm_tutorial.evaluation import (
    JUDGE,
    compare,
    draw,
    evaluate_codec,
    evaluate_samples,
    feature_function,
    in_batches,
)
from ldm_tutorial.gaussian import generators
from ldm_tutorial.landscapes import CLASS_NAMES
from ldm_tutorial.losses import VAELossConfig, kl_weight_from_sums
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.recipes import (
    Autoencoder,
    VAERecipe,
    environment,
    images,
    whole,
)
from ldm_tutorial.samplers import SAMPLERS
from ldm_tutorial.schedule import ScheduleConfig
from ldm_tutorial.speed import speed_arms
from ldm_tutorial.storage import (
    config_to_dict,
    write_json,
    write_record,
)
from ldm_tutorial.study import (
    DATA,
    SCALES,
    SHOWN,
    Arm,
    Pictures,
    Row,
    Scale,
    Study,
    describe_vae,
    finish,
    held_out,
    known,
    ldm_recipe,
    read_lines,
    reconstructed,
    sampled,
    small_ldm,
    trained_vae,
    vae_recipe,
)
from ldm_tutorial.training import Log

# --- compression ----------------------------------------------------------------------

# f and latent channels: two that hold the same 256 values, trained with several seeds,
HEADLINE = ((8, 4), (16, 16))
# and some with 64, 256 and 1024 values.
GRID = ((4, 1), (4, 4), *HEADLINE, (16, 4))


def compression_arms(scale: Scale) -> dict[str, Arm]:
    return {
        f"f{f}-c{C}-seed{seed}": partial(compress, scale, f, C, seed)
        for f, C in GRID
        for seed in range(scale.seeds if (f, C) in HEADLINE else 1)
    }


def compress(
    scale: Scale, f: int, C: int, seed: int, folder: Path
) -> tuple[Row, Pictures]:
    recipe = vae_recipe(scale, seed, downsampling=f, latent_channels=C)
    short = replace(recipe.train, steps=recipe.train.steps * 2 // 5)
    recipe = replace(recipe, train=short)
    codec = trained_vae(recipe, folder / "vae")
    row = describe_vae(codec, scale, recipe.train)
    return row, {"reconstruction": reconstructed(codec)} if seed == 0 else {}


# --- losses ---------------------------------------------------------------------------

LOSSES = ("l1", "perceptual", "contrast", "adversarial")


def loss_arms(scale: Scale) -> dict[str, Arm]:
    return {name: partial(ablate, scale, name) for name in LOSSES}


def loss_recipe(scale: Scale, name: str) -> VAERecipe:
    """All arms go on from the same shipped autoencoder, for the same steps, each with
    one term more than the one before."""
    steps = 2 * scale.vae.steps
    losses = [VAELossConfig()]
    for more in (
        {"perceptual": "scenenet"},
        {"contrast_weight": 1.0},
        {"adversarial_weight": 0.3, "adversarial_start": steps * 3 // 5},
    ):
        losses.append(replace(losses[-1], **more))
    loss = losses[LOSSES.index(name)]
    train = replace(scale.vae, steps=steps, learning_rate=scale.vae.learning_rate / 2)
    return VAERecipe(length=scale.images, init="vae-f8", loss=loss, train=train)


def ablate(scale: Scale, name: str, folder: Path) -> tuple[Row, Pictures]:
    recipe = loss_recipe(scale, name)
    codec = trained_vae(recipe, folder / "vae")
    row = describe_vae(codec, scale, recipe.train) | {"loss": asdict(recipe.loss)}
    return row, {"reconstruction": reconstructed(codec)}


# --- the KL weight --------------------------------------------------------------------

# Stable Diffusion's weight, in our unit: nats per element against the mean error.
STABLE_DIFFUSION = kl_weight_from_sums(1e-6, 3 * 256 * 256, 4 * 32 * 32)
WEIGHTS = (0.0, STABLE_DIFFUSION, 1e-4, 1e-3, 1e-2, 1e-1, 10.0)
NOISE = (0.05, 0.1, 0.2, 0.4, 0.8)


def kl_arms(scale: Scale) -> dict[str, Arm]:
    return {f"kl-{weight:.2g}": partial(weigh, scale, weight) for weight in WEIGHTS}


def weigh(scale: Scale, weight: float, folder: Path) -> tuple[Row, Pictures]:
    recipe = vae_recipe(scale, kl_weight=weight)
    codec = trained_vae(recipe, folder / "vae")
    quality, model = small_ldm(codec, scale, folder / "ldm")
    row = {"kl_weight": weight} | describe_vae(codec, scale, recipe.train)
    row |= {"latents": diagnose(codec, scale.judged), "samples": quality}
    return row, {
        "reconstruction": reconstructed(codec),
        "dream": dream(codec),
        "walk": walk(codec),
        "sample": sampled(model, scale.steps),
    }


@torch.no_grad()
def diagnose(codec: LatentCodec, n: int) -> Row:
    """What the latents of held-out images look like."""
    generator = torch.Generator().manual_seed(0)
    x = held_out(n)
    q = codec.vae.encode(x)
    raw = q.sample(generator)
    z = codec.normalise(raw)
    return {
        "nats": float(q.kl().mean()),
        "active": latents.active_units(q),
        "sigma": float(q.std.mean()),
        "raw": latents.moments(raw),
        "std_per_channel": codec.std.flatten().tolist(),
        "unit": latents.moments(z),
        "correlations": latents.correlations(z),
        "spectrum": latents.radial_spectrum(z).tolist(),
        "noise": list(NOISE),
        "psnr_under_noise": latents.decode_under_noise(
            codec, z[:128], NOISE, generator
        ),
    }


@torch.no_grad()
def dream(codec: LatentCodec) -> Tensor:
    """What the decoder makes of the prior, the same dice for every codec."""
    shape = codec.latent_shape(DATA.size)
    dice = torch.randn(SHOWN, *shape, generator=torch.Generator().manual_seed(0))
    return codec.vae.decode(dice)


@torch.no_grad()
def walk(codec: LatentCodec) -> Tensor:
    """From one held-out image to the next, along a sphere."""
    a, b = codec.normalise(codec.vae.encode(held_out(2)).mode())
    steps = torch.linspace(0, 1, SHOWN).tolist()
    return codec.decode(torch.stack([latents.slerp(a, b, t) for t in steps]))


# --- the scale of latents -------------------------------------------------------------


def scaling_arms(scale: Scale) -> dict[str, Arm]:
    return {
        kind: partial(rescale, scale, kind)
        for kind in ("none", "scalar", "per-channel")
    }


def rescale(scale: Scale, kind: str, folder: Path) -> tuple[Row, Pictures]:
    """The same autoencoder, with Stable Diffusion's KL weight, in every arm."""
    recipe = vae_recipe(scale, kl_weight=STABLE_DIFFUSION)
    fitted = trained_vae(recipe, folder.parent / "shared" / "vae")
    batches = images(DATA.load("train"), 256)
    codec = {
        "none": LatentCodec(fitted.vae),
        "scalar": LatentCodec.fit(fitted.vae, batches, per_channel=False),
        "per-channel": fitted,
    }[kind]
    quality, model = small_ldm(codec, scale, folder / "ldm")
    z = torch.cat([codec.encode(x) for x in batches])
    row = {
        "kl_weight": STABLE_DIFFUSION,
        "std_raw": fitted.std.flatten().tolist(),
        "scaling_factor": codec.scaling_factor.tolist(),
        "std_seen": float(z.std()),
        "samples": quality,
    }
    return row, {"sample": sampled(model, scale.steps)}


# --- what the network predicts, on which schedule, and how its loss is weighed --------

# Stable Diffusion's schedule, as Lin et al. (2024) mend it
MENDED = ScheduleConfig("scaled_linear", 1000, 0.00085, 0.012, zero_terminal_snr=True)
DDPM_ARMS: dict[str, dict[str, Any]] = {
    "eps": {},
    "eps-cosine": {"schedule": ScheduleConfig("cosine")},
    "eps-min-snr": {"min_snr_gamma": 5.0},
    "eps-logit-normal": {"logit_normal": (-0.4, 1.0)},
    "v": {"prediction_type": "v"},
    "v-zero-snr": {"prediction_type": "v", "schedule": MENDED},
    "v-min-snr": {"prediction_type": "v", "min_snr_gamma": 5.0},
    "x0": {"prediction_type": "x0"},
    "x0-min-snr": {"prediction_type": "x0", "min_snr_gamma": 5.0},
}


def ddpm_arms(scale: Scale) -> dict[str, Arm]:
    arms = {name: partial(predict, scale, what) for name, what in DDPM_ARMS.items()}
    no_ema = replace(scale.ldm, ema_decay=0.0)
    return arms | {"eps-no-ema": partial(predict, scale, {"train": no_ema})}


def predict(scale: Scale, what: dict[str, Any], folder: Path) -> tuple[Row, Pictures]:
    recipe = ldm_recipe(scale, **what)
    quality, model = small_ldm(
        LatentCodec.load("vae-f8"), scale, folder / "ldm", recipe
    )
    row = {
        "prediction_type": recipe.prediction_type,
        "schedule": config_to_dict(recipe.schedule),
        "min_snr_gamma": recipe.min_snr_gamma,
        "logit_normal": recipe.logit_normal,
        "ema_decay": recipe.train.ema_decay,
        "samples": quality,
    }
    return row, {"sample": sampled(model, scale.steps)}


# --- samplers -------------------------------------------------------------------------


SPLITS = ("test", "validation")  # the real images, and others that set the floor


def sampler_arms(scale: Scale) -> dict[str, Arm]:
    return {name: partial(call, scale, name) for name in SAMPLERS}


@torch.no_grad()
def call(scale: Scale, sampler: str, folder: Path) -> tuple[Row, Pictures]:
    """The shipped model, the same starting noise for all, and more and more calls."""
    model, n = LatentDiffusion.load("ldm-f8"), scale.samples // 2
    embed = feature_function(JUDGE)
    real, other = (in_batches(embed, whole(DATA.load(s), n)[0]) for s in SPLITS)
    y = whole(DATA.load(SPLITS[1]), n)[1]
    quality, pictures = {}, []
    more = (scale.ancestral,) if sampler == "ddpm" else ()
    for steps in (*scale.calls, *more):
        x = draw(model, y, steps, 1.0, generators(0, n), sampler=sampler)
        quality[steps] = compare(in_batches(embed, x), real, other)
        pictures.append(x[0])
    row = {"model": "ldm-f8", "class": CLASS_NAMES[y[0]], "calls": quality}
    return row, {"sample": torch.stack(pictures)}


# --- frozen against end to end --------------------------------------------------------

LOOKS = 4  # how often sample quality is looked at


def joint_arms(scale: Scale) -> dict[str, Arm]:
    return {kind: partial(together, scale, kind) for kind in get_args(Autoencoder)}


def together(scale: Scale, kind: str, folder: Path) -> tuple[Row, Pictures]:
    """All arms start from the same trained autoencoder and see the same batches."""
    every = max(1, scale.ldm.steps // (4 * LOOKS))
    train = replace(scale.ldm, batch_size=scale.vae.batch_size, log_every=every)
    recipe = ldm_recipe(scale, autoencoder=kind, train=train)
    seen = folder / "quality.json"

    def watch(model: LatentDiffusion, line: Log) -> None:
        if line["step"] % (4 * every) == 0:
            quality = evaluate_samples(model, DATA, scale.samples // 2, scale.steps)
            known = json.loads(seen.read_text()) if seen.exists() else {}
            write_json(seen, known | {str(line["step"]): quality})

    quality, model = small_ldm(
        LatentCodec.load("vae-f8"), scale, folder / "ldm", recipe, watch
    )
    x, generator = held_out(1000), torch.Generator().manual_seed(0)
    row = {
        "autoencoder": kind,
        "log": read_lines(folder / "ldm"),
        "reconstruction": evaluate_codec(model.codec, DATA, scale.judged),
        "latent_std": raw_spread(model.codec),
        "dimensions": latents.effective_dimensions(model.codec.encode(x, generator)),
        "samples_along": json.loads(seen.read_text()),
        "samples": quality,
    }
    return row, {
        "reconstruction": reconstructed(model.codec),
        "sample": sampled(model, scale.steps),
    }


@torch.no_grad()
def raw_spread(codec: LatentCodec) -> float:
    """Standard deviation of what the autoencoder puts out for held-out images."""
    q = codec.vae.encode(held_out(256))
    return float(q.sample(torch.Generator().manual_seed(0)).std())


STUDIES = {
    "compression_study": Study(
        "What do f and the number of latent channels cost in quality?",
        compression_arms,
    ),
    "loss_ablation": Study(
        "What do a perceptual and an adversarial loss add to L1?", loss_arms
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
        "How good are samples after how many calls of the model?", sampler_arms
    ),
    "frozen_vs_joint": Study(
        "Should the autoencoder be frozen while the diffusion model is trained?",
        joint_arms,
    ),
    "time_to_quality": Study(
        "How good are samples after the same time, in pixels and in latents?", time_arms
    ),
    "cost_growth": Study(
        "How does a training step grow with the size of the images?", growth_arms
    ),
    "speed": Study("What makes it fast, and what do our own loops cost?", speed_arms),
    "attribution": Study(
        "Which fault of a sample comes from the autoencoder, which from diffusion?",
        attribution_arms,
    ),
}


def reproduce(
    name: str,
    scale: str = "cpu",
    out: str | Path | None = None,
    results: str | Path | None = None,
    only: Iterable[str] = (),
    on_arm: Callable[[str, Row], Any] | None = None,
) -> Path | None:
    """Run a study and record it.

    Args:
        out: folder of the trainings, by default ``runs/studies/NAME-SCALE``.
        results: folder for ``NAME.json`` and its pictures, by default ``data/results``;
            a smoke run, which says nothing, leaves them in ``out``.
        only: some of the arms, by name; the record is written when all are done.
        on_arm: called with the name and the row of every arm that is done.

    Returns:
        The path of the record, or None while arms are missing.

    Raises:
        ValueError: for an unknown study, scale or arm, or if ``out`` holds arms of
            other settings.
    """
    study, settings = known(STUDIES, name, "study"), known(SCALES, scale, "scale")
    out = Path(out or Path("runs", "studies", f"{name}-{scale}"))
    results = Path(results or (out if scale == "smoke" else Path("data", "results")))
    arms = study.arms(settings)
    for arm in only:
        known(arms, arm, "arm")
    described = config_to_dict(settings)
    for arm, run in arms.items():
        if not only or arm in only:
            row = finish(run, out / arm, described)
            if on_arm:
                on_arm(arm, row)
    if not all((out / arm / "row.json").exists() for arm in arms):
        return None
    saved = {arm: json.loads((out / arm / "row.json").read_text()) for arm in arms}
    for arm in arms:
        for picture in (out / arm).glob("*.png"):
            (results / name).mkdir(parents=True, exist_ok=True)
            (results / name / f"{arm}-{picture.name}").write_bytes(picture.read_bytes())
    report = {
        "study": name,
        "question": study.question,
        "command": f"ldm-tutorial reproduce {name} --scale {scale}",
        "scale": described,
        "rows": {arm: part["row"] for arm, part in saved.items()},
        "seconds": sum(part["seconds"] for part in saved.values()),
    }
    write_record(results / f"{name}.json", report | environment())
    return results / f"{name}.json"
