"""Perceptual and adversarial training: one loss, two players, exact resume."""

import copy
import json
from dataclasses import replace

import pytest
import torch
from torch.func import functional_call
from torch.testing import assert_close

from ldm_tutorial import AutoencoderKL, LatentCodec, VAEConfig
from ldm_tutorial.cli.main import main
from ldm_tutorial.landscapes.scenenet import SceneNet, SceneNetConfig
from ldm_tutorial.training import fit, perceptual
from ldm_tutorial.training.config import TrainConfig
from ldm_tutorial.training.discriminator import DiscriminatorConfig, r1_penalty
from ldm_tutorial.training.losses import (
    VAELossConfig,
    adaptive_weight,
    hinge_d_loss,
    hinge_g_loss,
    vae_loss,
)
from ldm_tutorial.training.recipes import VAERecipe
from ldm_tutorial.training.tasks import VAETraining
from ldm_tutorial.vae import remove_checkerboard

LOSS = VAELossConfig(
    perceptual="scenenet",
    perceptual_weight=0.1,
    adversarial_weight=0.5,
    adversarial_start=2,
)
SHAPE = VAEConfig(channels=(8, 8, 16, 16), downsampling=4, decoder_patch=4)
RECIPE = VAERecipe(
    size=16,
    length=24,
    vae=SHAPE,
    loss=LOSS,
    train=TrainConfig(
        steps=6, batch_size=4, warmup_steps=2, log_every=1, checkpoint_every=3
    ),
)
CRITIC = {"d_loss", "d_real", "d_fake"}
ADVERSARIAL = CRITIC | {"g_loss", "adaptive_weight"}


@pytest.fixture(autouse=True)
def scenenet(tmp_path_factory, monkeypatch):
    """A small untrained network in the place of the shipped one."""
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("scenenet")
    SceneNet(SceneNetConfig(channels=(8, 16))).save(folder)
    monkeypatch.setattr(perceptual, "SCENENET", folder)


def training(loss: VAELossConfig = LOSS) -> VAETraining:
    torch.manual_seed(0)
    module = VAETraining(AutoencoderKL(SHAPE), loss).train()
    for parameter in module.parameters():  # no layer that starts at zero
        torch.nn.init.normal_(parameter, std=0.2)
    return module


def step(module: VAETraining):
    """Loss and parts of the same batch with the same noise, ready for a backward."""
    g = torch.Generator().manual_seed(1)
    x = torch.rand(4, 3, 16, 16, generator=g) * 2 - 1
    return module(x, torch.zeros(4), generator=g), x


def gradients(module, loss):
    module.zero_grad()
    loss.backward()
    return {k: p.grad.clone() for k, p in module.named_parameters()}


def without_seconds(lines):
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def equal(one, two):
    return all(
        torch.equal(a, b)
        for a, b in zip(
            one.state_dict().values(), two.state_dict().values(), strict=True
        )
    )


# --- two players ----------------------------------------------------------------------


def test_each_player_gets_the_gradient_of_its_own_loss():
    """Against the two losses written out, one optimiser each."""
    module = training(replace(LOSS, adversarial_start=0))
    (loss, parts), x = step(module)
    found = gradients(module, loss)

    g = torch.Generator().manual_seed(1)
    torch.rand(4, 3, 16, 16, generator=g)
    x_hat, posterior = module.vae(x, g)
    nll, _ = vae_loss(x_hat, x, posterior, module.loss, module.frozen[0])
    g_loss = hinge_g_loss(module.discriminator(x_hat))
    weight = adaptive_weight(nll, g_loss, module.vae.decoder.out[2].weight)
    d_loss = hinge_d_loss(module.discriminator(x), module.discriminator(x_hat.detach()))
    players = {"vae": nll + 0.5 * weight * g_loss, "discriminator": d_loss}
    for player, its_loss in players.items():
        names = [k for k in found if k.startswith(player + ".")]
        weights = [module.get_parameter(k) for k in names]
        expected = torch.autograd.grad(its_loss, weights, retain_graph=True)
        for name, gradient in zip(names, expected, strict=True):
            assert_close(found[name], gradient, msg=lambda m, n=name: f"{n}: {m}")
    assert_close(loss, sum(players.values()))
    assert_close(parts["g_loss"], g_loss.detach())
    assert_close(parts["d_loss"], d_loss.detach())
    assert_close(parts["adaptive_weight"], weight)
    assert_close(parts["d_fake"], -g_loss.detach())
    assert float(weight) > 0 and all(bool(v.any()) for v in found.values())


