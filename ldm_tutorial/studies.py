"""Studies: the experiments of the book that take longer than a chapter.

A study is a list of arms that differ in one thing. ``ldm-tutorial reproduce NAME`` runs
them one after the other and records what came out in ``NAME.json``, with pictures
beside it. An arm that is done is not run again; one that was stopped goes on.
"""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from ldm_tutorial import latents
from ldm_tutorial.codec import LatentCodec
from ldm_tutorial.efficiency import count_parameters
from ldm_tutorial.evaluation import (
    JUDGE,
    compare,
    draw,
    evaluate_codec,
    evaluate_samples,
    feature_function,
    in_batches,
    through,
)
from ldm_tutorial.gaussian import generators
from ldm_tutorial.landscapes import CLASS_NAMES
from ldm_tutorial.losses import VAELossConfig, kl_weight_from_sums
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.recipes import (
    Autoencoder,
    DataConfig,
    LDMRecipe,
    VAERecipe,
    environment,
    images,
    train_ldm,
    train_vae,
    whole,
)
from ldm_tutorial.samplers import SAMPLERS
from ldm_tutorial.schedule import ScheduleConfig
from ldm_tutorial.storage import (
    config_to_dict,
    write_json,
    write_pictures,
    write_record,
)
from ldm_tutorial.training import Log, TrainConfig, refuse_other
from ldm_tutorial.unet import UNetConfig
from ldm_tutorial.vae import VAEConfig

DATA = DataConfig()
SHOWN = 6  # images in each strip of pictures


@dataclass(frozen=True)
class Scale:
    """How much every arm of a study trains, and by how much it is judged.

    Attributes:
        vae, ldm: the trainings.
        channels: widths of the autoencoders.
        unet: widths of the UNet.
        images, latents: training images of the autoencoder and the diffusion model.
        judged: held-out images that are reconstructed.
        samples, steps: images drawn from the diffusion model, and its calls for each.
        calls: how often the samplers that are compared call the model, and ...
        ancestral: ... how often DDPM does once more.
        seeds: how many seeds the headline pairs get.
    """

    vae: TrainConfig
    ldm: TrainConfig
    channels: tuple[int, ...] = VAEConfig.channels
    unet: tuple[int, ...] = (64, 96)
    images: int = 50_000
    latents: int = 8000
    judged: int = 500
    samples: int = 512
    steps: int = 25
    calls: tuple[int, ...] = (5, 10, 15, 20, 50, 100)
    ancestral: int = 1000
    seeds: int = 3


SCALES = {
    "smoke": Scale(
        vae=TrainConfig(steps=10, batch_size=16, warmup_steps=2, learning_rate=2e-3),
        ldm=TrainConfig(steps=10, batch_size=16, warmup_steps=2),
        channels=(16, 16, 32, 32),
        unet=(32, 32),
        images=256,
        latents=64,
        judged=64,
        samples=64,
        steps=5,
        calls=(2, 5),
        ancestral=10,
        seeds=1,
    ),
    "cpu": Scale(
        vae=TrainConfig(steps=500, batch_size=32, learning_rate=2e-3, precision="bf16"),
        ldm=TrainConfig(steps=700, batch_size=64, precision="bf16", ema_decay=0.995),
    ),
    "gpu": Scale(
        vae=TrainConfig(steps=15_000, batch_size=128, precision="bf16", num_workers=8),
        ldm=TrainConfig(steps=20_000, batch_size=256, precision="bf16"),
        unet=(128, 192),
        images=500_000,
        latents=100_000,
        judged=2000,
        samples=2000,
        steps=50,
    ),
}

Row = dict[str, Any]
Pictures = dict[str, Tensor]
Arm = Callable[[Path], tuple[Row, Pictures]]


@dataclass(frozen=True)
class Study:
    """What a study asks, and its arms at a scale."""

    question: str
    arms: Callable[[Scale], dict[str, Arm]]


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


