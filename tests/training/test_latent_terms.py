"""What is asked of latents for the sake of a diffusion model: equivariance to scale,
and alignment with what SceneNet sees."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from ldm_tutorial.landscapes.scenenet import SceneNet, SceneNetConfig
from ldm_tutorial.training import perceptual
from ldm_tutorial.training.fit import train_vae
from ldm_tutorial.training.losses import VAELossConfig, scale_equivariance, vae_loss
from ldm_tutorial.training.tasks import VAETraining
from ldm_tutorial.vae import AutoencoderKL, VAEConfig
from tests.tiny_recipes import VAE

SHAPE = VAEConfig(channels=(8, 8, 8, 8))


@pytest.fixture(autouse=True)
def scenenet(tmp_path, monkeypatch):
    torch.manual_seed(3)
    SceneNet(SceneNetConfig(channels=(8, 16))).save(tmp_path / "scenenet")
    monkeypatch.setattr(perceptual, "SCENENET", tmp_path / "scenenet")


def training(**weights):
    torch.manual_seed(0)
    return VAETraining(AutoencoderKL(SHAPE), VAELossConfig(**weights))


def images(size=32):
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def seeded():
    return torch.Generator().manual_seed(2)


def test_equivariance_is_added_with_its_weight():
    x, module = images(), training(equivariance_weight=0.3)
    loss, parts = module(x, generator=seeded())
    plain, _ = training()(x, generator=seeded())
    z = module.vae.encode(x).mode()
    wanted = scale_equivariance(module.vae.decode, x, z, "l1")
    assert_close(parts["equivariance"], wanted.detach())
    assert_close(loss, plain + 0.3 * wanted)
    assert not parts["equivariance"].requires_grad


@pytest.mark.parametrize(
    "weight, parts",
    [
        ("equivariance_weight", ("vae.encoder", "vae.decoder")),
        ("alignment_weight", ("vae.encoder", "alignment")),
    ],
)
def test_a_term_reaches_what_it_is_for(weight, parts):
    module, x = training(**{weight: 1.0}), images()
    ((_, value),) = module.of_the_latent(x, module.vae.encode(x).mode()).values()
    value.backward()
    for part in parts:
        gradients = [p.grad for p in module.get_submodule(part).parameters()]
        assert any(g is not None and g.abs().sum() > 0 for g in gradients), part


def test_alignment_is_added_with_its_weight_and_its_network_is_trained_along():
    x, module = images(), training(alignment_weight=0.4)
    loss, parts = module(x, generator=seeded())
    x_hat, q = module.vae(x, seeded())
    plain, _ = vae_loss(x_hat, x, q, VAELossConfig())
    wanted = module.alignment(q.mode(), x)
    assert_close(loss, plain + 0.4 * wanted)
    assert_close(parts["alignment"], wanted.detach())
    loss.backward()
    trained = [name for name, p in module.named_parameters() if p.grad is not None]
    assert any(name.startswith("alignment.translate") for name in trained)
    assert not any("frozen" in name for name in module.state_dict())


def test_without_weights_there_are_no_terms():
    module = training()
    _, parts = module(images(), generator=seeded())
    assert parts.keys() == {"reconstruction", "kl"} and module.alignment is None


@pytest.mark.parametrize(
    "fields, size, message",
    [
        ({"equivariance_weight": 1.0}, 24, "24 pixels have latents that cannot be"),
        ({"equivariance_weight": 1.0}, 8, "give a size that is a multiple of 16"),
        ({"alignment_weight": 1.0}, 2, "SceneNet wants .* sides of at least 4"),
    ],
)
def test_images_that_do_not_fit_are_refused(fields, size, message):
    with pytest.raises(ValueError, match=message) as caught:
        training(**fields).check(torch.zeros(1, 3, size, size))
    assert "\n" not in str(caught.value)


def test_the_command_refuses_before_it_trains(tmp_path):
    odd = replace(VAE.vae, downsampling=8)
    loss = VAELossConfig(equivariance_weight=1.0)
    recipe = replace(VAE, size=40, vae=odd, loss=loss)
    with pytest.raises(ValueError, match="multiple of 16, or equivariance_weight=0"):
        train_vae(recipe, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_training_for_equivariance_brings_half_the_latent_nearer_to_half_the_image():
    """From the same start, on the same images: the term falls where it is paid for."""
    found = {}
    for weight in (0.0, 1.0):
        module = training(equivariance_weight=weight)
        optimizer = torch.optim.Adam(module.parameters(), 3e-3)
        for step in range(40):
            loss, _ = module(images(16), generator=torch.Generator().manual_seed(step))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        z = module.vae.encode(images(16)).mode()
        half = module.vae.decode(F.avg_pool2d(z, 2)).detach()
        found[weight] = float(F.l1_loss(half, F.avg_pool2d(images(16), 2)))
    assert found[1.0] < 0.9 * found[0.0], found
