"""Parts of one's own: each comes back from the disk as what it is, or is refused in one
line, and what does not fit is noticed where it is handed over."""

from dataclasses import asdict, dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from ldm_tutorial.codec import PixelCodec
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.samplers import ddim
from ldm_tutorial.schedule import NoiseSchedule, ScheduleConfig
from ldm_tutorial.unet import UNet, UNetConfig

shrunk = partial(torch.mul, 0.1)


class Shuffle(nn.Module):
    """A codec with a config of JSON values."""

    kind, clip = "Shuffle", 1.0

    def __init__(self, factor=2):
        super().__init__()
        self.config = {"factor": factor}
        self.factor = factor

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def latent_shape(self, size):
        return (3 * self.factor**2, size // self.factor, size // self.factor)

    def encode(self, x, generator=None):
        return nn.functional.pixel_unshuffle(x, self.factor)

    def decode(self, z):
        return nn.functional.pixel_shuffle(z, self.factor)


@dataclass(frozen=True)
class Shrink:
    """A denoiser that is no module, of values that JSON turns into lists."""

    kind: ClassVar[str] = "Shrink"
    by: tuple[float, ...] = (0.1, 0.2)

    def __call__(self, z_t, t, y=None):
        return self.by[0] * z_t

    config = property(asdict)

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@dataclass(frozen=True)
class MeanAbsolute:
    """An objective: predict z_0, at one time, by the mean absolute error."""

    kind: ClassVar[str] = "MeanAbsolute"
    prediction_type: ClassVar[str] = "x0"
    label_dropout: float = 0.1

    @property
    def noise_schedule(self):
        return NoiseSchedule.from_config(ScheduleConfig())

    def loss(self, denoiser, z_0, *, generator=None):
        return (denoiser(z_0, torch.zeros(len(z_0)).long()) - z_0).abs().mean()

    config = property(asdict)

    @classmethod
    def from_config(cls, config):
        return cls(**config)


OWN = {part.kind: part for part in (Shuffle, Shrink, MeanAbsolute)}


def model(codec=None, denoiser=None, **options):
    codec = codec or PixelCodec()
    return LatentDiffusion(codec, denoiser or Shrink(), image_size=8, **options)


def test_every_part_comes_back_as_what_it_is(tmp_path):
    saved = model(Shuffle(4), Shrink((0.5, 1.0)), objective=MeanAbsolute(0.2))
    saved.save(tmp_path)
    read = LatentDiffusion.load(tmp_path, kinds=OWN)
    assert read.codec.config == {"factor": 4}
    assert read.denoiser == Shrink((0.5, 1.0))
    assert read.objective == MeanAbsolute(0.2)
    assert read.sample(2, steps=2).shape == (2, 3, 8, 8)
    with pytest.raises(ValueError, match="kind 'Shuffle', which is unknown here"):
        LatentDiffusion.load(tmp_path)


class Heir(UNet):
    """What it inherits, its kind too, says nothing of what it changes."""

    def forward(self, z_t, t, y=None):
        return 2 * super().forward(z_t, t, y)


class Namesake(Shuffle):
    kind = "PixelCodec"


class WithoutWayBack(Shuffle):
    kind = "WithoutWayBack"
    from_config = None


def configured(config):
    part = Shuffle()
    part.config = config
    return part


@pytest.mark.parametrize(
    "part, complaint",
    [
        (Heir(UNetConfig(3, (32,), 1)), "would come back as another UNet; give Heir"),
        (Namesake(), "would come back as another PixelCodec; give Namesake"),
        (WithoutWayBack(), "a class method `from_config`"),
        (configured({"factor": np.int64(2)}), "not made of JSON values: .*int64"),
        (configured(3), "not made of JSON values"),
        (configured({"factor": 2, "kind": "x"}), "has an entry 'kind'"),
        (shrunk, "a partial, cannot be saved"),
        (lambda z_t, t: z_t, "a function, cannot be saved"),
    ],
)
def test_what_would_come_back_as_something_else_is_not_saved(part, complaint, tmp_path):
    whole = model(part) if hasattr(part, "encode") else model(denoiser=part)
    with pytest.raises(TypeError, match=complaint) as refused:
        whole.save(tmp_path / "model")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    "answer, complaint",
    [
        (lambda z_t: z_t[:, :1], r"\[2, 1, 8, 8\]\) for arrays of shape \(2, 3, 8, 8"),
        (lambda z_t: torch.cat([z_t, z_t], 1), r"\[2, 6, 8, 8\]"),
        (lambda z_t: z_t.mean(), r"returned torch.Size\(\[\]\)"),
        (lambda z_t: (z_t,), "returned tuple"),
    ],
)
def test_a_prediction_of_another_shape_is_not_stretched(answer, complaint):
    mistaken = model(denoiser=lambda z_t, t: answer(z_t))
    with pytest.raises(ValueError, match=complaint):
        mistaken(torch.zeros(2, 3, 8, 8))
    with pytest.raises(ValueError, match=complaint):
        mistaken.sample(2, steps=1)


class Still:
    """A sampler may be any callable, and takes the options that it names."""

    def __call__(self, denoiser, schedule, z_T, *, steps, prediction_type):
        assert (steps, prediction_type) == (3, "eps")
        yield z_T


def test_samplers_of_every_sort():
    z_T = torch.rand(2, 3, 8, 8)
    draw = partial(model().sample, z_T=z_T, steps=3)
    torch.testing.assert_close(draw(sampler=Still()), z_T)
    listed = draw(sampler=lambda denoiser, schedule, z_T, steps: [z_T, z_T / 2])
    torch.testing.assert_close(listed, z_T / 2)
    halfway = partial(ddim, eta=0.5, generator=None)
    assert draw(sampler=halfway).isfinite().all()


@pytest.mark.parametrize(
    "found, complaint",
    [
        (torch.zeros(2, 3, 8, 8), "gave a Tensor; let it yield"),
        (None, "gave a NoneType; let it yield"),
        (iter(()), "gave a tuple_iterator; let it yield"),
    ],
)
def test_a_sampler_that_yields_nothing_is_refused(found, complaint):
    with pytest.raises(TypeError, match=complaint):
        model().sample(2, sampler=lambda *_, **__: found)


def test_a_sampler_that_knows_no_eta_is_not_given_one():
    def still(denoiser, schedule, z_T, *, steps):
        yield z_T

    with pytest.raises(ValueError, match=r"eta=0.5 is an option of ddim.*still"):
        model().sample(2, sampler=still, eta=0.5)
    with pytest.raises(ValueError, match="sampler 3 is unknown"):
        model().sample(2, sampler=3)


@pytest.mark.parametrize(
    "y",
    [
        np.array(["a", "b"]),
        np.array([0, 1]),
        [np.str_("a"), 1],
        [torch.tensor(0), np.int64(1)],
        range(2),
        torch.tensor([0, 1], dtype=torch.uint8),
    ],
)
def test_classes_of_every_sort(y):
    assert model(classes=("a", "b"))._labels(2, y).tolist() == [0, 1]


@pytest.mark.parametrize("y", [{"a": 1}, {0, 1}, [None, 1], object(), [b"a", b"b"]])
def test_classes_of_no_sort(y):
    with pytest.raises(TypeError, match=r"^classes of type \w+ were given; give whole"):
        model(classes=("a", "b")).sample(2, y=y)
