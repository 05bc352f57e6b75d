"""Losses of the autoencoder: functions that return scalars, and their weights.

L = reconstruction + perceptual_weight P + kl_weight KL + adversarial_weight lambda G,
as in Esser et al. 2021 (VQGAN, arXiv:2012.09841) and Rombach et al. 2022
(arXiv:2112.10752, sec. 3.1); and for details that a mean forgets contrast_weight C and
band_weight B, which is in ``bands.py``. The networks that P and G need are in
``perceptual.py`` and ``discriminator.py``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from ldm_tutorial.arguments import alike, number, whole
from ldm_tutorial.gaussian import DiagonalGaussian
from ldm_tutorial.training.bands import band_distance
from ldm_tutorial.training.discriminator import DiscriminatorConfig
from ldm_tutorial.training.processes import mean_over_processes

Reconstruction = Literal["l1", "l2"]
Perceptual = Literal["none", "scenenet", "lpips-squeeze", "lpips-alex", "lpips-vgg"]
Convention = Literal["sums", "means", "mean_and_sum"]


@dataclass(frozen=True)
class VAELossConfig:
    """What the autoencoder is trained on.

    Attributes:
        reconstruction: l1 or l2.
        kl_weight: weight of the KL divergence in nats per latent element, against the
            mean reconstruction error per pixel value.
        perceptual: network whose features are compared: none, scenenet (ships with the
            course), or lpips-squeeze, lpips-alex, lpips-vgg (fetched on request).
        perceptual_weight: weight of that distance.
        contrast_weight: extra weight of what stands out from its surroundings, as
            ``local_contrast`` measures it; 0 for none.
        band_weight: weight of the difference in strength of fine detail, as
            ``band_distance`` measures it; 0 for none.
        equivariance_weight: weight of ``scale_equivariance``, which asks half a latent
            to decode to half the image; 0 for none.
        alignment_weight: weight of how little the latent says of what SceneNet sees, as
            ``perceptual.Alignment`` measures it (Yao et al. 2025, VA-VAE,
            arXiv:2501.01423); 0 for none.
        adversarial_weight: weight of the patch discriminator, 0 for none; the adaptive
            weight of VQGAN multiplies it.
        adversarial_start: training steps before the autoencoder listens to the
            discriminator, which learns from the first step.
        r1_weight: weight of the discriminator's penalty for steepness (``r1_penalty``),
            half of which is added to its loss; 0 for none.
        r1_every: the penalty is taken at every so-many-th step, times that number.
        discriminator: its shape; its channels of the image follow the autoencoder's.
    """

    reconstruction: Reconstruction = "l1"
    kl_weight: float = 1e-3
    perceptual: Perceptual = "none"
    perceptual_weight: float = 1.0
    contrast_weight: float = 0.0
    band_weight: float = 0.0
    equivariance_weight: float = 0.0
    alignment_weight: float = 0.0
    adversarial_weight: float = 0.0
    adversarial_start: int = 0
    r1_weight: float = 0.0
    r1_every: int = 16
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)

    def __post_init__(self):
        for name, kind in (
            ("reconstruction", Reconstruction),
            ("perceptual", Perceptual),
        ):
            known = get_args(kind)
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} is unknown; choose "
                    + ", ".join(known)
                )
        for name in (
            "kl_weight",
            "perceptual_weight",
            "contrast_weight",
            "band_weight",
            "equivariance_weight",
            "alignment_weight",
            "adversarial_weight",
            "r1_weight",
        ):
            number(name, getattr(self, name), 0)
        whole("adversarial_start", self.adversarial_start, 0)
        whole("r1_every", self.r1_every)


def reconstruction_loss(
    x_hat: Tensor,
    x: Tensor,
    kind: Reconstruction = "l1",
    weight: Tensor | float = 1.0,
) -> Tensor:
    """Mean absolute (l1) or squared (l2) error per pixel value, each error times
    ``weight``, which broadcasts.

    Raises:
        ValueError: for another kind, or images of other shapes: they are not broadcast.
    """
    alike("x_hat", x_hat, "x", x)
    if kind == "l1":
        return (weight * (x_hat - x).abs()).mean()
    if kind == "l2":
        return (weight * (x_hat - x).square()).mean()
    raise ValueError(f"reconstruction loss {kind!r} is unknown; choose l1 or l2")


def local_contrast(x: Tensor, window: int = 5) -> Tensor:
    """How much each pixel stands out, (B, 1, H, W): its squared difference from the
    mean of its window, over the image's mean of that.

    A mean over pixels gives a star what it covers, a few thousandths of the loss. The
    eye gives it more, and more on a dark sky than on a meadow; so every image is its
    own measure. An image without any contrast gets 0.
    """
    around = F.avg_pool2d(x, window, 1, window // 2, count_include_pad=False)
    contrast = (x - around).square().mean(1, keepdim=True)
    return contrast / contrast.mean((1, 2, 3), keepdim=True).clamp(min=1e-6)


def scale_equivariance(
    decode: Callable[[Tensor], Tensor],
    x: Tensor,
    z: Tensor,
    kind: Reconstruction = "l1",
) -> Tensor:
    """The error of what half a latent z (B, C, h, w) decodes to, against half the image
    x (B, 3, H, W): small for latents whose low frequencies show what the image's do
    (Skorokhodov et al. 2025, arXiv:2502.14831, sec. 4; Kouzelis et al. 2025,
    arXiv:2502.09509, eq. 6). Both are halved by the mean over squares of 2 x 2."""
    return reconstruction_loss(decode(F.avg_pool2d(z, 2)), F.avg_pool2d(x, 2), kind)


def kl_loss(posterior: DiagonalGaussian) -> Tensor:
    """Mean KL divergence from N(0, I), in nats per latent element."""
    return posterior.kl().mean()


def perceptual_distance(
    maps_hat: Sequence[Tensor],
    maps: Sequence[Tensor],
    weights: Sequence[Tensor] | None = None,
) -> Tensor:
    """LPIPS' distance between the feature maps of two batches of images, (B,).

    Every position's features are brought to unit length; their squared difference is
    summed over channels, averaged over positions and summed over layers (Zhang et al.
    2018, arXiv:1801.03924, eq. 1).

    Args:
        maps_hat, maps: for each layer a tensor (B, C, H, W).
        weights: for each layer a tensor (C,) that weighs the channels; all 1 if left
            out.
    """
    total = torch.zeros(len(maps[0]), device=maps[0].device)
    for layer, (f_hat, f) in enumerate(zip(maps_hat, maps, strict=True)):
        difference = (unit_length(f_hat) - unit_length(f)).square()
        if weights is not None:
            difference = difference * weights[layer].view(-1, 1, 1)
        total = total + difference.sum(dim=1).mean(dim=(1, 2))
    return total


def unit_length(features: Tensor) -> Tensor:
    """Features (B, C, H, W) divided by their norm over C, in float32 also under
    autocast; where all are 0 they stay 0, with a gradient that is finite."""
    return F.normalize(features.float(), dim=1, eps=1e-6)


def hinge_d_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """What the discriminator minimises: half the sum of the mean of max(0, 1 - D(x))
    and the mean of max(0, 1 + D(x_hat)) (Lim & Ye 2017; the half as in VQGAN)."""
    return 0.5 * (F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean())


def hinge_g_loss(fake_logits: Tensor) -> Tensor:
    """What the autoencoder minimises against it: -mean D(x_hat)."""
    return -fake_logits.mean()


def adaptive_weight(nll: Tensor, g_loss: Tensor, last_layer: Tensor) -> Tensor:
    """||grad nll|| / (||grad g_loss|| + 1e-4) at the decoder's last layer (Esser et al.
    2021, eq. 7), at most 1e4, as a constant.

    So the discriminator pulls at the decoder as strongly as the reconstruction does,
    whatever the scale of its logits. Of several processes that share a batch, all have
    the weight of the whole.

    Args:
        nll: reconstruction and perceptual loss.
        g_loss: the generator's loss.
        last_layer: the weight of the decoder's last convolution.
    """
    slopes = [
        torch.autograd.grad(loss, last_layer, retain_graph=True)[0]
        for loss in (nll, g_loss)
    ]
    of_nll, of_g_loss = (mean_over_processes(slope).norm() for slope in slopes)
    return (of_nll / (of_g_loss + 1e-4)).clamp(0, 1e4).detach()


def vae_loss(
    x_hat: Tensor,
    x: Tensor,
    posterior: DiagonalGaussian,
    config: VAELossConfig,
    perceptual: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Reconstruction + kl_weight * KL + contrast_weight * C + band_weight * B +
    perceptual_weight * P.

    C is the reconstruction error where something stands out, B ``band_distance``. The
    parts come back too, detached, for the log. The adversarial term, which has two
    players, is in ``VAETraining``.

    Args:
        perceptual: ``perceptual(x_hat, x)`` -> (B,), as ``load_perceptual`` gives it;
            needed unless ``config.perceptual`` is none.

    Raises:
        ValueError: if it is missing.
    """
    parts = {
        "reconstruction": reconstruction_loss(x_hat, x, config.reconstruction),
        "kl": kl_loss(posterior),
    }
    total = parts["reconstruction"] + config.kl_weight * parts["kl"]
    if config.contrast_weight:
        kind, weight = config.reconstruction, local_contrast(x)
        parts["contrast"] = reconstruction_loss(x_hat, x, kind, weight)
        total = total + config.contrast_weight * parts["contrast"]
    if config.band_weight:
        parts["bands"] = band_distance(x_hat, x).mean()
        total = total + config.band_weight * parts["bands"]
    if config.perceptual != "none":
        if perceptual is None:
            raise ValueError(
                f"perceptual={config.perceptual!r} needs its network; give "
                f"perceptual=load_perceptual({config.perceptual!r})"
            )
        parts["perceptual"] = perceptual(x_hat, x).mean()
        total = total + config.perceptual_weight * parts["perceptual"]
    return total, {name: value.detach() for name, value in parts.items()}


