"""The study ``reconstructions``: how do the shipped autoencoders' pictures look to what
nobody trained on?

Nothing is trained. Held-out landscapes go through each autoencoder, and are compared
with their originals in the features of the network that a loss used and of the judge,
which none did; and by rulers that need no original: how strong gradients are, how much
power there is in each octave, how many stars are counted, whether a grid stands out.
"""

from functools import partial
from pathlib import Path

import torch

from ldm_tutorial.codec import LatentCodec
from ldm_tutorial.data import whole
from ldm_tutorial.evaluation.batched import decoded, in_batches
from ldm_tutorial.evaluation.features import load_judge
from ldm_tutorial.evaluation.ratios import ratios
from ldm_tutorial.evaluation.reports import interval
from ldm_tutorial.landscapes.rulers import BANDS, grid_peak, strong_edge
from ldm_tutorial.landscapes.scenenet import SceneNet
from ldm_tutorial.machine import best_device
from ldm_tutorial.metrics import psnr
from ldm_tutorial.records import Row
from ldm_tutorial.studies.attribution import as_row, measure
from ldm_tutorial.studies.study import DATA, Arm, Pictures, Scale
from ldm_tutorial.training.perceptual import SCENENET, FeatureDistance

CODECS = ("vae-f8", "vae-f8-perceptual", "vae-f8-sharp")
RULERS = ("gradient", "stars", *BANDS)


def reconstruction_arms(scale: Scale) -> dict[str, Arm]:
    return {name: partial(look_at_shipped, scale.judged, name) for name in CODECS}


def look_at_shipped(n: int, name: str, folder: Path) -> tuple[Row, Pictures]:
    return look(n, LatentCodec.load(name).to(best_device())), {}


@torch.no_grad()
def look(n: int, codec: LatentCodec) -> Row:
    """psnr (dB), scenenet and judge (distances) to the originals of ``n`` images;
    measures: what rulers read, over what they read of the originals; grid:
    ``grid_peak``, and grid_real that of the originals."""
    x, y = whole(DATA.load("test"), n)
    device = best_device()
    dice = torch.Generator(device).manual_seed(0)
    x_hat = decoded(codec, x, dice).clamp(-1, 1)
    judge = load_judge()
    networks = {"scenenet": SceneNet.load(SCENENET).to(device), "judge": judge}
    values = {"psnr": psnr(x_hat, x)}
    for key, network in networks.items():
        distance = FeatureDistance(network, network.smallest)
        values[key] = in_batches(
            lambda a, b, d=distance: d(a.to(device), b.to(device)).cpu(), x_hat, x
        )
    row: Row = {"n": n}
    for key, value in values.items():
        row |= {key: float(value.mean()), f"{key}_ci95": interval(value)}
    strong = strong_edge(x)
    shown, real = (measure(images, y, strong) for images in (x_hat, x))
    found = as_row(ratios(shown, real))
    row["measures"] = {key: found[key] for key in RULERS}
    row |= {"grid": grid_peak(x_hat), "grid_real": grid_peak(x)}
    return row
