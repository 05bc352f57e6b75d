"""The exercise on the training objective: a loss whose inner workings are watched."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ldm_tutorial import diffusion
from ldm_tutorial.schedule import NoiseSchedule
from ldm_tutorial.teach.task import Case, Exercise
from ldm_tutorial.teach.tasks.deterministic import MEAN, SPREAD, exact
from ldm_tutorial.teach.tasks.inputs import noised, randn


def diffusion_loss(
    denoiser: Callable[[Tensor, Tensor], Tensor],
    schedule: NoiseSchedule,
    z_0: Tensor,
    generator: torch.Generator | None = None,
) -> Tensor:
    return diffusion.diffusion_loss(denoiser, schedule, z_0, generator=generator)


def silent(z_t: Tensor, t: Tensor) -> Tensor:
    """A denoiser that sees no noise: its loss is the variance of the noise, 1."""
    return torch.zeros_like(z_t)


def least(schedule: NoiseSchedule, spread: float = SPREAD) -> float:
    """The loss that the exact denoiser of N(mean, spread²) is left with: the variance
    of the noise that z_t does not tell."""
    a = schedule.alpha_bar.double()
    return float((a * spread**2 / (a * spread**2 + 1 - a)).mean())


def gaussian(n: int, seed: int = 1) -> Tensor:
    return MEAN + SPREAD * randn(seed, n, 1, 3, 2)


def with_exact(schedule: Callable[[], NoiseSchedule]):
    return lambda: (exact(schedule()), schedule(), gaussian(8000))


class Watch:
    """A denoiser that writes down what it is shown and answers with zeros."""

    def __init__(self):
        self.z_t: list[Tensor] = []
        self.t: list[Tensor] = []

    def __call__(self, z_t: Tensor, t: Tensor) -> Tensor:
        if not isinstance(t, Tensor) or t.shape != (len(z_t),):
            got = tuple(t.shape) if isinstance(t, Tensor) else repr(t)
            raise ValueError(
                f"the denoiser was given t of shape {got}; it wants one time for each "
                f"of the {len(z_t)} images, shape ({len(z_t)},)"
            )
        self.z_t.append(z_t.detach().clone())
        self.t.append(t.detach().clone())
        return torch.zeros_like(z_t)


def watched(f, T: int, n: int, z_0: Tensor | None = None, seed: int = 1):
    """(what the denoiser saw, the loss) of a call on a short schedule."""
    watch, schedule = Watch(), NoiseSchedule.linear(T)
    z_0 = torch.zeros(n, 1, 2, 2) if z_0 is None else z_0
    loss = f(watch, schedule, z_0, torch.Generator().manual_seed(seed))
    return watch, loss


def one_call(f) -> bool:
    watch, _ = watched(f, 50, 8)
    return len(watch.t) == 1


def whole_numbers(f) -> bool:
    watch, _ = watched(f, 50, 8)
    return watch.t[0].dtype == torch.int64


def every_time(f) -> bool | str:
    watch, _ = watched(f, 4, 400)
    found = sorted(watch.t[0].unique().tolist())
    if len(found) == 1:
        return "one time was drawn for the whole batch; each latent needs its own"
    if found[0] > 0:
        return "time 0 is never drawn; torch.randint(T, ...) begins with 0"
    if found[-1] < 3:
        return (
            "the last time, T - 1, is never drawn; the upper end of torch.randint is "
            "left out already"
        )
    return found == [0, 1, 2, 3]


def even_times(f) -> bool | str:
    watch, _ = watched(f, 1000, 4000)
    t = watch.t[0].double()
    if len(t.unique()) == 1:
        return "one time was drawn for the whole batch; each latent needs its own"
    return abs(float(t.mean()) - 499.5) < 25 and abs(float(t.std()) - 288.7) < 15


def noise_is_the_target(f) -> bool:
    """With z_0 = 0 the noise can be read off z_t, and the loss is its mean square."""
    watch, loss = watched(f, 100, 64)
    a = NoiseSchedule.linear(100).at(watch.t[0], watch.z_t[0])
    eps = watch.z_t[0] / (1 - a).sqrt()
    return abs(float(loss) - float(eps.square().mean())) < 1e-3


def own_noise(f) -> bool | str:
    """Channels, rows and columns of one latent have different noise."""
    watch, _ = watched(f, 100, 16, torch.zeros(16, 3, 4, 4))
    a = NoiseSchedule.linear(100).at(watch.t[0], watch.z_t[0])
    if float((watch.z_t[0] / (1 - a).sqrt()).std(0).mean()) < 0.05:
        return "one array of noise was drawn for the whole batch"
    return all(float(watch.z_t[0].std(d).mean()) > 0.05 for d in (1, 2, 3))


def own_latents(f) -> bool:
    """With hardly any noise each z_t is nearly its own z_0."""
    watch, z_0 = Watch(), randn(9, 6, 2, 2, 2)
    f(watch, NoiseSchedule(torch.tensor([0.9999, 0.9998])), z_0)
    return float((watch.z_t[0] - z_0).abs().max()) < 0.2


def seed_repeats(f) -> bool | str:
    one, again, other = (watched(f, 100, 16, seed=seed)[0] for seed in (1, 1, 2))
    times = torch.equal(one.t[0], again.t[0])
    same = times and torch.equal(one.z_t[0], again.z_t[0])
    if not same:
        what = "noise does" if times else "times do"
        return f"the {what} not come from `generator`: hand it to the call that draws"
    new = torch.equal(one.t[0], other.t[0]) or torch.equal(one.z_t[0], other.z_t[0])
    return not new


def fresh_draws(f) -> bool:
    generator, schedule = torch.Generator().manual_seed(1), NoiseSchedule.linear(100)
    watch = Watch()
    for _ in "ab":
        f(watch, schedule, torch.zeros(16, 1, 2, 2), generator)
    return not torch.equal(*watch.z_t) and not torch.equal(*watch.t)


def without_generator(f) -> bool:
    watch = Watch()
    for _ in "ab":
        f(watch, NoiseSchedule.linear(100), torch.zeros(16, 1, 2, 2))
    return not torch.equal(*watch.z_t)


def weights_hear_it(f) -> bool:
    w = torch.tensor(0.5, requires_grad=True)
    z_0, schedule = gaussian(16), NoiseSchedule.linear(50)
    loss = f(lambda z_t, t: w * z_t, schedule, z_0, torch.Generator().manual_seed(3))
    (grad,) = torch.autograd.grad(loss, w)
    return bool(grad.isfinite()) and float(grad.abs()) > 0


def slip(kind: str = ""):
    """The loss with a slip in it."""

    def f(denoiser, schedule, z_0, generator=None):
        T = len(schedule)
        t = torch.randint(T, (len(z_0),), generator=generator)
        eps = torch.randn(z_0.shape, generator=generator)
        if kind == "uniform noise":
            eps = torch.rand(z_0.shape, generator=generator)
        a = schedule.at(t, like=z_0)
        z_t = noised(a, z_0, eps)
        if kind == "roots missing":
            z_t = a * z_0 + (1 - a) * eps
        if kind == "other noise":
            eps = torch.randn(z_0.shape, generator=generator)
        seen = z_0 if kind == "clean" else z_t
        error = denoiser(seen, t) - (z_0 if kind == "x0" else eps)
        if kind == "absolute":
            return error.abs().mean()
        if kind == "root":
            return error.square().mean().sqrt()
        if kind == "sum":
            return error.square().sum()
        if kind == "per image":
            return error.square().flatten(1).mean(1)
        if kind == "sum over images":
            return error.square().flatten(1).sum(1).mean()
        return error.square().mean()

    return f


LONG, SHORT = NoiseSchedule.linear, partial(NoiseSchedule.cosine, 200)

DIFFUSION_LOSS = Exercise(
    name="diffusion_loss",
    chapter=3,
    difficulty=3,
    trains="the objective as a program: what is drawn, what is shown, what is compared",
    title="the loss of a denoiser",
    prompt=(
        "Write the simple loss, from clean latents `z_0` (B, C, h, w) to one number. "
        "Draw a time for each of them, uniformly from all `len(schedule)` times, and "
        "noise; show `denoiser(z_t, t)` the noised latents and the times, int64 (B,); "
        "compare its guess with the noise. Both draws come from `generator` "
        "(`torch.randint` and `torch.randn` take it), so that a seed repeats the "
        "loss. The checker watches what your loss shows the denoiser, and knows the "
        "loss that remains for a perfect one."
    ),
    reference=diffusion_loss,
    lines="5-6 lines",
    cases=(
        Case(
            lambda: (silent, LONG(), randn(2, 2000, 4, 4, 4)),
            expected=1.0,
            note="a denoiser that always answers 0, and 2,000 random latents",
            rtol=0.0,
            atol=0.02,
        ),
        Case(
            with_exact(LONG),
            expected=least(LONG()),
            note="the exact denoiser of Gaussian data, linear schedule, 8,000 latents",
            rtol=0.0,
            atol=0.02,
        ),
        Case(
            with_exact(SHORT),
            expected=least(SHORT()),
            note="the exact denoiser of Gaussian data, a cosine schedule of 200 times",
            rtol=0.0,
            atol=0.025,
        ),
    ),
    properties=(
        ("The denoiser should be called once a batch.", one_call),
        ("The times should be whole numbers, int64.", whole_numbers),
        (
            "Every time from 0 to T - 1 should turn up, the first and the last too.",
            every_time,
        ),
        ("All times should be equally likely, each drawn by itself.", even_times),
        (
            "The noise that the guess is compared with should be the noise in z_t.",
            noise_is_the_target,
        ),
        ("Each element needs noise of its own, also within a latent.", own_noise),
        (
            "Where a schedule adds hardly any noise, each z_t should nearly be its own "
            "z_0.",
            own_latents,
        ),
        (
            "The same seed of `generator` should give the same loss, and another "
            "seed another one: both draws have to come from it.",
            seed_repeats,
        ),
        ("Every call should draw new times and new noise.", fresh_draws),
        (
            "It should work without a generator, too (generator=None).",
            without_generator,
        ),
        (
            "The gradient should reach the denoiser's weights: return a tensor, and "
            "cut nothing off.",
            weights_hear_it,
        ),
    ),
    hints=(
        "Four things happen: times are drawn, noise is drawn, your add_noise mixes, "
        "the denoiser guesses. Name the four results t, eps, z_t and guess.",
        "torch.randint(len(schedule), (len(z_0),), generator=generator) is a time for "
        "each latent. add_noise(z_0, eps, t, schedule) is yours already.",
        "What is left is one comparison: the squared difference of two of the four, "
        "averaged over everything.",
    ),
    misconceptions={
        "x0": (
            slip("x0"),
            "the guess was compared with z_0; this denoiser guesses the noise",
        ),
        "clean": (
            slip("clean"),
            "the denoiser was shown the clean latents; it has to see z_t",
        ),
        "other noise": (
            slip("other noise"),
            "the guess was compared with other noise than that in z_t; draw it once",
        ),
        "absolute": (slip("absolute"), "the error has to be squared"),
        "root": (
            slip("root"),
            "a root was taken; the loss is the mean square itself",
        ),
        "sum": (
            slip("sum"),
            "the squares were summed over everything; take their mean, or the loss "
            "grows with the batch",
        ),
        "sum over images": (
            slip("sum over images"),
            "the squares of each image were summed; take the mean over its elements, "
            "too",
        ),
        "per image": (
            slip("per image"),
            "this is a loss for each image; one number is asked for, their mean",
        ),
        "uniform noise": (
            slip("uniform noise"),
            "the noise came from rand, which is uniform; randn gives normal noise",
        ),
        "roots missing": (
            slip("roots missing"),
            "z_t was mixed without the square roots of the forward equation",
        ),
    },
    source=(diffusion.diffusion_loss, diffusion.random_times),
)
