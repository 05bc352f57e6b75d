"""Devices without the device: parameters on a CUDA device that is only pretended.

Under ``FakeTensorMode`` shapes and devices are propagated and no number is computed. A
CPU tensor that meets a CUDA one raises there, and so does whatever asks a tensor for
its value, for which a GPU would have to be waited for.
"""

from contextlib import contextmanager
from dataclasses import replace
from typing import Any, get_args
from unittest.mock import patch

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ldm_tutorial.codec import LatentCodec, PixelCodec
from ldm_tutorial.diffusion import Objective
from ldm_tutorial.dit import DiT, DiTConfig
from ldm_tutorial.flow import FlowMatching
from ldm_tutorial.landscapes.scenenet import SceneNet, SceneTraining
from ldm_tutorial.noise import normal_like
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.samplers import SAMPLERS, find_sampler, last
from ldm_tutorial.training.discriminator import DiscriminatorConfig
from ldm_tutorial.training.distillation import Distillation
from ldm_tutorial.training.ema import EMA
from ldm_tutorial.training.loop import trainable
from ldm_tutorial.training.losses import VAELossConfig
from ldm_tutorial.training.recipes import Autoencoder
from ldm_tutorial.training.tasks import CachedLatentTraining, JointTraining, VAETraining
from ldm_tutorial.unet import UNet, UNetConfig
from ldm_tutorial.vae import AutoencoderKL, VAEConfig

SMALL = VAEConfig(channels=(8, 8, 16, 16))

# The lowest torch asks for a driver where the others pretend.
OLD = torch.__version__.startswith("2.9.")
pytestmark = pytest.mark.skipif(OLD, reason="needs a newer torch")


@contextmanager
def pretended_cuda():
    """The backward pass of a pretended device, which autograd's engine does not know,
    is pretended too: gradients have the shape, and lie where the inputs and outputs
    meet."""
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        torch.device("cuda"),
        patch("torch.autograd.grad", slopes),
        patch("torch.nn.Module.to", stays),
    ):
        yield


def slopes(outputs, inputs, **_):
    inputs = inputs if isinstance(inputs, tuple | list) else (inputs,)
    return tuple(outputs * x for x in inputs)


def stays(module, device):
    """``Module.to`` cannot replace pretended tensors; none may have to move."""
    places = {p.device for p in module.parameters()}
    assert places == {torch.device(device)}, f"{module} lies on {places}"
    return module


def backward(module, loss):
    """Gradients of what is trained, which a pretended loss reaches."""
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.grad = (loss * parameter).detach()


def unet(channels=4, classes=3):
    config = UNetConfig(channels, (32, 32), num_res_blocks=1, num_classes=classes)
    return UNet(config)


def denoiser(kind):
    small = DiTConfig(4, 2, 32, 1, 2, num_classes=3)
    return DiT(small) if kind == "dit" else unet()


@pytest.fixture
def scenenet(monkeypatch):
    """In place of the shipped network, whose file cannot be read under the mode, one
    that is made there."""
    monkeypatch.setattr(SceneNet, "load", lambda name: SceneNet())


def asked(**fields):
    """An objective whose table of noise levels is made of numbers: on the CPU."""
    objective = Objective(**fields)
    assert len(objective.noise_schedule) == 1000
    return objective


def model(objective, codec=None, denoiser=None):
    codec = codec or LatentCodec(AutoencoderKL(SMALL))
    channels = codec.latent_shape(32)[0]
    return LatentDiffusion(
        codec,
        denoiser or unet(channels),
        objective=objective,
        image_size=32,
        classes=("a", "b", "c"),
    )


def batch():
    return torch.zeros(4, 3, 32, 32), torch.zeros(4, dtype=torch.int64)


def loss_on_cuda(module, *arguments):
    """The loss of a training step, which is where it should be."""
    loss, parts = module(*arguments)
    assert loss.device.type == "cuda" and loss.shape == ()
    assert all(value.device.type == "cuda" for value in parts.values())
    return loss


def test_a_tensor_that_was_forgotten_on_the_cpu_is_found():
    """The test of the tests."""
    forgotten, objective = torch.ones(4, 3, 32, 32), asked()
    with pytest.raises(RuntimeError, match="device"), pretended_cuda():
        loss_on_cuda(model(objective), forgotten, batch()[1])


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"contrast_weight": 1.0, "band_weight": 1.0, "reconstruction": "l2"},
        {"perceptual": "scenenet"},
        {"equivariance_weight": 1.0},
        {"alignment_weight": 1.0},
        {"adversarial_weight": 0.5, "r1_weight": 1.0},
        {"adversarial_weight": 0.5, "discriminator": DiscriminatorConfig(norm="none")},
    ],
    ids=[
        "plain",
        "contrast and bands",
        "perceptual",
        "equivariance",
        "alignment",
        "adversarial",
        "critic unbound",
    ],
)
@pytest.mark.parametrize("channels", [3, 1])
def test_a_step_of_the_autoencoder(fields, channels, scenenet):
    """Nothing asks the device for a number: not the adaptive weight, not the count of
    steps, not how the game stands."""
    if channels == 1 and {"perceptual", "alignment_weight"} & set(fields):
        pytest.skip("SceneNet sees colours")
    with pretended_cuda():
        vae = AutoencoderKL(replace(SMALL, in_channels=channels))
        task = VAETraining(vae, VAELossConfig(**fields))
        for _ in range(2):  # R1 is taken at the first step alone
            x = torch.zeros(4, channels, 32, 32)
            backward(task, loss_on_cuda(task, x, batch()[1]))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"prediction_type": "v", "min_snr_gamma": 5.0},
        {"prediction_type": "x0", "logit_normal": (0.0, 1.0)},
    ],
)
def test_a_step_of_the_diffusion_model(fields):
    one, two = asked(**fields), asked(**fields)
    with pretended_cuda():
        latent = model(one)
        loss_on_cuda(latent, *batch())
        moments = torch.zeros(4, 8, 4, 4)
        loss_on_cuda(CachedLatentTraining(latent), moments, batch()[1])
        loss_on_cuda(model(two, PixelCodec()), *batch())


