"""Kinds of slips that are named in any exercise, and what is not taken for one."""

import math

import pytest
import torch
import torch.nn.functional as F

from ldm_tutorial.teach.exercises import EXERCISES
from ldm_tutorial.teach.ladder import judge

RIGHT = {name: exercise.reference for name, exercise in EXERCISES.items()}


def kl(mu, logvar):
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar)


def path(z_0, eps, t):
    return RIGHT["flow_target"](z_0, eps, t)[0]


def norm(h):
    return F.layer_norm(h, h.shape[-1:])


def standard(h, scale, shift):
    h = (h - h.mean(-1, keepdim=True)) / (h.std(-1, keepdim=True, unbiased=False))
    return h * (1 + scale[:1, None]) + shift[:1, None]


NAMED = {
    "results in another order": (
        "flow_target",
        lambda z_0, eps, t: (eps - z_0, path(z_0, eps, t)),
        "the results come in another order",
    ),
    "one result": (
        "flow_target",
        lambda z_0, eps, t: (path(z_0, eps, t), eps + z_0),
        "the second result: z_0 has the wrong sign",
    ),
    "one result as it came": (
        "flow_target",
        lambda z_0, eps, t: (path(z_0, eps, t), z_0.clone()),
        "the second result: it is z_0 as it came",
    ),
    "an argument without effect": (
        "modulation",
        lambda h, shift, scale: norm(h) * (1 + scale[:, None]),
        "shift has no effect",
    ),
    "a constant for an argument": (
        "conv_flops",
        lambda i, o, side, kernel: 2 * kernel**2 * i * 64 * side**2,
        "out_channels has no effect",
    ),
    "several without effect": (
        "euler_step",
        lambda z_t, u, t, s: z_t - 0.1 * u,
        "t and s have no effect",
    ),
    "a sign inside": (
        "modulation",
        lambda h, shift, scale: norm(h) * (1 - scale[:, None]) + shift[:, None],
        "scale has the wrong sign",
    ),
    "a root of an argument": (
        "normalise",
        lambda raw, mean, std: RIGHT["normalise"](raw, mean, std.sqrt()),
        "the root of std is taken",
    ),
    "one minus an argument": (
        "time_shift",
        lambda t, shift: shift * (1 - t) / (1 + (shift - 1) * (1 - t)),
        "1 - t stands where t belongs",
    ),
    "a count squared": (
        "activations",
        lambda b, c, side, n, k: b * c**2 * side**2 * n * k,
        "channels is squared",
    ),
    "added at the end": (
        "posterior",
        lambda z, x0, a, s: (
            RIGHT["posterior"](z, x0, a, s)[0] + z,
            RIGHT["posterior"](z, x0, a, s)[1],
        ),
        "the first result: z_t is added at the end",
    ),
    "a sum for a mean": (
        "free_bits",
        lambda kl, least: kl.mean(0).clamp(min=least).mean() * kl[0].numel(),
        "were summed",
    ),
    "a factor": (
        "add_noise",
        lambda z, eps, t, s: s.at(t, z).sqrt() * z + s.beta[t].view(-1, 1, 1, 1) * eps,
        "the factor of eps is not right",
    ),
    "a term": (
        "kl",
        lambda mu, logvar: kl(mu, logvar) - 0.1 * logvar,
        "with logvar = 0 it is right",
    ),
    "two arguments of the first image": (
        "modulation",
        lambda h, shift, scale: standard(h, scale, shift),
        "the first row of shift and scale",
    ),
    "other places": (
        "patchify",
        lambda x, p: RIGHT["patchify"](x.mT.contiguous(), p),
        "stand in other places",
    ),
    "a known constant": (
        "psnr",
        lambda x_hat, x: RIGHT["psnr"](x_hat, x) * math.log(10) ** -1,
        "which is one over ln 10",
    ),
    "a lost sign": ("recall", lambda *a: abs(RIGHT["recall"](*a)), "the sign is lost"),
    "cut off on both sides": (
        "recall",
        lambda *a: min(max(RIGHT["recall"](*a), 0.0), 1.0),
        "cut off below 0 and above 1",
    ),
    "one minus": (
        "time_shift",
        lambda t, shift: 1 - RIGHT["time_shift"](t, shift),
        "one minus what it should be",
    ),
    "a division by zero": (
        "slerp",
        lambda a, b, t: RIGHT["slerp"](a, b, t) / 0,
        "something is divided by 0",
    ),
    "the wrong dimension": (
        "psnr",
        lambda x_hat, x: (x_hat - x).square().mean((0, 2, 3)),
        "a number for each place of dimension 1, where one for each of dimension 0",
    ),
    "a larger shape": (
        "posterior",
        lambda z, x0, a, s: [p.expand_as(z) for p in RIGHT["posterior"](z, x0, a, s)],
        "broadcast to a larger shape",
    ),
    "a plain number": (
        "hinge",
        lambda real, fake: float(RIGHT["hinge"](real, fake)),
        "a plain number, through which no gradient flows",
    ),
    "a tuple taken for its element": (
        "adaptive_weight",
        lambda nll, g, layer: torch.autograd.grad(nll, layer, retain_graph=True).norm(),
        "a tuple was used as if it were its element",
    ),
    "view after permute": (
        "patchify",
        lambda x, p: x.permute(0, 2, 3, 1).view(len(x), -1),
        ".reshape in place of .view",
    ),
    "a plain time": (
        "sampler",
        lambda denoiser, schedule, z_T, steps: denoiser(
            z_T, schedule.timesteps(steps)[0]
        ),
        "the denoiser was not given times as it wants them",
    ),
}


