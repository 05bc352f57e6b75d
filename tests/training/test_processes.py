"""Processes that train together take the course of one on the same batches."""

from dataclasses import replace

import pytest
import torch
from processes import in_two_processes
from tiny_recipes import LDM, VAE
from torch import nn
from torch.testing import assert_close
from torch.utils.data import TensorDataset

from ldm_tutorial import LatentCodec, LatentDiffusion, PixelCodec, UNet, UNetConfig
from ldm_tutorial.diffusion import random_times
from ldm_tutorial.dit import DiT, DiTConfig
from ldm_tutorial.flow import FlowMatching
from ldm_tutorial.noise import SharedGenerator, drawn, normal_like
from ldm_tutorial.training.config import TrainConfig
from ldm_tutorial.training.fit import train_ldm, train_vae
from ldm_tutorial.training.loop import seed_step, train
from ldm_tutorial.training.losses import VAELossConfig
from ldm_tutorial.training.processes import Processes, launched
from ldm_tutorial.training.recipes import build_vae

# AdamW turns a gradient that is nothing but rounding into a step of full length, so the
# step is short: other noise would still move weights by some 1e-4.
TRAIN = TrainConfig(
    steps=4,
    batch_size=8,
    learning_rate=1e-4,
    warmup_steps=2,
    log_every=1,
    accumulate=2,
)
CRITIC = VAELossConfig(
    adversarial_weight=0.5, adversarial_start=2, r1_weight=1.0, r1_every=2
)
SHARED_KINDS = ("detached", "joint", "joint-normalised", "joint-aligned")


def images(n: int, seed: int = 1):
    """Images of 16 x 16 pixels that differ in contrast, and three classes."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, 16, 16, generator=generator).tanh()
    return TensorDataset(
        x * torch.linspace(0.2, 1, n).view(-1, 1, 1, 1), torch.arange(n) % 3
    )


def codec() -> LatentCodec:
    torch.manual_seed(0)
    return LatentCodec(build_vae(VAE), 0.1, 0.8)


def ldm(kind: str = "frozen", pixels: bool = False):
    recipe = replace(LDM, autoencoder=kind, train=TRAIN)
    held_out = images(
        13, seed=2
    )  # the last batch has one: not every process has a share
    model, log = train_ldm(
        recipe, None if pixels else codec(), dataset=images(24), validate=held_out
    )
    return model, log


def vae(loss: VAELossConfig):
    recipe = replace(VAE, loss=loss, train=TRAIN)
    return train_vae(recipe, dataset=images(24), validate=images(13, seed=2))


def own(denoiser: nn.Module, objective=None):
    model = LatentDiffusion(
        PixelCodec(), denoiser, objective=objective, image_size=16, classes="abc"
    )
    log = train(model, images(24), TRAIN, validate=images(13, seed=2))
    return model, log


def unet(**options) -> UNet:
    torch.manual_seed(0)
    return UNet(
        UNetConfig(
            in_channels=3, channels=(32,), num_res_blocks=1, num_classes=3, **options
        )
    )


def dit() -> DiT:
    torch.manual_seed(0)
    return DiT(DiTConfig(in_channels=3, patch_size=4, num_classes=3, width=32, depth=1))


KINDS = {
    "vae": lambda: vae(VAELossConfig()),
    "vae with a critic": lambda: vae(CRITIC),
    "latents": ldm,
    "pixels": lambda: ldm(pixels=True),
    "dropout": lambda: own(unet(dropout=0.3)),
    "flow": lambda: own(unet(), FlowMatching()),
    "dit": lambda: own(dit()),
} | {kind: lambda kind=kind: ldm(kind) for kind in SHARED_KINDS}


def course(kind: str):
    """Weights and log of a short training."""
    model, log = KINDS[kind]()
    lines = [{k: v for k, v in line.items() if k != "seconds"} for line in log]
    return {k: v.clone() for k, v in model.state_dict().items()}, lines


def courses():
    return {kind: course(kind) for kind in KINDS}


def agree(found, wanted, kind: str = "") -> None:
    """Weights and every number of the log within 1e-5."""
    assert [list(line) for line in found[1]] == [list(line) for line in wanted[1]]
    for one, two in zip((*found[1], found[0]), (*wanted[1], wanted[0]), strict=True):
        assert_close(one, two, atol=1e-5, rtol=1e-5, msg=lambda text: f"{kind}: {text}")


FORKS = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork")


@FORKS
@pytest.mark.slow
def test_two_processes_take_the_course_of_one_in_every_kind_of_training(tmp_path):
    one, two = in_two_processes(courses, tmp_path)
    for kind in KINDS:
        wanted = course(kind)
        agree(one[kind], wanted, kind)
        agree(two[kind], wanted, kind)


class Toy(nn.Module):
    """A linear model with noise and dropout."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 4))

    def forward(self, x, *, generator):
        noisy = x + 0.3 * normal_like(x, generator)
        error = (self.net(noisy) - x).square().mean(1)
        weight = drawn(torch.rand, (len(x),), generator, x.device)
        return (weight * error).mean(), {"error": error.detach().mean()}