def test_r1_is_paid_by_the_critic_every_so_many_steps():
    """Half the weight, times the steps in between; the autoencoder does not notice."""
    lazy = replace(LOSS, r1_weight=3.0, r1_every=2)
    plain, module = training(), training(lazy)
    for s in range(4):
        (expected, _), _ = step(plain)
        (loss, parts), x = step(module)
        found, without = gradients(module, loss), gradients(plain, expected)
        paid = s % 2 == 0
        penalty = torch.zeros(())
        if paid:
            g = torch.Generator().manual_seed(1)
            torch.rand(x.shape, generator=g)
            module.vae(x, g)
            penalty = 2 * 3.0 / 2 * r1_penalty(module.discriminator, x, g)
            assert penalty > 0
        assert_close(loss - expected, penalty)
        for name, gradient in found.items():
            if name.startswith("vae.") or not paid:
                assert_close(gradient, without[name])
            elif name.endswith("weight"):  # a last bias makes nothing steeper
                assert not torch.allclose(gradient, without[name], rtol=1e-3), name
        assert parts["r1"] > 0  # shown also by steps that do not pay


def test_the_log_shows_running_means():
    """The plain mean at first, then twenty steps fade."""
    module, d_fake = training(replace(LOSS, r1_weight=1.0, r1_every=2)), []
    g = torch.Generator().manual_seed(5)
    for s in range(30):
        with torch.no_grad():
            module.discriminator.out.bias.fill_(0.3 * s)
        x = torch.rand(4, 3, 16, 16, generator=g) * 2 - 1
        noisy = torch.Generator().manual_seed(s)
        x_hat, _ = module.vae(x, torch.Generator().manual_seed(s))
        d_fake.append(module.discriminator(x_hat).mean().item())
        _, parts = module(x, torch.zeros(4), generator=noisy)
        expected = 0.0
        for n, value in enumerate(d_fake):
            expected += max(0.05, 1 / (1 + n)) * (value - expected)
        assert float(parts["d_fake"]) == pytest.approx(expected, abs=1e-4), s
    assert d_fake[-1] > expected + 1


def test_a_step_down_the_loss_helps_both_players():
    module = training(replace(LOSS, adversarial_start=0))
    (loss, before), _ = step(module)
    found = gradients(module, loss)
    names = [k for k in found if k.startswith("discriminator.")]
    moved = dict(module.named_parameters())
    moved |= {k: moved[k].detach() - 1e-3 * found[k] for k in names}
    g = torch.Generator().manual_seed(1)
    x = torch.rand(4, 3, 16, 16, generator=g) * 2 - 1
    _, after = functional_call(module, moved, (x, torch.zeros(4)), {"generator": g})
    assert after["d_loss"] < before["d_loss"]
    assert_close(after["reconstruction"], before["reconstruction"])


def test_until_the_start_only_the_discriminator_learns_of_the_other():
    """The autoencoder gets the gradient of the run without the term."""
    module = training()
    plain = training(replace(LOSS, adversarial_weight=0.0))
    plain.vae.load_state_dict(module.vae.state_dict())
    for s in range(2):
        (loss, parts), _ = step(module)
        (expected, expected_parts), _ = step(plain)
        assert_close(loss, expected + parts["d_loss"])
        assert parts.keys() == expected_parts.keys() | CRITIC, s
        found = gradients(module, loss)
        for name, gradient in gradients(plain, expected).items():
            assert_close(found[name], gradient)
        critic = [v for k, v in found.items() if k.startswith("discriminator.")]
        assert critic and all(bool(v.any()) for v in critic)
    (_, parts), _ = step(module)
    assert parts.keys() == expected_parts.keys() | ADVERSARIAL
    assert int(module.step) == 3


def test_evaluation_counts_no_steps_and_needs_no_gradient():
    module = training(replace(LOSS, adversarial_start=0)).eval()
    with torch.no_grad():
        (_, parts), _ = step(module)
    assert not parts.keys() & ADVERSARIAL and int(module.step) == 0


def test_the_perceptual_network_is_neither_trained_nor_saved():
    module = training()
    assert not any("frozen" in k or "network" in k for k in module.state_dict())
    network = module.frozen[0].network
    assert not {id(p) for p in network.parameters()} & {
        id(p) for p in module.parameters()
    }
    (loss, _), _ = step(module)
    loss.backward()
    assert all(p.grad is None for p in network.parameters())
    assert not network.training


def test_without_the_term_the_state_is_the_autoencoders_alone():
    module = training(VAELossConfig())
    names = [f"vae.{k}" for k in AutoencoderKL(SHAPE).state_dict()]
    assert list(module.state_dict()) == names


def test_a_copy_is_a_whole_one():
    """The average of the weights starts as a deep copy."""
    module = training(replace(LOSS, adversarial_start=0))
    twin = copy.deepcopy(module)
    (one, _), _ = step(module)
    (two, _), _ = step(twin)
    assert_close(one, two)
    assert int(twin.step) == 1 and twin.discriminator is not module.discriminator


