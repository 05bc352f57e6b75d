"""Artifact attribution: which fault of a sample comes from whom?

The way of a sample has two stations, the diffusion model and the decoder, and both may
lose something. Where the original is known, the error of ``decode(encode(x))`` says
what the autoencoder loses. A sample has no original. So here are rulers that need none:
they measure how much of something a picture shows (fine detail, strong edges, stars,
lit windows, ...), and sets of pictures of the same classes are compared by their means.

    real -> second decoder     what the autoencoder loses, whatever its decoder
    vae-f8 -> second decoder   what another decoder finds in the same latents
    second decoder -> samples  what the diffusion model fails to produce

A ruler says how much there is, not whether it is right: a picture may show as many
stars as its original, all in the wrong places. For that there are error and recall.
"""

from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ldm_tutorial.codec import LatentCodec
from ldm_tutorial.evaluation import (
    decoded,
    evaluate_details,
    in_batches,
    interval,
    load_judge,
)
from ldm_tutorial.factor_report import count_stars
from ldm_tutorial.gaussian import generators
from ldm_tutorial.landscapes import (
    BARK,
    BIOMES,
    CLASS_NAMES,
    DUSK,
    LIGHT,
    NIGHT,
    SEA,
    detail_masks,
    render,
    sample_factors,
)
from ldm_tutorial.metrics import high_pass, psnr, window
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.recipes import best_device, whole
from ldm_tutorial.samplers import last
from ldm_tutorial.scenenet import name_all
from ldm_tutorial.study import DATA, Arm, Pictures, Row, Scale

Values = dict[str, Tensor]  # of each image (n,), nan where a measure does not apply

# --- spectra --------------------------------------------------------------------------

# Octaves in cycles per image. Below two the window mixes in the mean brightness.
BANDS = {
    "2 to 4 cycles": (2, 4),
    "4 to 8 cycles": (4, 8),
    "8 to 16 cycles": (8, 16),
    "16 cycles and up": (16, None),
}


def spectrum(x: Tensor) -> Tensor:
    """Power of images (n, 3, H, H) at 0, 1, 2, ... cycles per image, (n, rings).

    The mean of the colours under a Hann window, without which the borders, where left
    and right do not fit, would look like detail. Directions are added up, and so are
    all rings what the sum over the squared pixels is (Parseval).
    """
    H = x.shape[-1]
    hann = torch.hann_window(H, device=x.device)
    power = torch.fft.fft2(x.mean(1) * hann[:, None] * hann, norm="ortho").abs() ** 2
    cycles = torch.fft.fftfreq(H, 1 / H, device=x.device)
    ring = torch.hypot(cycles[:, None], cycles).round().long().flatten()
    rings = power.new_zeros(len(x), int(ring.max()) + 1)
    return rings.index_add(1, ring, power.flatten(1))


def band_powers(x: Tensor) -> Values:
    """Power of images (n, 3, H, H) in each of BANDS, (n,)."""
    power = spectrum(x)
    return {name: power[:, low:high].sum(1) for name, (low, high) in BANDS.items()}


# --- rulers that need no original -----------------------------------------------------


def grey(x: Tensor) -> Tensor:
    """Images (n, 3, H, W) in [-1, 1] to brightness (n, H, W) in [0, 1]."""
    return (x.mean(1) + 1) / 2


def gradients(x: Tensor) -> Tensor:
    """Length of the brightness gradient, (n, H - 1, W - 1), per pixel."""
    h = grey(x)
    return torch.hypot(h[:, 1:, :-1] - h[:, :-1, :-1], h[:, :-1, 1:] - h[:, :-1, :-1])


def strong_edge(x: Tensor) -> float:
    """The gradient that 5 % of the pixels of images (n, 3, H, W) exceed."""
    return float(torch.quantile(gradients(x).flatten(), 0.95))