TOY = TrainConfig(
    steps=12,
    batch_size=8,
    log_every=1,
    accumulate=2,
    checkpoint_every=4,
    warmup_steps=2,
)


class Stopped(Exception):
    pass


def toy_course(out: str = "", stop: int = 99):
    """Weights and log of a toy's training, which may be stopped after a step."""
    items = TensorDataset(
        torch.randn(40, 4, generator=torch.Generator().manual_seed(3))
    )

    def on_log(line):
        if line["step"] >= stop:
            raise Stopped

    model = Toy()
    log = train(model, items, TOY, out or None, on_log)
    lines = [{k: v for k, v in line.items() if k != "seconds"} for line in log]
    return dict(model.state_dict()), lines


@FORKS
def test_two_processes_go_on_where_one_stopped_as_if_it_were_one(tmp_path):
    with pytest.raises(Stopped):
        toy_course(str(tmp_path), 6)
    assert (tmp_path / "checkpoint.pt").exists()
    wanted = toy_course()
    for found in in_two_processes(toy_course, tmp_path, str(tmp_path)):
        agree(found, wanted)
    assert not torch.allclose(wanted[0]["net.0.weight"], Toy().net[0].weight)


def shares(world: int = 2):
    """The generators of a batch's processes, all seeded for one step."""
    found = [SharedGenerator("cpu", rank, world) for rank in range(world)]
    for rank, generator in enumerate(found):
        seed_step(generator, 5, 3, rank)
    return found


def one_generator() -> torch.Generator:
    generator = torch.Generator()
    seed_step(generator, 5, 3, 0)
    return generator


@pytest.mark.parametrize("world", [2, 3])
def test_the_noise_of_a_batch_is_the_same_however_it_is_shared(world):
    whole = torch.zeros(6, 2, 3)
    alone = one_generator()
    wanted = [
        normal_like(whole, alone),
        random_times(whole, 1000, alone),
        random_times(whole, 1000, alone, (0.0, 1.0)),
        FlowMatching().random_times(whole, alone),
    ]
    for rank, generator in enumerate(shares(world)):
        mine = whole[rank::world]
        found = [
            normal_like(mine, generator),
            random_times(mine, 1000, generator),
            random_times(mine, 1000, generator, (0.0, 1.0)),
            FlowMatching().random_times(mine, generator),
        ]
        for a, b in zip(found, wanted, strict=True):
            assert torch.equal(a, b[rank::world])


def test_unequal_shares_of_a_batch_have_its_noise_too():
    wanted = normal_like(torch.zeros(5, 2), one_generator())
    for rank, generator in enumerate(shares()):
        generator.count = 5
        found = normal_like(torch.zeros(3 - rank, 2), generator)
        assert torch.equal(found, wanted[rank::2])


def test_what_a_module_draws_by_itself_differs_between_processes():
    one, two = (torch.randn(4, generator=generator) for generator in shares())
    assert not torch.equal(one, two)


def test_dropout_hides_the_same_of_a_batch_however_it_is_shared():
    layer, x = nn.Dropout(0.4), torch.randn(6, 5)
    torch.manual_seed(7)
    wanted = layer(x)
    module = nn.ModuleList([layer, nn.Linear(2, 2)])
    for rank in range(2):
        with Processes(rank, 2).shared_dropout(module) as m:
            m.manual_seed(7)
            assert_close(layer(x[rank::2]), wanted[rank::2])
            layer.eval()
            assert torch.equal(layer(x), x)
            layer.train()
    assert "forward" not in vars(layer)


@pytest.mark.parametrize(
    "environment, message",
    [
        ({"WORLD_SIZE": "2", "RANK": "2"}, "RANK=2 of WORLD_SIZE=2; unset both"),
        ({"WORLD_SIZE": "0", "RANK": "0"}, "RANK=0 of WORLD_SIZE=0; unset both"),
        ({"WORLD_SIZE": "two", "RANK": "0"}, "WORLD_SIZE='two' are no numbers"),
        ({"WORLD_SIZE": "2"}, "without MASTER_ADDR, MASTER_PORT, RANK; unset it"),
        (
            {"WORLD_SIZE": "2", "RANK": "1"},
            "without MASTER_ADDR, MASTER_PORT; unset it",
        ),
    ],
)
def test_an_environment_of_no_process_is_refused(environment, message, monkeypatch):
    for name in ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        toy_course()


@pytest.mark.parametrize(
    "environment",
    [
        {"RANK": "1"},  # some schedulers set it for all they start
        {"RANK": "3", "LOCAL_RANK": "3"},
        {"SLURM_PROCID": "1", "SLURM_NTASKS": "2"},
        {
            "ACCELERATE_MIXED_PRECISION": "bf16",
            "ACCELERATE_USE_CPU": "1",
            "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "7",
        },
    ],
)
def test_other_variables_change_nothing(environment, monkeypatch, tmp_path):
    wanted = toy_course()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert launched() == Processes(0, 1)
    found = toy_course(str(tmp_path))
    assert found[1] == wanted[1]
    assert all(torch.equal(found[0][k], v) for k, v in wanted[0].items())
    names = ("checkpoint.pt", "metrics.jsonl")
    assert all((tmp_path / name).exists() for name in names)