@pytest.mark.parametrize("steps", [1, 4])
def test_a_step_of_a_distillation(steps):
    eps, v = asked(), asked(prediction_type="v")
    with pretended_cuda():
        task = Distillation(model(v), model(eps), steps)
        backward(task, loss_on_cuda(task, torch.zeros(4, 8, 4, 4), batch()[1]))


@pytest.mark.parametrize("kind", ["unet", "dit"])
@pytest.mark.parametrize("logit_normal", [None, (0.0, 1.0)])
def test_a_step_of_a_flow(kind, logit_normal):
    flow = FlowMatching(logit_normal=logit_normal, shift=2.0)
    with pretended_cuda():
        task = CachedLatentTraining(model(flow, denoiser=denoiser(kind)))
        loss_on_cuda(task, torch.zeros(4, 8, 4, 4), batch()[1])


def test_a_step_of_scenenet():
    with pretended_cuda():
        net = SceneNet()
        choices = torch.zeros(4, len(net.names), dtype=torch.int64)
        numbers = torch.zeros(4, net.numbers.out_features)
        masks = torch.zeros(4, net.where[0].out_channels, 32, 32)
        loss_on_cuda(SceneTraining(net), batch()[0], choices, numbers, masks, None)


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_the_optimizer_and_the_average_follow(clip):
    """A whole step after the loss, without a number asked for."""
    objective = asked()
    with pretended_cuda():
        latent = model(objective).requires_grad_(True)
        weights = trainable(latent)
        optimizer = torch.optim.AdamW(weights, betas=(0.9, 0.99), fused=True)
        ema = EMA(latent, 0.99)
        for _ in range(2):
            backward(latent, loss_on_cuda(latent, *batch()))
            if clip:
                torch.nn.utils.clip_grad_norm_(weights, clip)
            optimizer.step()
            ema.update()
        with ema.in_place():
            assert all(w.device.type == "cuda" for w in weights)


@pytest.mark.parametrize("kind", get_args(Autoencoder)[1:])
@pytest.mark.parametrize("perceptual", ["none", "scenenet"])
def test_a_step_of_joint_training(kind, perceptual, scenenet):
    objective = asked()
    with pretended_cuda():
        loss = VAELossConfig(perceptual=perceptual)
        task = JointTraining(model(objective), kind, loss)
        backward(task, loss_on_cuda(task, *batch()))


@pytest.mark.parametrize("name", [*SAMPLERS, "euler", "heun"])
@pytest.mark.parametrize("kind", ["unet", "dit"])
def test_sampling(name, kind):
    objective: Any = asked() if name in SAMPLERS else FlowMatching()
    sampler = find_sampler(name, objective, 0.0)
    with pretended_cuda():
        latent = model(objective, denoiser=denoiser(kind))
        y = torch.tensor([0, 1])
        predict = latent._in_its_dtype
        z_T = torch.zeros(2, *latent.codec.latent_shape(32))

        def guided(z_t, t):
            return 2 * predict(z_t, t, y) - predict(z_t, t)

        arrays = sampler(guided, latent.schedule, z_T, steps=4)
        x = latent.codec.decode(last(arrays))
        assert x.device.type == "cuda" and x.shape == (2, 3, 32, 32)


def test_noise_and_averages_follow_the_device():
    with pretended_cuda():
        network = unet()
        ema = EMA(network, 0.9)
        ema.update()
        assert all(a.device.type == "cuda" for a in ema.average)
        assert normal_like(torch.zeros(2, 3)).device.type == "cuda"


@pytest.mark.parametrize(
    "make, arguments",
    [
        (unet, (torch.zeros(2, 4, 8, 8), torch.tensor([1, 2]), torch.tensor([0, 3]))),
        (
            lambda: DiT(DiTConfig(4, 2, 32, 2, 2, num_classes=3)),
            (torch.zeros(2, 4, 8, 8), torch.tensor([1, 2]), torch.tensor([0, 3])),
        ),
        (lambda: AutoencoderKL(SMALL).encoder, (torch.zeros(2, 3, 32, 32),)),
        (lambda: AutoencoderKL(SMALL).decoder, (torch.zeros(2, 4, 4, 4),)),
    ],
    ids=["UNet", "DiT", "Encoder", "Decoder"],
)
def test_networks_are_one_graph(make, arguments):
    """``torch.export`` takes them whole, and ``torch.compile`` breaks nowhere."""
    torch.manual_seed(0)
    network = make().eval()
    with torch.no_grad():
        wanted = network(*arguments)
        exported = torch.export.export(network, arguments).module()(*arguments)
        compiled = torch.compile(network, fullgraph=True, backend="eager")(*arguments)
    torch.testing.assert_close(exported, wanted)
    torch.testing.assert_close(compiled, wanted)
