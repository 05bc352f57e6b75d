"""Devices without the device: parameters on a CUDA device that is only pretended.

Under ``FakeTensorMode`` shapes and devices are propagated and no number is computed. A
CPU tensor that meets a CUDA one raises there, and so does whatever asks a tensor for
its value, for which a GPU would have to be waited for.
"""

from contextlib import contextmanager

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ldm_tutorial.codec import LatentCodec, PixelCodec
from ldm_tutorial.diffusion import Objective
from ldm_tutorial.dit import DiT, DiTConfig
from ldm_tutorial.noise import normal_like
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.samplers import SAMPLERS, last
from ldm_tutorial.training.ema import EMA
from ldm_tutorial.training.losses import VAELossConfig
from ldm_tutorial.training.tasks import (
    CachedLatentTraining,
    JointTraining,
    VAETraining,
)
from ldm_tutorial.unet import UNet, UNetConfig
from ldm_tutorial.vae import AutoencoderKL, VAEConfig

SMALL = VAEConfig(channels=(8, 8, 16, 16))


@contextmanager
def pretended_cuda():
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"):
        yield


def unet(channels=4, classes=3):
    config = UNetConfig(channels, (32, 32), num_res_blocks=1, num_classes=classes)
    return UNet(config)


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


@pytest.mark.parametrize("contrast_weight", [0.0, 1.0])
def test_a_step_of_the_autoencoder(contrast_weight):
    loss = VAELossConfig(contrast_weight=contrast_weight, band_weight=1.0)
    with pretended_cuda():
        loss_on_cuda(VAETraining(AutoencoderKL(SMALL), loss), *batch())


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


@pytest.mark.parametrize("kind", ["detached", "joint", "joint-normalised"])
def test_a_step_of_joint_training(kind):
    objective = asked()
    with pretended_cuda():
        task = JointTraining(model(objective), kind, VAELossConfig())
        loss_on_cuda(task, *batch())


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("kind", ["unet", "dit"])
def test_sampling(name, kind):
    objective = asked()
    with pretended_cuda():
        small = DiTConfig(4, 2, 32, 1, 2, num_classes=3)
        latent = model(objective, denoiser=DiT(small) if kind == "dit" else unet())
        y = torch.tensor([0, 1])
        denoiser = latent._in_its_dtype
        z_T = torch.zeros(2, *latent.codec.latent_shape(32))

        def guided(z_t, t):
            return 2 * denoiser(z_t, t, y) - denoiser(z_t, t)

        arrays = SAMPLERS[name](guided, latent.schedule, z_T, steps=4)
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
