import pytest
import torch
from torch.testing import assert_close

from ldm_tutorial.gaussian import DiagonalGaussian
from ldm_tutorial.losses import (
    VAELossConfig,
    kl_loss,
    kl_weight_from_sums,
    reconstruction_loss,
    vae_loss,
)


@pytest.fixture
def batch():
    torch.manual_seed(0)
    x, x_hat = torch.randn(2, 2, 3, 16, 16)
    return x_hat, x, DiagonalGaussian(torch.randn(2, 4, 2, 2), torch.randn(2, 4, 2, 2))


@pytest.mark.parametrize(
    "kind, reference",
    [("l1", torch.nn.functional.l1_loss), ("l2", torch.nn.functional.mse_loss)],
)
def test_reconstruction_is_torchs_own(batch, kind, reference):
    x_hat, x, _ = batch
    assert_close(reconstruction_loss(x_hat, x, kind), reference(x_hat, x))


def test_an_unknown_reconstruction_is_refused(batch):
    with pytest.raises(ValueError, match="'huber' is unknown"):
        reconstruction_loss(batch[0], batch[1], "huber")


def test_the_loss_is_the_weighted_sum_of_its_parts(batch):
    x_hat, x, posterior = batch
    loss, parts = vae_loss(x_hat, x, posterior, VAELossConfig("l2", 0.5))
    assert_close(loss, parts["reconstruction"] + 0.5 * parts["kl"])
    assert_close(parts["kl"], kl_loss(posterior))
    assert_close(parts["reconstruction"], (x_hat - x).square().mean())


def test_the_weight_of_sums_is_the_same_loss_but_for_a_factor(batch):
    """sum(error) + w sum(KL) per image, divided by the pixel values."""
    x_hat, x, posterior = batch
    w, n_x, n_z = 0.3, x[0].numel(), posterior.mu[0].numel()
    sums = (x_hat - x).abs().sum() + w * posterior.kl().sum()
    ours = kl_weight_from_sums(w, n_x, n_z)
    loss, _ = vae_loss(x_hat, x, posterior, VAELossConfig("l1", ours))
    assert_close(loss, sums / x.numel())
