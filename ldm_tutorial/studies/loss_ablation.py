"""The study ``loss_ablation``: what each term adds to an autoencoder's L1 loss."""

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch

from ldm_tutorial.codec import LatentCodec
from ldm_tutorial.evaluation.batched import decoded, in_batches
from ldm_tutorial.evaluation.features import JUDGE, load_judge
from ldm_tutorial.evaluation.reports import interval
from ldm_tutorial.landscapes.scenenet import SceneNet
from ldm_tutorial.records import Row
from ldm_tutorial.storage import config_to_dict
from ldm_tutorial.studies.study import (
    Arm,
    Pictures,
    Scale,
    describe_vae,
    held_out,
    reconstructed,
    trained_vae,
)
from ldm_tutorial.training.losses import VAELossConfig
from ldm_tutorial.training.perceptual import FeatureDistance
from ldm_tutorial.training.recipes import VAERecipe

LOSSES = ("l1", "perceptual", "contrast", "adversarial")
DECODER = "contrast-decoder"  # as the arm contrast, but the encoder stays as it is
NETWORKS = {"loss network": "scenenet", "judge": JUDGE}


def loss_arms(scale: Scale) -> dict[str, Arm]:
    return {name: partial(fine_tune, scale, name) for name in (*LOSSES, DECODER)}


def loss_recipe(scale: Scale, name: str) -> VAERecipe:
    """All arms go on from the same shipped autoencoder, for the same steps, each with
    one term more than the one before; DECODER is the one with contrast again, of the
    decoder alone."""
    steps = 2 * scale.vae.steps
    losses = [VAELossConfig()]
    for more in (
        {"perceptual": "scenenet"},
        {"contrast_weight": 1.0},
        {"adversarial_weight": 0.3, "adversarial_start": steps * 3 // 5},
    ):
        losses.append(replace(losses[-1], **more))
    loss = losses[LOSSES.index("contrast" if name == DECODER else name)]
    return VAERecipe(
        length=scale.images,
        init="vae-f8",
        freeze_encoder=name == DECODER,
        loss=loss,
        train=replace(
            scale.vae, steps=steps, learning_rate=scale.vae.learning_rate / 2
        ),
    )


def fine_tune(scale: Scale, name: str, folder: Path) -> tuple[Row, Pictures]:
    recipe = loss_recipe(scale, name)
    codec = trained_vae(recipe, folder / "vae")
    row = {"recipe": config_to_dict(recipe)}
    row |= describe_vae(codec, scale, recipe.train) | {"loss": asdict(recipe.loss)}
    row["distances"] = feature_distances(codec, scale.judged)
    return row, {"reconstruction": reconstructed(codec)}


@torch.no_grad()
def feature_distances(codec: LatentCodec, n: int) -> Row:
    """Mean feature distance of the reconstructions of ``n`` held-out images from their
    originals, with its interval: by the network that is part of the loss, and by the
    judge, which never was."""
    x = held_out(n)
    x_hat = decoded(codec, x, torch.Generator().manual_seed(0)).clamp(-1, 1)
    found: Row = {"n": n}
    for who, name in NETWORKS.items():
        network = load_judge() if name == JUDGE else SceneNet.load(name)
        distance = in_batches(FeatureDistance(network, network.smallest), x_hat, x)
        found[who] = {"distance": float(distance.mean()), "ci95": interval(distance)}
    return found