def kl_weight_from(
    convention: Convention, weight: float, pixel_values: int, latent_elements: int
) -> float:
    """This project's KL weight for one that is stated in another convention.

    Here it is mean(error) + weight * mean(KL), over pixel values and latent elements.

    Args:
        convention: how the other loss adds up, for one image: sums, sum(error) +
            weight * sum(KL), as CompVis' latent-diffusion code does; means, as here;
            mean_and_sum, mean(error) + weight * sum(KL), common in tutorials.
        weight: the weight in that convention.
        pixel_values: numbers in an image, 3 H W.
        latent_elements: numbers in its latent, C h w.
    """
    return weight * nats_factor(convention, pixel_values, latent_elements)


def kl_weight_to(
    convention: Convention, weight: float, pixel_values: int, latent_elements: int
) -> float:
    """The inverse of ``kl_weight_from``: this project's weight in another convention.

    >>> kl_weight_to("sums", 1e-3, 3 * 64 * 64, 4 * 8 * 8)
    0.048
    """
    return weight / nats_factor(convention, pixel_values, latent_elements)


def nats_factor(
    convention: Convention, pixel_values: int, latent_elements: int
) -> float:
    """This project's KL weight over that of another convention.

    Dividing sum(error) by the number of pixel values gives a mean; a sum of KL is
    latent_elements times its mean.
    """
    factors = {
        "sums": latent_elements / pixel_values,
        "means": 1.0,
        "mean_and_sum": float(latent_elements),
    }
    if convention not in factors:
        raise ValueError(
            f"convention {convention!r} is unknown; choose {', '.join(factors)}"
        )
    return factors[convention]
