import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from ldm_tutorial.gaussian import DiagonalGaussian
from ldm_tutorial.training.bands import band_distance
from ldm_tutorial.training.losses import (
    VAELossConfig,
    adaptive_weight,
    hinge_d_loss,
    hinge_g_loss,
    kl_loss,
    kl_weight_from,
    kl_weight_to,
    local_contrast,
    perceptual_distance,
    reconstruction_loss,
    scale_equivariance,
    unit_length,
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


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("reconstruction", "huber", "'huber' is unknown; choose l1, l2"),
        ("perceptual", "vgg", "'vgg' is unknown; choose none, scenenet, lpips-squeeze"),
        ("kl_weight", -1.0, "kl_weight=-1.0; give 0 or more"),
        ("kl_weight", math.nan, "kl_weight=nan; give 0 or more"),
        ("perceptual_weight", -1.0, "perceptual_weight=-1.0; give 0 or more"),
        ("adversarial_weight", math.inf, "adversarial_weight=inf; give 0 or more"),
        ("adversarial_start", -1, "adversarial_start=-1; give 0 or more"),
        ("band_weight", -1.0, "band_weight=-1.0; give 0 or more"),
        ("equivariance_weight", -0.1, "equivariance_weight=-0.1; give 0 or more"),
        ("alignment_weight", math.inf, "alignment_weight=inf; give 0 or more"),
        ("r1_weight", math.nan, "r1_weight=nan; give 0 or more"),
        ("r1_every", 0, "r1_every=0; give 1 or more"),
    ],
)
def test_impossible_settings_are_refused(field, value, message):
    with pytest.raises(ValueError, match=message) as caught:
        VAELossConfig(**{field: value})
    assert "\n" not in str(caught.value)


def test_the_loss_is_the_weighted_sum_of_its_parts(batch):
    x_hat, x, posterior = batch
    loss, parts = vae_loss(x_hat, x, posterior, VAELossConfig("l2", 0.5))
    assert parts.keys() == {"reconstruction", "kl"}
    assert_close(loss, parts["reconstruction"] + 0.5 * parts["kl"])
    assert_close(parts["kl"], kl_loss(posterior))
    assert_close(parts["reconstruction"], (x_hat - x).square().mean())


def test_the_perceptual_term_is_added_with_its_weight(batch):
    x_hat, x, posterior = batch
    config = VAELossConfig(perceptual="scenenet", perceptual_weight=3.0)
    plain, _ = vae_loss(x_hat, x, posterior, VAELossConfig())
    distances = torch.tensor([1.0, 4.0])
    loss, parts = vae_loss(x_hat, x, posterior, config, lambda x_hat, x: distances)
    assert_close(loss, plain + 3 * 2.5)
    assert_close(parts["perceptual"], torch.tensor(2.5))
    with pytest.raises(ValueError, match="needs its network; give perceptual=load_p"):
        vae_loss(x_hat, x, posterior, config)


# --- perceptual distance --------------------------------------------------------------


def two_layers(seed: int):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 5, 4, 4, generator=g), torch.randn(2, 7, 2, 2, generator=g)]


def test_the_perceptual_distance_is_its_formula():
    """Zhang et al. 2018, eq. 1, position by position."""
    maps_hat, maps = two_layers(0), two_layers(1)
    weights = [torch.rand(5), torch.rand(7)]
    expected = torch.zeros(2)
    for layer, (f_hat, f) in enumerate(zip(maps_hat, maps, strict=True)):
        _, _, H, W = f.shape
        for b in range(2):
            for i in range(H):
                for j in range(W):
                    u, v = f_hat[b, :, i, j], f[b, :, i, j]
                    d = (u / u.norm() - v / v.norm()) ** 2
                    expected[b] += (weights[layer] * d).sum() / (H * W)
    assert_close(perceptual_distance(maps_hat, maps, weights), expected)
    ones = [torch.ones(5), torch.ones(7)]
    found = perceptual_distance(maps_hat, maps)
    assert_close(found, perceptual_distance(maps_hat, maps, ones))


def test_the_perceptual_distance_of_same_opposite_and_louder_features():
    maps = two_layers(0)
    assert_close(perceptual_distance(maps, maps), torch.zeros(2))
    opposite = [-f for f in maps]  # |u - (-u)|^2 = 4 in each of two layers
    assert_close(perceptual_distance(maps, opposite), torch.full((2,), 8.0))
    louder = [5 * f for f in maps]
    assert_close(perceptual_distance(maps, louder), torch.zeros(2))