# --- whole runs -----------------------------------------------------------------------


class Stop(Exception):
    pass


GAMES = {
    "plain": LOSS,
    "r1": replace(LOSS, r1_weight=1.0, r1_every=2),
    "spectral": replace(LOSS, discriminator=DiscriminatorConfig(norm="spectral")),
}


@pytest.mark.parametrize("game", GAMES)
def test_an_interrupted_run_ends_as_if_nothing_had_happened(game, tmp_path):
    """Also when the checkpoint, at step 3, is one with two players: which steps pay
    the penalty, the running means and the power iterations go on too."""
    recipe, last = replace(RECIPE, loss=GAMES[game]), 4
    whole = fit.train_vae(recipe)

    def on_log(line):
        if line["step"] == last:
            raise Stop

    with pytest.raises(Stop):
        fit.train_vae(recipe, tmp_path, on_log)
    started = []
    codec, log = fit.train_vae(recipe, tmp_path, on_start=started.append)
    assert started == [3]
    assert without_seconds(log) == without_seconds(whole[1])
    assert equal(codec, whole[0])
    playing = ["g_loss" in line for line in log]
    assert playing == [False] * 2 + [True] * 4
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["module"]
    assert set(saved) > {"step", "standing"} and int(saved["step"]) == 6
    assert any(name.startswith("discriminator.out.") for name in saved)


def test_the_saved_folder_is_a_codec_and_nothing_else(tmp_path):
    codec, _ = fit.train_vae(RECIPE, tmp_path)
    plain = LatentCodec(AutoencoderKL(SHAPE))
    assert codec.state_dict().keys() == plain.state_dict().keys()
    assert equal(LatentCodec.load(tmp_path), codec)


def test_half_precision(tmp_path):
    recipe = replace(RECIPE, train=replace(RECIPE.train, precision="bf16"))
    _, log = fit.train_vae(recipe)
    assert log[-1].keys() >= ADVERSARIAL | {"perceptual"}
    _, exact = fit.train_vae(RECIPE)
    for name in ("reconstruction", "perceptual", "d_real"):
        assert log[-1][name] == pytest.approx(exact[-1][name], rel=0.05, abs=0.02)


def test_a_diverging_run_keeps_the_last_good_checkpoint(tmp_path):
    wild = replace(RECIPE.train, learning_rate=1e6, checkpoint_every=1, steps=40)
    with pytest.raises(ValueError, match="not finite in 10 steps in a row") as caught:
        fit.train_vae(replace(RECIPE, train=wild), tmp_path)
    assert "\n" not in str(caught.value)
    saved = tmp_path / "checkpoint.pt"
    if saved.exists():
        weights = torch.load(saved, weights_only=True)["module"]
        assert all(bool(v.isfinite().all()) for v in weights.values())


# --- from a trained autoencoder -------------------------------------------------------


@pytest.fixture
def trained(tmp_path):
    torch.manual_seed(7)
    codec = LatentCodec(AutoencoderKL(SHAPE), torch.arange(4.0), torch.full((4,), 2.0))
    codec.save(tmp_path / "trained")
    return codec, str(tmp_path / "trained")


def test_a_run_starts_from_the_weights_of_another(trained):
    codec, folder = trained
    slow = replace(RECIPE.train, learning_rate=1e-12)
    found, _ = fit.train_vae(replace(RECIPE, init=folder, train=slow))
    assert_close(found.vae.state_dict(), codec.vae.state_dict(), atol=1e-9, rtol=0)


def test_a_frozen_encoder_keeps_the_latents(trained):
    codec, folder = trained
    found, log = fit.train_vae(replace(RECIPE, init=folder, freeze_encoder=True))
    assert equal(found.vae.encoder, codec.vae.encoder)
    assert not equal(found.vae.decoder, codec.vae.decoder)
    assert torch.equal(found.mean, codec.mean) and torch.equal(found.std, codec.std)
    assert log[-1].keys() >= ADVERSARIAL


def test_a_run_may_give_the_decoder_a_head(trained):
    codec, folder = trained
    slow = replace(RECIPE.train, learning_rate=1e-12)
    recipe = replace(RECIPE, init=folder, freeze_encoder=True, train=slow)
    found, log = fit.train_vae(replace(recipe, vae=replace(SHAPE, head_channels=8)))
    assert equal(found.vae.encoder, codec.vae.encoder)
    z = torch.randn(2, 4, 4, 4)
    assert_close(found.decode(z), codec.decode(z), atol=1e-5, rtol=1e-5)
    assert found.vae.config.head_channels == 8 and log[-1].keys() >= ADVERSARIAL


