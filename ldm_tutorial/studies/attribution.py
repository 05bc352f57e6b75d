"""The study ``attribution``: which fault of a sample comes from which network?

The way of a sample has two stations, the diffusion model and the decoder, and both may
lose something. Where the original is known, the error of ``decode(encode(x))`` says
what the autoencoder loses. A sample has no original; ``landscapes.rulers`` need none.

    real -> second decoder     what the autoencoder loses, whatever its decoder
    vae-f8 -> second decoder   what another decoder finds in the same latents
    second decoder -> samples  what the diffusion model fails to produce

And where another encoder keeps more, ``sharp``, do the samples of a diffusion model
that was trained on its latents show more?
"""

from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ldm_tutorial.codec import Codec, LatentCodec
from ldm_tutorial.data import whole
from ldm_tutorial.evaluation.batched import decoded, in_batches
from ldm_tutorial.evaluation.features import load_judge
from ldm_tutorial.evaluation.ratios import Values, half_width, ratios
from ldm_tutorial.evaluation.reports import evaluate_details, interval
from ldm_tutorial.landscapes import rulers
from ldm_tutorial.landscapes.dataset import Landscapes, detail_masks, render
from ldm_tutorial.landscapes.factors import (
    CLASS_NAMES,
    sample_factors,
)
from ldm_tutorial.landscapes.rulers import BANDS, band_powers, spectrum, strong_edge
from ldm_tutorial.landscapes.scenenet import name_all
from ldm_tutorial.machine import best_device
from ldm_tutorial.metrics import psnr
from ldm_tutorial.noise import generators
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.records import Row
from ldm_tutorial.samplers import last
from ldm_tutorial.studies.study import DATA, Arm, Pictures, Scale

__all__ = ["BANDS", "ratios", "spectrum", "strong_edge"]  # handed on to the book


def measure(x: Tensor, y: Tensor, strong: float) -> Values:
    """``rulers.measure`` with the network that is kept for evaluation."""
    return rulers.measure(x, y, strong, load_judge())


def as_row(found: dict[str, tuple[float, Tensor]]) -> dict[str, dict[str, float]]:
    return {
        name: {"ratio": value, "ci95": half_width(influence)}
        for name, (value, influence) in found.items()
    }


def differences(
    a: dict[str, tuple[float, Tensor]], b: dict[str, tuple[float, Tensor]]
) -> dict[str, dict[str, float]]:
    """What the ratios ``a`` have more than the ratios ``b`` to the same images."""
    return {
        name: {
            "difference": a[name][0] - b[name][0],
            "ci95": half_width(a[name][1] - b[name][1]),
        }
        for name in a
        if name in b
    }


def shares_of_loss(rows: dict[str, Row]) -> dict[str, dict[str, tuple[float, float]]]:
    """What each network loses, for each measure: value and half-width of its 95 %
    interval, in units of what real images show. Negative losses are gains.

    lost: by the autoencoder, real images less the second decoder. returned: by the
    second decoder, in the same latents, over the first. diffusion: lost by the
    diffusion model, the second decoder less samples.

    Args:
        rows: of the recorded study ``attribution``.
    """
    second, samples = rows["second-decoder"], rows["samples"]
    returned = second["against"]["vae-f8"]
    produced = samples["against"]["second-decoder"]
    return {
        name: {
            "lost": (1 - kept["ratio"], kept["ci95"]),
            "returned": (returned[name]["difference"], returned[name]["ci95"]),
            "diffusion": (-produced[name]["difference"], produced[name]["ci95"]),
        }
        for name, kept in second["measures"].items()
        if name in returned and name in produced
    }


# Each arm, and those that it is compared with besides real images.
COMPARED = {
    "real": (),
    "vae-f8": (),
    "second-decoder": ("vae-f8",),
    "perceptual": ("vae-f8",),
    "samples": ("second-decoder",),
    "samples-first-decoder": ("vae-f8", "samples"),
    "sharp": ("vae-f8",),
    "samples-sharp": ("sharp", "samples"),
}
ORIGINALS = "originals"  # what all arms are measured by
RECONSTRUCTED = ("vae-f8", "second-decoder", "perceptual", "sharp")
# Arms that share no latents with the first: their autoencoder, or their model.
CODECS = {"perceptual": "vae-f8-perceptual", "sharp": "vae-f8-sharp"}
FIRST, SHARP = "ldm-f8", "ldm-f8-sharp"


def attribution_arms(scale: Scale) -> dict[str, Arm]:
    return {name: partial(judge_arm, scale, name) for name in COMPARED}


def judge_arm(scale: Scale, name: str, folder: Path) -> tuple[Row, Pictures]:
    """Held-out images are the measure of all arms; each shows the same classes.

    Samples take twice as many steps as those of the other studies: here the error of
    the sampler must not be mistaken for one of the model.
    """
    n, steps = 2 * scale.judged, 2 * scale.steps
    x, _ = originals(n)
    x_hat, real = shown(name, n, steps), measured(ORIGINALS, n, steps)
    found = ratios(measured(name, n, steps), real)
    row: Row = {
        "n": n,
        "steps": steps if name.startswith("samples") else 0,
        "measures": as_row(found),
        "against": {},
        "spectrum": (spectrum(x_hat).mean(0) / spectrum(x).mean(0)).tolist(),
    }
    for other in COMPARED[name]:
        values = ratios(measured(other, n, steps), real)
        row["against"][other] = differences(found, values)
    if name in RECONSTRUCTED:
        row["reconstruction"] = compare_with_originals(x_hat, n)
    return row, {"crops": enlarged(crops(name, n, steps))}