def lit_pixels(x: Tensor, house_x: Tensor, house_size: Tensor) -> Tensor:
    """How many pixels have the colour of lamp light near the houses, (n,).

    Bright and yellow. An evening sky is that too, so only the lower part of the image
    counts, and only the columns where a house was read (fractions of the image, (n,)).
    """
    red, green, blue = ((x + 1) / 2).unbind(1)
    H, W = x.shape[-2:]
    column = (torch.arange(W, device=x.device) + 0.5) / W
    near = (column - house_x[:, None]).abs() < 0.55 * house_size[:, None]
    lit = (green > 0.65) & (red - blue > 0.25) & near[:, None]
    return lit[:, int(0.62 * H) :].flatten(1).sum(1).float()


def wave_lines(x: Tensor) -> Tensor:
    """Contrast of horizontal lines on the water, (n,), in brightness.

    What is left of a column without its blur, smoothed along the rows. Palms grow at
    one side, so each image counts with the half that shows fewer lines.
    """
    h, H = grey(x), x.shape[-2]
    down, across = (window(h, n, 1.5, 5) for n in x.shape[-2:])
    lines = ((h - down @ h) @ across.T).abs()[:, int(0.61 * H) : int(0.84 * H)]
    halves = [half.flatten(1).mean(1) for half in lines.chunk(2, -1)]
    return torch.minimum(*halves)


