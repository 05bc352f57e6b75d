"""Slips that once passed, and kinds of slips that are named in every exercise."""

import pytest
import torch
import torch.nn.functional as F

from ldm_tutorial.layers import ResBlock
from ldm_tutorial.teach.exercises import EXERCISES
from ldm_tutorial.teach.ladder import judge
from ldm_tutorial.unet import apply

RIGHT = {name: exercise.reference for name, exercise in EXERCISES.items()}


def capped(mu, logvar):
    return RIGHT["kl"](mu, logvar).clamp(max=10.0)


def least_upper_end(weights, distances, intervals, pixel_values, latent_elements):
    """The smallest upper end of all intervals, not that of the best."""
    good = weights[distances <= (distances + intervals).min()]
    return good.max() * latent_elements / pixel_values


def one_noise_for_all_channels(z_t, x0, alpha_bar_t, alpha_bar_s, generator=None):
    mean, variance = RIGHT["posterior"](z_t, x0, alpha_bar_t, alpha_bar_s)
    return mean + variance.sqrt() * torch.randn(z_t[:, :1].shape, generator=generator)


def root_of_a_sum(f_hat, f):
    """Right in value; the gradient is nan where all features are 0."""
    a, b = (v / (v.square().sum(1, keepdim=True).sqrt() + 1e-10) for v in (f_hat, f))
    return (a - b).square().sum(1).mean((1, 2))


def one_time(denoiser, schedule, z_0, generator=None):
    """The noise first, then one time for all."""
    eps = torch.randn(z_0.shape, generator=generator)
    t = torch.randint(len(schedule), (1,), generator=generator).expand(len(z_0))
    a = schedule.at(t, like=z_0)
    return F.mse_loss(denoiser(a.sqrt() * z_0 + (1 - a).sqrt() * eps, t), eps)


def as_it_stands(z_t, x0, alpha_bar_t, alpha_bar_s):
    """The precisions added up, and nothing simplified."""
    alpha = alpha_bar_t / alpha_bar_s
    first, second = 1 / (1 - alpha_bar_s), alpha / (1 - alpha)
    variance = 1 / (first + second)
    mean = first * alpha_bar_s.sqrt() * x0 + second * z_t / alpha.sqrt()
    return variance * mean, variance


def given_places(denoiser, schedule, z_T, steps):
    """The sampler, which hands the denoiser places in the list for times."""
    times = schedule.timesteps(steps)
    place = dict(zip(times, range(steps), strict=True))
    told = lambda z, t: denoiser(z, torch.full_like(t, place[int(t[0])]))  # noqa: E731
    return RIGHT["sampler"](told, schedule, z_T, steps)


def rebinding(model, average, optimizer, batch_loss, steps, decay):
    losses = []
    for _ in range(steps):
        losses.append(batch_loss(model))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
        for a, p in zip(average.parameters(), model.parameters(), strict=True):
            a = decay * a + (1 - decay) * p
    return torch.stack(losses).detach()


def oldest_first(unet, z_t, t, y):
    emb = unet.time_embedding(t) + unet.class_embedding(y)
    kept = [unet.stem(z_t)]
    for stage in unet.down:
        kept.append(apply(stage, kept[-1], emb))
    h = apply(unet.middle, kept[-1], emb)
    for stage in unet.up:
        if isinstance(stage[0], ResBlock):
            h = torch.cat([h, kept.pop(0)], 1)
        h = apply(stage, h, emb)
    return unet.out(h)


@pytest.mark.parametrize(
    ("name", "answer", "words"),
    [
        ("diffusion_loss", one_time, "one time was drawn for the whole batch"),
        ("posterior", as_it_stands, "at the last step it divides by 0"),
        ("sampler", given_places, "places in the list of times"),
        ("train", rebinding, "the average never moves"),
        ("unet_forward", oldest_first, "the oldest of the kept arrays"),
        # These once passed.
        ("perceptual", root_of_a_sum, "it lacks a property"),
        ("kl", capped, "the slip is in what it does with mu"),
        ("choose_weight", least_upper_end, "in what it does with intervals"),
        ("ddpm_step", one_noise_for_all_channels, "it lacks a property"),
    ],
)
def test_a_wrong_answer_hears_what_is_wrong(name, answer, words):
    """From a property that tells its slip, from an error, or from the comparison."""
    verdict = judge(EXERCISES[name], answer)
    assert verdict.status == "wrong" and words in verdict.headline


def psnr(change):
    return lambda x_hat, x: change(RIGHT["psnr"](x_hat, x))


NAMED = {
    "cut off above": (
        "psnr",
        psnr(lambda v: v.clamp(max=60)),
        "the values are cut off above 60",
    ),
    "cut off below": (
        "reparameterise",
        lambda mu, logvar, eps: RIGHT["reparameterise"](mu, logvar, eps).clamp(min=0),
        "the values are cut off below 0",
    ),
    "whole division": (
        "compression",
        lambda size, f, C: 3 * size**2 // (C * (size // f) ** 2),
        "rounded down",
    ),
    "rounded": ("psnr", psnr(torch.round), "the values are rounded"),
    "first of a batch": (
        "x0_from_eps",
        lambda z, eps, a: RIGHT["x0_from_eps"](z, eps, a[:1]),
        "the first alpha_bar_t of the batch is taken for all",
    ),
    "default": (
        "time_embedding",
        lambda t, dim, max_period=10000.0: RIGHT["time_embedding"](t, dim),
        "max_period is not used: its default is taken",
    ),
    "dice": (
        "v_target",
        lambda z, eps, a: RIGHT["v_target"](z, torch.randn_like(eps), a),
        "it draws random numbers of its own",
    ),
    "one for all": (
        "perceptual",
        lambda f_hat, f: (f_hat - f).abs().mean(),
        "is one number, where",
    ),
    "all for one": (
        "free_bits",
        lambda kl, least: kl.mean(0).clamp(min=least),
        "is many numbers, where there should be one",
    ),
    "size 1": ("psnr", psnr(lambda v: v[:, None]), "dimensions of size 1 too many"),
    "too few": ("bits", lambda kl: kl.sum(1), "too few dimensions are summed"),
    "too many": ("kl", lambda mu, v: (mu + v).mean(), "is one number, where"),
}


@pytest.mark.parametrize("what", NAMED)
def test_kinds_of_slips_are_named(what):
    name, answer, words = NAMED[what]
    verdict = judge(EXERCISES[name], answer)
    assert verdict.status == "wrong" and words in verdict.headline, verdict


def test_a_warning_does_not_show_the_line_of_the_answer(recwarn):
    """The checker tries the right answer on inputs of other shapes, too."""

    def enlarged_again(decode, x, z):
        small = decode(F.avg_pool2d(z, 2))
        return F.mse_loss(F.interpolate(small, size=x.shape[2:], mode="bilinear"), x)

    verdict = judge(EXERCISES["equivariance_loss"], enlarged_again)
    assert verdict.status == "wrong"
    assert not [one for one in recwarn if "teach/tasks" in one.filename]


@pytest.mark.parametrize(
    "name", ["psnr", "class_dropout", "posterior", "choose_weight"]
)
def test_what_is_right_still_is(name):
    assert judge(EXERCISES[name], lambda *args: RIGHT[name](*args)).status == "right"
