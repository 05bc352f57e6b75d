"""How good are reconstructions and samples? Images are (B, 3, H, W) in [-1, 1]."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


def psnr(x_hat: Tensor, x: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image in dB, shape (B,); the peak is the
    whole range, 2: 10 log10(2^2 / MSE)."""
    mse = (x_hat - x).square().flatten(1).mean(1)
    return 10 * torch.log10(4.0 / mse.clamp(min=1e-10))


def ssim(x_hat: Tensor, x: Tensor) -> Tensor:
    """Structural similarity of each image, shape (B,), 1 for equal images
    (Wang et al. 2004, with their 11 x 11 Gaussian window)."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    values = structural_similarity_index_measure(
        x_hat, x, data_range=2.0, reduction="none"
    )
    return values.reshape(len(x))


def detail_psnr(x_hat: Tensor, x: Tensor, masks: dict[str, Tensor]) -> dict[str, float]:
    """PSNR in dB over the pixels of each kind of detail.

    Args:
        masks: for each kind which pixels belong to it, bool (B, H, W), as
            ``landscapes.detail_masks`` gives them. Kinds without a pixel are left out.
    """
    error = (x_hat - x).square().mean(1)  # (B, H, W)
    found = {name: error[mask] for name, mask in masks.items() if bool(mask.any())}
    return {k: float(10 * torch.log10(4.0 / e.mean())) for k, e in found.items()}


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Squared Fréchet distance of the Gaussians fitted to two sets of features.

    |mu_a - mu_b|^2 + tr(A + B - 2 (A B)^(1/2)) with covariances A and B
    (Heusel et al. 2017, eq. 6). It is biased upward for few samples: compare it with
    the distance between two sets of real features of the same sizes.

    Args:
        a, b: features (n, d) and (m, d), n and m at least 2.
    """
    a, b = a.double(), b.double()
    A, B = (torch.atleast_2d(torch.cov(x.T)) for x in (a, b))
    values, vectors = torch.linalg.eigh(A)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    # sqrt(A) B sqrt(A) is symmetric and has the eigenvalues of A B.
    cross = torch.linalg.eigvalsh(root @ B @ root).clamp(min=0).sqrt().sum()
    shift = (a.mean(0) - b.mean(0)).square().sum()
    return float(shift + A.trace() + B.trace() - 2 * cross)


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