def test_features_that_are_zero_have_a_finite_gradient():
    features = torch.zeros(1, 3, 2, 2, requires_grad=True)
    assert not unit_length(features).any()
    perceptual_distance([features], [torch.ones(1, 3, 2, 2)]).mean().backward()
    assert features.grad.isfinite().all()


def test_networks_with_other_layers_are_not_compared():
    with pytest.raises(ValueError):
        perceptual_distance(two_layers(0), two_layers(1)[:1])


# --- the two players ------------------------------------------------------------------


def test_hinge_losses_by_hand():
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 1.0])
    # max(0, 1 - D(x)) = 0, 0.5; max(0, 1 + D(x_hat)) = 0, 2
    assert_close(hinge_d_loss(real, fake), torch.tensor(0.5 * (0.25 + 1.0)))
    assert_close(hinge_g_loss(fake), torch.tensor(1.0))


def test_a_discriminator_that_is_sure_and_right_learns_no_more():
    real = torch.full((4,), 1.5, requires_grad=True)
    fake = torch.full((4,), -1.5, requires_grad=True)
    hinge_d_loss(real, fake).backward()
    assert not real.grad.any() and not fake.grad.any()


def test_the_adaptive_weight_is_a_ratio_of_gradient_norms():
    """Esser et al. 2021, eq. 7, for losses that are linear in the last layer."""
    w = nn.Parameter(torch.ones(2, 3))
    a, b = torch.randn(2, 3), torch.randn(2, 3)
    found = adaptive_weight((a * w).sum(), (b * w).sum(), w)
    assert_close(found, a.norm() / (b.norm() + 1e-4))
    assert not found.requires_grad and w.grad is None
    tenfold = adaptive_weight((a * w).sum(), 10 * (b * w).sum(), w)
    assert_close(tenfold, found / 10, rtol=1e-3, atol=0)
    assert_close(adaptive_weight(1e9 * w.sum(), 0 * w.sum(), w), torch.tensor(1e4))
    assert_close(adaptive_weight(0 * w.sum(), w.sum(), w), torch.tensor(0.0))


def test_the_graph_outlives_the_adaptive_weight():
    layer = nn.Linear(3, 3)
    h = layer(torch.randn(4, 3)).tanh()
    nll, g_loss = h.square().mean(), h.mean()
    (nll + adaptive_weight(nll, g_loss, layer.weight) * g_loss).backward()
    assert layer.weight.grad.any()


# --- units of the KL weight -----------------------------------------------------------


def as_compvis(x_hat, x, q, w):
    """sum(error) + w sum(KL) over an image, mean over the batch."""
    return ((x_hat - x).abs().sum() + w * q.kl().sum()) / len(x)


def as_means(x_hat, x, q, w):
    return F.l1_loss(x_hat, x) + w * q.kl().mean()


def as_mean_and_sum(x_hat, x, q, w):
    return F.l1_loss(x_hat, x) + w * q.kl().flatten(1).sum(1).mean()


CONVENTIONS = {
    "sums": as_compvis,
    "means": as_means,
    "mean_and_sum": as_mean_and_sum,
}


@pytest.mark.parametrize("name", CONVENTIONS)
def test_a_converted_weight_gives_the_same_loss_but_for_a_factor(batch, name):
    """Same value and same gradients, for images and latents of any size; the factor
    is the number of pixel values where errors are summed, else 1."""
    x_hat, x, q = batch
    x_hat, q.mu, q.logvar = (
        t.clone().requires_grad_() for t in (x_hat, q.mu, q.logvar)
    )
    inputs = (x_hat, q.mu, q.logvar)
    w, n_x, n_z = 0.3, x[0].numel(), q.mu[0].numel()
    theirs = CONVENTIONS[name](x_hat, x, q, w)
    weight = kl_weight_from(name, w, n_x, n_z)
    ours, _ = vae_loss(x_hat, x, q, VAELossConfig("l1", weight))
    factor = n_x if name == "sums" else 1
    assert_close(theirs, factor * ours)
    expected = torch.autograd.grad(theirs, inputs)
    found = torch.autograd.grad(ours, inputs)
    for one, other in zip(found, expected, strict=True):
        assert_close(factor * one, other)
    assert kl_weight_to(name, weight, n_x, n_z) == pytest.approx(w, rel=1e-12)


def test_weights_that_are_known():
    """Stable Diffusion's 1e-6 in sums, for 256 x 256 pixels, f = 8 and C = 4."""
    sizes = (3 * 256 * 256, 4 * 32 * 32)
    assert kl_weight_from("sums", 1e-6, *sizes) == pytest.approx(1e-6 / 48)
    assert kl_weight_from("means", 1e-3, *sizes) == 1e-3
    assert kl_weight_from("mean_and_sum", 1e-6, *sizes) == pytest.approx(4.096e-3)
    assert kl_weight_to("sums", 1e-3, *sizes) == pytest.approx(0.048)


