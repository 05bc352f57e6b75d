"""Losses of the autoencoder. Each function returns a scalar."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ldm_tutorial.gaussian import DiagonalGaussian

Reconstruction = Literal["l1", "l2"]


@dataclass(frozen=True)
class VAELossConfig:
    """What the autoencoder is trained on.

    Attributes:
        reconstruction: l1 or l2.
        kl_weight: weight of the KL divergence in nats per latent element, against the
            mean reconstruction error per pixel value.
    """

    reconstruction: Reconstruction = "l1"
    kl_weight: float = 1e-3


def reconstruction_loss(
    x_hat: Tensor, x: Tensor, kind: Reconstruction = "l1"
) -> Tensor:
    """Mean absolute (l1) or squared (l2) error per pixel value.

    Raises:
        ValueError: for another kind.
    """
    if kind == "l1":
        return (x_hat - x).abs().mean()
    if kind == "l2":
        return (x_hat - x).square().mean()
    raise ValueError(f"reconstruction loss {kind!r} is unknown; choose l1 or l2")


def kl_loss(posterior: DiagonalGaussian) -> Tensor:
    """Mean KL divergence from N(0, I), in nats per latent element."""
    return posterior.kl().mean()


def vae_loss(
    x_hat: Tensor, x: Tensor, posterior: DiagonalGaussian, config: VAELossConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """Reconstruction + kl_weight * KL, and its parts (detached) for the log."""
    parts = {
        "reconstruction": reconstruction_loss(x_hat, x, config.reconstruction),
        "kl": kl_loss(posterior),
    }
    total = parts["reconstruction"] + config.kl_weight * parts["kl"]
    return total, {name: value.detach() for name, value in parts.items()}


def kl_weight_from_sums(
    weight: float, pixel_values: int, latent_elements: int
) -> float:
    """This project's KL weight for one stated as sum(error) + weight * sum(KL).

    CompVis' latent-diffusion code sums both terms over an image. Dividing by the
    number of pixel values gives a mean error, and turns the sum of KL into
    latent_elements times its mean.

    >>> kl_weight_from_sums(1e-6, 3 * 256 * 256, 4 * 32 * 32)  # Stable Diffusion, f=8
    2.0833333333333335e-08
    """
    return weight * latent_elements / pixel_values
