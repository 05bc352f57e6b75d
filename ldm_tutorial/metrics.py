"""How good is an image? Images are (B, 3, H, W) in [-1, 1].

Sets of images are compared in ``distances.py``.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ldm_tutorial.arguments import alike


def psnr(x_hat: Tensor, x: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image in dB, shape (B,); the peak is the
    whole range, 2: 10 log10(2^2 / MSE). Equal images get 106 dB, not infinity.

    Raises:
        TypeError, ValueError: for images that are not floats of one shape.
    """
    check_images(x_hat, x)
    return decibels((x_hat - x).square().flatten(1).mean(1))


def decibels(mse: Tensor) -> Tensor:
    """PSNR in dB for mean squared errors of images in [-1, 1]."""
    return 10 * torch.log10(4.0 / mse.clamp(min=1e-10))


def ssim(x_hat: Tensor, x: Tensor) -> Tensor:
    """Structural similarity of each image, shape (B,), 1 for equal images.

    Wang et al. 2004, eq. 13: means, variances and covariance in a Gaussian window of
    11 x 11 pixels, at every pixel; the edges are reflected.

    Raises:
        TypeError, ValueError: for images that are not floats of one shape, or smaller
            than half a window.
    """
    check_images(x_hat, x)
    if x.ndim != 4 or min(x.shape[2:]) < 6:
        raise ValueError(
            f"got images of shape {tuple(x.shape)}; give (B, C, H, W) with H and W 6 "
            "or more"
        )
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2  # the range of the images is 2
    mean_a, mean_b = blur(x_hat), blur(x)
    var_a = (blur(x_hat * x_hat) - mean_a**2).clamp(min=0)
    var_b = (blur(x * x) - mean_b**2).clamp(min=0)
    covariance = blur(x_hat * x) - mean_a * mean_b
    light = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return (light * (2 * covariance + c2) / (var_a + var_b + c2)).flatten(1).mean(1)


def check_images(x_hat: Tensor, x: Tensor) -> None:
    """Two batches of images of one shape: comparing 2 with 1 would broadcast."""
    alike("x_hat", x_hat, "x", x)
    if x.ndim < 2:
        raise ValueError(f"got images of shape {tuple(x.shape)}; give (B, C, H, W)")


def blur(x: Tensor, sigma: float = 1.5, radius: int = 5) -> Tensor:
    """Images (B, C, H, W) under a Gaussian window; H and W are kept."""
    H, W = x.shape[2:]
    return window(x, H, sigma, radius) @ x @ window(x, W, sigma, radius).T


def window(x: Tensor, n: int, sigma: float, radius: int) -> Tensor:
    """The matrix (n, n) that smooths a line of n pixels; its ends are reflected."""
    offset = torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype)
    weight = torch.exp(-(offset**2) / (2 * sigma**2))
    pixels = torch.eye(n, device=x.device, dtype=x.dtype)[:, None]  # each one alone
    pixels = F.pad(pixels, (radius, radius), mode="reflect")
    return F.conv1d(pixels, (weight / weight.sum()).view(1, 1, -1))[:, 0].T


def detail_psnr(x_hat: Tensor, x: Tensor, masks: dict[str, Tensor]) -> dict[str, float]:
    """PSNR in dB over the pixels of each kind of detail.

    Args:
        masks: for each kind which pixels belong to it, bool (B, H, W), as
            ``landscapes.detail_masks`` gives them. Kinds without a pixel are left out.
    """
    check_images(x_hat, x)
    error = (x_hat - x).square().mean(1)  # (B, H, W)
    found = {name: error[mask] for name, mask in masks.items() if bool(mask.any())}
    return {name: float(decibels(e.mean())) for name, e in found.items()}


def detail_recall(
    x_hat: Tensor, x: Tensor, masks: dict[str, Tensor]
) -> dict[str, float]:
    """How much of each kind of detail a reconstruction still shows.

    A detail is what stands out of its surroundings, so both images are compared after
    a high pass h, the image less its blur: over the pixels of a kind,

        recall = sum h(x_hat) h(x) / sum h(x)^2,

    the slope of the shown contrast over the true one. 1: all is there; a: contrast
    times a; 0: blurred away, or replaced by something else that is as busy; above 1:
    exaggerated; below 0: inverted. PSNR cannot tell these apart. A constant error of
    colour does not count, nor does noise, in the mean.

    Args:
        masks: as for ``detail_psnr``. Kinds without a pixel are left out, and those
            that do not stand out: a contrast below one step of 8-bit images.
    """
    check_images(x_hat, x)
    h_hat, h = high_pass(x_hat), high_pass(x)
    shown, there = (h_hat * h).mean(1), (h * h).mean(1)  # (B, H, W)
    sums = {k: (shown[m].sum(), there[m].sum(), m.sum()) for k, m in masks.items()}
    return {k: float(s / t) for k, (s, t, n) in sums.items() if t > n * STEP**2}


STEP = 2 / 255  # of images in [-1, 1] that are stored with 8 bits


def high_pass(x: Tensor) -> Tensor:
    """What is left of images (B, C, H, W) without their blur: details of few pixels."""
    return x - blur(x, sigma=2.0, radius=6)


def thumbnails(x: Tensor, side: int = 8) -> Tensor:
    """Features that need no network: the image shrunk to side x side, (B, 3 side^2).

    They see light, colour and layout, and are blind to fine detail.
    """
    return F.adaptive_avg_pool2d(x, side).flatten(1)


@dataclass(frozen=True)
class ClassJudge:
    """A classifier in closed form, to ask whether samples show the class they should.

    Ridge regression onto one-hot classes from random ReLU features of thumbnails.
    Report its accuracy on real images beside what it says of samples.
    """

    project: Tensor  # (d, hidden)
    weight: Tensor  # (hidden, classes)

    @classmethod
    def fit(cls, x: Tensor, y: Tensor, hidden: int = 2000, ridge: float = 10.0):
        """Fit on images (n, 3, H, W) of classes (n,); a few thousand are plenty."""
        features = thumbnails(x)
        generator = torch.Generator().manual_seed(0)
        shape = (features.shape[1] + 1, hidden)
        project = torch.randn(shape, generator=generator) / shape[0] ** 0.5
        h = lift(features, project).double()
        target = F.one_hot(y).double()
        gram = h.T @ h + ridge * torch.eye(hidden, dtype=torch.float64)
        return cls(project, torch.linalg.solve(gram, h.T @ target).float())

    def __call__(self, x: Tensor) -> Tensor:
        """Predicted classes (B,)."""
        return (lift(thumbnails(x), self.project) @ self.weight).argmax(1)


def lift(features: Tensor, project: Tensor) -> Tensor:
    """Random ReLU features, with a constant one for the offset."""
    ones = features.new_ones(len(features), 1)
    return F.relu(torch.cat([features, ones], 1) @ project)