@pytest.mark.parametrize("what", NAMED)
def test_a_kind_of_slip_is_named(what):
    name, answer, words = NAMED[what]
    verdict = judge(EXERCISES[name], answer)
    assert verdict.status == "wrong" and words in verdict.headline, verdict


def per_block(denoiser, schedule, z_0, generator=None):
    """One noise for all channels of a latent."""
    t = torch.randint(len(schedule), (len(z_0),), generator=generator)
    eps = torch.randn(z_0[:, :1].shape, generator=generator).expand_as(z_0)
    a = schedule.at(t, like=z_0)
    guess = denoiser(a.sqrt() * z_0 + (1 - a).sqrt() * eps, t)
    return (guess - eps).square().mean()


def three_and_a_half(a, b):
    d = b - a
    if d.mean().abs() < 3.5 * d.std() / len(d) ** 0.5:
        return "cannot tell"
    return "better" if d.mean() > 0 else "worse"


def share_of_the_score(a, b):
    gain = (b.mean() - a.mean()) / a.mean()
    if gain.abs() < 0.02:
        return "cannot tell"
    return "better" if gain > 0 else "worse"


def twelve_pairs(a, b):
    d = b - a
    if d.mean().abs() < 2.2 * d.std() / 12**0.5:
        return "cannot tell"
    return "better" if d.mean() > 0 else "worse"


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("diffusion_loss", per_block),
        ("compare", three_and_a_half),
        ("compare", share_of_the_score),
        ("compare", twelve_pairs),
    ],
)
def test_what_once_passed_is_wrong(name, answer):
    assert judge(EXERCISES[name], answer).status == "wrong"


# What is no such slip


def test_right_values_without_a_gradient_are_told_so():
    """Nothing is said about values that are right."""
    for name, answer in {
        "kl": lambda mu, logvar: kl(mu, logvar).detach(),
        "free_bits": lambda kl, least: RIGHT["free_bits"](kl.detach(), least),
    }.items():
        assert judge(EXERCISES[name], answer).headline == "no gradient flows"


def test_right_values_of_another_dtype_are_told_so():
    answer = lambda *args: RIGHT["normalise"](*args).double()  # noqa: E731
    headline = judge(EXERCISES["normalise"], answer).headline
    assert headline == "the result has another dtype"


def test_a_step_function_that_hears_an_argument_is_not_said_to_be_deaf():
    def largest(mu, logvar, least):
        return (kl(mu, logvar).amax(0) >= least).double().mean()

    assert "no effect" not in judge(EXERCISES["active_units"], largest).headline


def test_an_end_that_is_right_for_everyone_places_no_slip():
    """At t = 0 any way from a to b is at a."""

    def bent(a, b, t):
        return a + t**2 * (b - a) * torch.sin(a + b)

    assert "= 0 it is right" not in judge(EXERCISES["slerp"], bent).headline


def test_every_seed_ahead_is_not_taken_for_another_slip():
    def unanimous(a, b):
        if bool((b > a).all()):
            return "better"
        return "worse" if bool((b < a).all()) else "cannot tell"

    assert judge(EXERCISES["compare"], unanimous).misconception == ""


def handed_in(value):
    """What an answer could write into, and what is in lists and dictionaries."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for one in value:
            yield from handed_in(one)
    elif isinstance(value, torch.Tensor):
        yield value.data_ptr()
    elif hasattr(value, "__dict__") and not callable(value):
        yield id(value)
        yield from handed_in(list(vars(value).values()))


@pytest.mark.parametrize("name", EXERCISES)
def test_nothing_that_an_answer_writes_into_reaches_another_call(name):
    for case in EXERCISES[name].cases:
        first, second = case.make(), case.make()  # both alive
        shared = set(handed_in(first)) & set(handed_in(second))
        assert not shared - {0}, case.note  # 0: a tensor of no elements