def known(table: dict[str, Any], name: str, what: str) -> Any:
    """The entry of a table, or a ValueError that lists what there is."""
    if name not in table:
        raise ValueError(f"no {what} {name!r}; choose from {', '.join(table)}")
    return table[name]


def finish(run: Arm, folder: Path, described: dict[str, Any]) -> Row:
    """The row of an arm, run now unless it is done already."""
    path = folder / "row.json"
    if path.exists():
        saved = json.loads(path.read_text())
        refuse_other(folder, saved["scale"], described)
        return saved["row"]
    start = time.perf_counter()
    row, pictures = run(folder)
    elapsed = time.perf_counter() - start
    for name, x in pictures.items():
        write_pictures(folder / f"{name}.png", x)
    trainings = [log.parent for log in folder.glob("*/metrics.jsonl")]
    seconds = sum(last_line(training)["seconds"] for training in trainings) or elapsed
    write_json(path, {"scale": described, "seconds": round(seconds), "row": row})
    return row


def read_lines(training: Path) -> list[Log]:
    """The log of a training."""
    lines = (training / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def last_line(training: Path) -> Log:
    return read_lines(training)[-1]


# --- what arms share ------------------------------------------------------------------


def trained_vae(recipe: VAERecipe, folder: Path) -> LatentCodec:
    """The autoencoder of a recipe; trained now, or read if that is done."""
    if (folder / "model.safetensors").exists():
        return LatentCodec.load(folder)
    return train_vae(recipe, folder)[0]


def vae_recipe(scale: Scale, seed: int = 0, kl_weight: float = 1e-3, **shape: int):
    """A recipe at this scale; ``shape`` are fields of VAEConfig."""
    return VAERecipe(
        length=scale.images,
        vae=VAEConfig(channels=scale.channels, **shape),
        loss=VAELossConfig(kl_weight=kl_weight),
        train=replace(scale.vae, seed=seed),
    )


def describe_vae(codec: LatentCodec, scale: Scale, train: TrainConfig) -> Row:
    """What all autoencoders are asked: size, quality, and numbers per image."""
    C, h, w = codec.latent_shape(DATA.size)
    return {
        "f": codec.vae.config.downsampling,
        "latent_channels": C,
        "values": C * h * w,
        "compression": 3 * DATA.size**2 / (C * h * w),
        "parameters": count_parameters(codec.vae),
        "seed": train.seed,
        "images_seen": train.steps * train.batch_size,
        "reconstruction": evaluate_codec(codec, DATA, scale.judged),
    }


def held_out(n: int) -> Tensor:
    return whole(DATA.load("test"), n)[0]


def reconstructed(codec: LatentCodec) -> Tensor:
    x = held_out(SHOWN)
    return through(codec, x, torch.Generator().manual_seed(0))


def ldm_recipe(scale: Scale, **changes: Any) -> LDMRecipe:
    """The small diffusion model of this scale; ``changes`` are fields of LDMRecipe."""
    recipe = LDMRecipe(
        length=scale.latents,
        unet=UNetConfig(channels=scale.unet, num_res_blocks=1),
        train=scale.ldm,
    )
    return replace(recipe, **changes)


def small_ldm(
    codec: LatentCodec,
    scale: Scale,
    folder: Path,
    recipe: LDMRecipe | None = None,
    watch: Callable[[LatentDiffusion, Log], Any] | None = None,
) -> tuple[Row, LatentDiffusion]:
    """The same small diffusion model on any latents, and the quality of its samples."""
    if (folder / "model.safetensors").exists():
        model = LatentDiffusion.load(folder)
    else:
        recipe = recipe or ldm_recipe(scale)
        model, _ = train_ldm(recipe, codec, folder, watch=watch)
    quality = evaluate_samples(model, DATA, scale.samples, scale.steps)
    return {"loss": last_line(folder)["diffusion"]} | quality, model


def sampled(model: LatentDiffusion, steps: int) -> Tensor:
    """Samples of every other class."""
    y = torch.arange(SHOWN) * len(model.classes) // SHOWN
    return draw(model, y, steps, 1.0, torch.Generator().manual_seed(0))


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
}