def trunk_pixels(x: Tensor, y: Tensor) -> Tensor:
    """How many pixels of the lower half belong to trunks, (n,).

    They have the colour of the bark of class ``y`` (n,), and are darker than what is
    two or three pixels away on either side.
    """
    colour = (BARK[y % len(BIOMES)] * LIGHT[y // len(BIOMES)])[..., None, None]
    bark = ((x + 1) / 2 - colour.to(x.device)).abs().amax(1) < 0.09
    h, W = grey(x), x.shape[-1]
    wide = F.pad(h, (3, 3, 0, 0), mode="replicate")
    left = torch.maximum(wide[..., :W], wide[..., 1 : W + 1])
    right = torch.maximum(wide[..., 5 : W + 5], wide[..., 6:])
    stroke = bark & (torch.minimum(left, right) - h > 0.06)
    return stroke[:, x.shape[-2] // 2 :].flatten(1).sum(1).float()


def ground_texture(x: Tensor) -> Tensor:
    """Contrast of fine texture at the lower edge, in the median, (n,): trees and the
    edges of things do not move it."""
    h = high_pass(x).mean(1).abs()
    return h[:, -(x.shape[-2] // 6) :].flatten(1).median(1).values


@torch.no_grad()
def measure(x: Tensor, y: Tensor, strong: float) -> Values:
    """All rulers laid on images (n, 3, 64, 64) of the classes ``y`` (n,).

    Values are nan for images of which they say nothing: stars belong to the night, wave
    lines to the sea, lamp light to land after dusk where the evaluation network reads a
    house. By night bark and leaves are of one colour, so trunks count by day and dawn.

    Args:
        strong: the gradient above which an edge is strong, as of ``strong_edge``.
    """
    time, biome = y // len(BIOMES), y % len(BIOMES)
    said = name_all(load_judge(), x)
    house = (said["house"].argmax(1) == 1).float()
    dark, land, edges = time >= DUSK, biome != SEA, gradients(x).flatten(1)
    found = {
        "stars": (count_stars(x).float(), time == NIGHT),
        "houses": (house, land),
        "lit windows": (
            lit_pixels(x, said["house_x"], said["house_size"]),
            dark & land & (house == 1),
        ),
        "wave lines": (wave_lines(x), biome == SEA),
        "trunks": (trunk_pixels(x, y), ~dark),
        "texture": (ground_texture(x), land),
    }
    values = band_powers(x) | {"gradient": edges.mean(1)}
    values["strong edges"] = (edges > strong).float().mean(1)
    return values | {k: v.where(there, torch.nan) for k, (v, there) in found.items()}


# --- comparing means ------------------------------------------------------------------


def ratio(a: Tensor, b: Tensor) -> tuple[float, Tensor]:
    """Ratio of the means of values (n,) and (n,), and each pair's influence on it.

    Image i of both sets has the same class, or is the same scene, so the pairs are what
    was drawn. To first order the ratio moves by the sum of the influences; values that
    are nan do not count.

    Raises:
        ValueError: if there are no two values in a set, or the second mean is zero.
    """
    known = [v.isfinite() for v in (a, b)]
    if min(int(k.sum()) for k in known) < 2 or float(b.nanmean()) == 0:
        raise ValueError("too few values for a ratio; give two or more that apply")
    value = float(a.nanmean() / b.nanmean())
    own, other = (
        ((v - v.nanmean()) / k.sum()).where(k, torch.zeros(()))
        for v, k in zip((a, b), known, strict=True)
    )
    return value, (own - value * other) / b.nanmean()


def half_width(influence: Tensor) -> float:
    """Half-width of the 95 % interval of what pairs have these influences (n,) on."""
    return float(1.96 * influence.square().sum().sqrt())


def ratios(a: Values, b: Values) -> dict[str, tuple[float, Tensor]]:
    """``ratio`` of each measure that both sets have values of."""
    found = {}
    for name in a:
        try:
            found[name] = ratio(a[name], b[name])
        except ValueError:  # so few images that none shows what is measured
            continue
    return found


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


def bill(rows: dict[str, Row]) -> dict[str, dict[str, tuple[float, float]]]:
    """Who is to blame, for each measure: value and half-width of its 95 % interval, in
    units of what real images show. Negative losses are gains.

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


# --- the study ------------------------------------------------------------------------

# Each arm, and those that it is compared with besides real images.
COMPARED = {
    "real": (),
    "vae-f8": (),
    "second-decoder": ("vae-f8",),
    "perceptual": ("vae-f8",),
    "samples": ("second-decoder",),
    "samples-first-decoder": ("vae-f8", "samples"),
}
ORIGINALS = "originals"  # what all arms are measured by
RECONSTRUCTED = ("vae-f8", "second-decoder", "perceptual")


def attribution_arms(scale: Scale) -> dict[str, Arm]:
    return {name: partial(attribute, scale, name) for name in COMPARED}


def attribute(scale: Scale, name: str, folder: Path) -> tuple[Row, Pictures]:
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
    masks = detail_masks(DATA.load("test").factors(range(n)), DATA.size)
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
    if name == "perceptual":
        codec = LatentCodec.load("vae-f8-perceptual").to(best_device())
        dice = torch.Generator(best_device()).manual_seed(0)
        return decoded(codec, x, dice).clamp(-1, 1)
    z = drawn_latents(n, steps) if name.startswith("samples") else known_latents(n)
    first = name in ("vae-f8", "samples-first-decoder")
    codec = first_codec() if first else reference_model().codec
    device = best_device()
    return in_batches(lambda part: codec.decode(part.to(device)).cpu(), z).clamp(-1, 1)


def first_codec() -> LatentCodec:
    return LatentCodec.load("vae-f8").to(best_device())


def reference_model() -> LatentDiffusion:
    """Its codec has the encoder of ``vae-f8`` and another decoder."""
    return LatentDiffusion.load("ldm-f8").to(best_device())


@cache
def known_latents(n: int) -> Tensor:
    """Latents of the held-out images, on the CPU."""
    device = best_device()
    codec, dice = first_codec(), torch.Generator(device).manual_seed(0)
    x, _ = originals(n)
    return in_batches(lambda part: codec.encode(part.to(device), dice).cpu(), x)


@cache
def drawn_latents(n: int, steps: int) -> Tensor:
    """Latents that the diffusion model draws for the classes of the held-out images."""
    model, y, dice = reference_model(), originals(n)[1], generators(0, n)
    parts = []
    for rows in torch.arange(n).split(128):
        some = dice[rows[0] : rows[-1] + 1]
        z = last(model.sample_latents(y=y[rows], steps=steps, generator=some))
        parts.append(z.cpu())
    return torch.cat(parts)


# --- pictures -------------------------------------------------------------------------

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
    by = "samples" if name.startswith("samples") else "real"
    x, y = originals(n)
    read = shown("samples", n, steps) if by == "samples" else x
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