def test_an_unknown_convention_is_refused():
    with pytest.raises(ValueError, match="'sum' is unknown; choose sums, means, mean_"):
        kl_weight_from("sum", 1.0, 1, 1)


# --- what stands out ------------------------------------------------------------------


def night(star=0.9):
    """A dark gradient with one bright pixel."""
    x = torch.linspace(-0.9, -0.6, 16).view(1, 1, 16, 1).repeat(1, 3, 1, 16)
    x[:, :, 5, 8] = star
    return x


def test_contrast_is_one_on_average_and_large_at_a_star():
    contrast = local_contrast(night())
    assert contrast.shape == (1, 1, 16, 16)
    assert_close(contrast.mean(), torch.tensor(1.0))
    assert contrast.flatten().argmax() == 5 * 16 + 8 and contrast.max() > 50


def test_every_image_is_its_own_measure():
    """A faint star on a dark sky counts as a bright one does: contrast has no unit."""
    bright, faint = night(0.9), night(0.9) * 0.1
    assert_close(local_contrast(bright), local_contrast(faint), atol=1e-3, rtol=1e-3)
    both = local_contrast(torch.cat([bright, 100 * torch.rand(1, 3, 16, 16)]))
    assert_close(both[:1], local_contrast(bright))


def test_an_image_without_contrast_has_none():
    assert local_contrast(torch.full((2, 3, 8, 8), 0.3)).abs().max() < 1e-6


def test_a_lost_star_costs_more_with_a_contrast_weight(batch):
    _, _, q = batch
    x = night()
    lost = night(-0.8)
    spread = x + (x - lost).abs().mean()  # the same mean error, spread over the image
    plain, weighed = VAELossConfig(), VAELossConfig(contrast_weight=1.0)
    costs = [
        [float(vae_loss(x_hat, x, q, config)[0]) for x_hat in (lost, spread)]
        for config in (plain, weighed)
    ]
    assert costs[0][0] == pytest.approx(costs[0][1], rel=1e-4)
    assert costs[1][0] > costs[1][1] + 0.1
    _, parts = vae_loss(spread, x, q, weighed)
    assert_close(parts["contrast"], parts["reconstruction"])  # contrast is 1 on average


def test_the_bands_are_added_with_their_weight(batch):
    _, _, q = batch
    x, x_hat = torch.rand(2, 2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    plain, _ = vae_loss(x_hat, x, q, VAELossConfig())
    loss, parts = vae_loss(x_hat, x, q, VAELossConfig(band_weight=0.3))
    assert_close(parts["bands"], band_distance(x_hat, x).mean())
    assert_close(loss, plain + 0.3 * parts["bands"])
    assert not parts["bands"].requires_grad and parts["bands"] > 0


@pytest.mark.parametrize("kind", ["l1", "l2"])
def test_equivariance_halves_before_it_decodes(kind):
    """The identity is equivariant; a decoder that is not linear sees the mean of the
    latent, not the mean of what each position decodes to."""
    z = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(0))

    def copies(z):
        return F.interpolate(z, scale_factor=2, mode="nearest")

    assert scale_equivariance(lambda z: z, z, z, kind) < 1e-6
    x = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(1))
    half_z, half_x = (F.interpolate(a, scale_factor=0.5, mode="area") for a in (z, x))
    found = scale_equivariance(lambda z: copies(z.tanh()), x, z, kind)
    error = copies(half_z.tanh()) - half_x
    wanted = error.abs() if kind == "l1" else error.square()
    assert_close(found, wanted.mean())


def test_nothing_but_l1_and_a_weak_kl_is_on_by_itself():
    config = VAELossConfig()
    assert (config.reconstruction, config.kl_weight) == ("l1", 1e-3)
    weights = {k: v for k, v in vars(config).items() if k.endswith("_weight")}
    assert config.perceptual == "none" and weights.pop("perceptual_weight") == 1
    assert weights.pop("kl_weight") and set(weights.values()) == {0.0}
    assert (config.adversarial_start, config.r1_every) == (0, 16)


def test_features_of_no_length_give_a_gradient_of_bounded_size():
    h = torch.zeros(1, 4, 2, 2, requires_grad=True)
    unit_length(h).sum().backward()
    assert h.grad.abs().max() <= 1.001e6
    assert unit_length(torch.ones(1, 4, 1, 1).bfloat16()).dtype == torch.float32