def test_a_finished_decoder_may_lose_its_checkerboard(trained):
    """Once, after the training: the same run without it ends with the same weights."""
    _, folder = trained
    recipe = replace(RECIPE, init=folder, vae=replace(SHAPE, head_channels=8))
    kept, _ = fit.train_vae(recipe)
    without, _ = fit.train_vae(replace(recipe, remove_checkerboard=True))
    assert not equal(without.vae.decoder, kept.vae.decoder)
    remove_checkerboard(kept.vae.decoder)
    assert equal(without.vae.decoder, kept.vae.decoder)


def test_a_checkerboard_is_removed_from_a_head_alone():
    with pytest.raises(ValueError, match="needs a head at full resolution"):
        replace(RECIPE, remove_checkerboard=True)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"vae": replace(SHAPE, latent_channels=8)},
            "init=.* has vae.latent_channels=4, and vae.latent_channels=8 was asked",
        ),
        (
            {"vae": replace(SHAPE, latent_channels=8, head_channels=8)},
            "init=.* has vae.latent_channels=4, and vae.latent_channels=8 was asked",
        ),
        ({"init": None}, "freeze_encoder=True without init would keep random"),
        ({"init": "/nowhere"}, "no model at '/nowhere'"),
        (
            {"size": 16, "loss": VAELossConfig(band_weight=1.0)},
            "a loss in bands wants .* sides of 17 or more",
        ),
        ({"size": 8}, "this discriminator wants .* sides of 12 or more"),
    ],
)
def test_a_start_that_does_not_fit_is_refused(trained, tmp_path, change, message):
    recipe = replace(RECIPE, init=trained[1], freeze_encoder=True)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        fit.train_vae(replace(recipe, **change), tmp_path / "new")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_a_damaged_start_is_refused_in_one_line(trained):
    path = f"{trained[1]}/config.json"
    with open(path) as file:
        config = json.load(file)
    config["vae"]["channels"] = [8, 8, 32, 32]
    with open(path, "w") as file:
        json.dump(config, file)
    with pytest.raises(ValueError, match="is damaged: they are not what was saved"):
        fit.train_vae(replace(RECIPE, init=trained[1]))


def test_another_start_is_another_run(trained, tmp_path):
    codec, folder = trained
    fit.train_vae(replace(RECIPE, init=folder), tmp_path / "out")
    with torch.no_grad():
        next(codec.vae.parameters()).add_(1)
    codec.save(folder)
    with pytest.raises(ValueError, match="holds a run with codec="):
        fit.train_vae(replace(RECIPE, init=folder), tmp_path / "out")


# --- the command line -----------------------------------------------------------------


@pytest.mark.parametrize(
    "options, message",
    [
        ("--loss.perceptual nonsense", "--loss.perceptual"),
        ("--loss.reconstruction l3", "--loss.reconstruction"),
        ("--loss.perceptual lpips-vgg", "vgg16-397923af.pth, which is not in"),
        ("--loss.perceptual_weight -1", "perceptual_weight=-1.0; give 0 or more"),
        ("--loss.adversarial_weight -1", "adversarial_weight=-1.0; give 0 or more"),
        ("--loss.adversarial_start -1", "adversarial_start=-1; give 0 or more"),
        ("--loss.kl_weight -1", "kl_weight=-1.0; give 0 or more"),
        ("--init /nowhere", "no model at '/nowhere'"),
        ("--freeze_encoder true", "freeze_encoder=True without init"),
        ("--size 24 --vae.downsampling 16", "give a multiple of 16"),
        ("--size 8 --loss.adversarial_weight 1", "sides of 12 or more"),
    ],
)
def test_a_mistake_gets_one_line(options, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    command = ["train-vae", "--preset", "smoke", "--length", "16", *options.split()]
    with pytest.raises(SystemExit) as stop:
        main([*command, "--out", str(tmp_path / "new")])
    out, err = capsys.readouterr()
    assert stop.value.code == 2 and out == ""
    assert message in err and err.count("\n") == 1
    assert err.startswith("ldm-tutorial: error: ")
    assert not (tmp_path / "new").exists()


def test_all_options_at_once(tmp_path, capsys):
    options = "--preset smoke --size 16 --length 16 --train.steps 3 "
    options += "--train.batch_size 4 --loss.perceptual scenenet "
    options += "--loss.adversarial_weight 0.5 --loss.adversarial_start 1"
    main(["train-vae", *options.split(), "--out", str(tmp_path / "x")])
    assert "psnr" in capsys.readouterr().out
    lines = (tmp_path / "x" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1]).keys() >= ADVERSARIAL | {"perceptual"}