def compare_with_originals(x_hat: Tensor, n: int) -> dict[str, Any]:
    """psnr (dB); error: power of the error in each band over that of the original, 0 if
    it is right, 1 if nothing is shown; details: their psnr and recall."""
    x, _ = originals(n)
    masks = detail_masks(Landscapes("test").factors(range(n)), DATA.size)
    value = psnr(x_hat, x)
    return {
        "psnr": float(value.mean()),
        "psnr_ci95": interval(value),
        "error": as_row(ratios(band_powers(x_hat - x), band_powers(x))),
        "details": evaluate_details(x_hat, x, masks),
    }


@cache
def originals(n: int) -> tuple[Tensor, Tensor]:
    """The held-out images and their classes."""
    return whole(DATA.load("test"), n)


@cache
def measured(name: str, n: int, steps: int) -> Values:
    """All rulers laid on what an arm shows, or on the originals themselves."""
    x, y = originals(n)
    images = x if name == ORIGINALS else shown(name, n, steps)
    return measure(images, y, strong_edge(x))


@cache
def shown(name: str, n: int, steps: int) -> Tensor:
    """What an arm shows for the classes of the held-out images, (n, 3, 64, 64)."""
    x, y = originals(n)
    if name == "real":
        return render(sample_factors(n, torch.Generator().manual_seed(0), y), DATA.size)
    if name in CODECS:
        codec = LatentCodec.load(CODECS[name]).to(best_device())
        sources = torch.Generator(best_device()).manual_seed(0)
        return decoded(codec, x, sources).clamp(-1, 1)
    of = SHARP if name == "samples-sharp" else FIRST
    z = drawn_latents(of, n, steps) if name.startswith("samples") else known_latents(n)
    first = name in ("vae-f8", "samples-first-decoder")
    decoder: Codec = first_codec() if first else reference_model(of).codec
    device = best_device()
    shown = in_batches(lambda part: decoder.decode(part.to(device)).cpu(), z)
    return shown.clamp(-1, 1)


def first_codec() -> LatentCodec:
    return LatentCodec.load("vae-f8").to(best_device())


def reference_model(name: str) -> LatentDiffusion:
    """The codec of FIRST has the encoder of ``vae-f8`` and another decoder."""
    return LatentDiffusion.load(name).to(best_device())


@cache
def known_latents(n: int) -> Tensor:
    """Latents of the held-out images, on the CPU."""
    device = best_device()
    codec, sources = first_codec(), torch.Generator(device).manual_seed(0)
    x, _ = originals(n)
    return in_batches(lambda part: codec.encode(part.to(device), sources).cpu(), x)


@cache
def drawn_latents(of: str, n: int, steps: int) -> Tensor:
    """Latents that a diffusion model draws for the classes of the held-out images."""
    model, y, sources = reference_model(of), originals(n)[1], generators(0, n)
    parts = []
    for rows in torch.arange(n).split(128):
        some = sources[rows[0] : rows[-1] + 1]
        z = last(model.sample_latents(y=y[rows], steps=steps, generator=some))
        parts.append(z.cpu())
    return torch.cat(parts)


SIDE, ENLARGED = 32, 4  # pixels of a crop, and how many times it is enlarged
TOPS = {  # a class that shows each detail, and the upper edge of the crop
    "stars": ("night desert", 0),
    "windows": ("night forest", 28),
    "waves": ("dawn sea", 32),
    "trunks": ("day snow", 32),
    "texture": ("day desert", 32),
    "ridges": ("dawn snow", 16),
}


def crops(name: str, n: int, steps: int) -> Tensor:
    """One crop for each of TOPS, (6, 3, 32, 32), of the first image that fits.

    Images are chosen by what the evaluation network reads of the originals or, for
    samples, of the samples: at the house, below the sun, where trees grow. The arm
    ``real`` shows the originals.
    """
    x, y = originals(n)
    by = "samples-sharp" if name == "samples-sharp" else "samples"
    read = shown(by, n, steps) if name.startswith("samples") else x
    images = x if name == "real" else shown(name, n, steps)
    said = name_all(load_judge(), read)
    middle = torch.full((n,), 0.5)
    trees, house = said["tree_count"].argmax(1), said["house"].argmax(1) == 1
    wanted = {"windows": house, "trunks": trees >= 3, "texture": trees == 0}
    centre = {"windows": said["house_x"], "waves": said["sun_x"]}
    found = []
    for detail, (label, top) in TOPS.items():
        fits = y == CLASS_NAMES.index(label)
        fits = fits.int() + (fits & wanted.get(detail, fits)).int()  # the best first
        i, W = int(fits.argmax()), images.shape[-1]
        left = round(float(centre.get(detail, middle)[i]) * W) - SIDE // 2
        left = min(max(left, 0), W - SIDE)
        found.append(images[i, :, top : top + SIDE, left : left + SIDE])
    return torch.stack(found)


def enlarged(x: Tensor) -> Tensor:
    """Every pixel of images (n, 3, H, W) as a square of 4 x 4."""
    return x.repeat_interleave(ENLARGED, 2).repeat_interleave(ENLARGED, 3)
