"""Exercises of chapter 3: forward noising, targets, samplers, guidance and training."""

import math

import torch
from torch import Tensor

from ldm_tutorial import diffusion, samplers
from ldm_tutorial.gaussian import DiagonalGaussian
from ldm_tutorial.layers import TimeEmbedding
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.schedule import NoiseSchedule
from ldm_tutorial.teach.task import Case, Exercise
from ldm_tutorial.teach.tasks.inputs import column, randn
from ldm_tutorial.training.tasks import CachedLatentTraining


def add_noise(z_0: Tensor, eps: Tensor, t: Tensor, schedule: NoiseSchedule) -> Tensor:
    return diffusion.add_noise(z_0, eps, schedule.at(t, like=z_0))


def few_steps() -> NoiseSchedule:
    """Three steps that can be worked out by hand."""
    return NoiseSchedule(torch.tensor([0.64, 0.36, 0.09]))


def square_latents() -> tuple[Tensor, Tensor, Tensor, NoiseSchedule]:
    """As many images as channels, rows and columns: a wrong axis goes unnoticed."""
    t = torch.tensor([0, 100, 400, 999])
    return randn(1, 4, 4, 4, 4), randn(2, 4, 4, 4, 4), t, NoiseSchedule.linear()


def many_latents() -> tuple[Tensor, Tensor, Tensor, NoiseSchedule]:
    """Enough of them for a standard deviation, as square as those above."""
    t = torch.arange(20) * 50
    return randn(3, *[20] * 4), randn(4, *[20] * 4), t, NoiseSchedule.linear()


def noised(a: Tensor, z_0: Tensor, eps: Tensor) -> Tensor:
    return a.sqrt() * z_0 + (1 - a).sqrt() * eps


def first(value: float) -> Tensor:
    """A batch of one latent with a single number."""
    return torch.full((1, 1, 1, 1), value)


BY_HAND = "alpha_bar = [0.64, 0.36, 0.09], z_0 = 1, eps = {}, t = [{}]"

ADD_NOISE = Exercise(
    name="add_noise",
    chapter=3,
    minutes=6,
    title="noise in one jump",
    prompt=(
        "Return $z_t = \\sqrt{\\bar\\alpha_t}\\, z_0 + \\sqrt{1 - \\bar\\alpha_t}\\, "
        "\\varepsilon$. `z_0` and `eps` have shape (B, C, h, w), `t` is int64 of shape "
        "(B,), a time for each image, and `schedule.alpha_bar` holds one value for "
        "each time, shape (T,). Look the values up, and shape them so that each meets "
        "its own image."
    ),
    reference=add_noise,
    lines="2 lines",
    cases=(
        Case(
            lambda: (first(1.0), first(0.0), torch.tensor([1]), few_steps()),
            expected=first(0.6),
            note=BY_HAND.format(0, 1),
        ),
        Case(
            lambda: (first(1.0), first(2.0), torch.tensor([0]), few_steps()),
            expected=first(2.0),
            note=BY_HAND.format(2, 0),
        ),
        Case(
            square_latents,
            note="z_0 and eps random (4, 4, 4, 4), t = [0, 100, 400, 999], the linear "
            "schedule",
        ),
        Case(
            lambda: (
                *batch(5)[:2],
                torch.tensor([10, 300, 700]),
                NoiseSchedule.linear(),
            ),
            note="z_0 and eps random (3, 4, 2, 5), t = [10, 300, 700]",
        ),
    ),
    properties=(
        (
            "With z_0 and eps of unit variance, z_t should have unit variance too.",
            lambda f: abs(f(*many_latents()).std() - 1) < 0.02,
        ),
    ),
    hints=(
        "schedule.alpha_bar[t] picks a value for each image: shape (B,).",
        "Against (B, C, h, w) that would line up with the columns. .view(-1, 1, 1, 1) "
        "makes it (B, 1, 1, 1); schedule.at(t, like=z_0) does both.",
        "a = schedule.at(t, like=z_0); return a.sqrt() * z_0 + (1 - a).sqrt() * eps",
    ),
    misconceptions={
        "roots missing": (
            lambda z, eps, t, s: s.at(t, z) * z + (1 - s.at(t, z)) * eps,
            "the square roots are missing: variances add up, and these are factors",
        ),
        "roles exchanged": (
            lambda z, eps, t, s: noised(1 - s.at(t, z), z, eps),
            "signal and noise are exchanged: at small t nearly everything should be "
            "signal",
        ),
        "alpha for alpha-bar": (
            lambda z, eps, t, s: noised(1 - s.beta[t].view(-1, 1, 1, 1), z, eps),
            "this is α, one step's factor, in place of ᾱ, the product of all up to t",
        ),
        "beta for alpha-bar": (
            lambda z, eps, t, s: noised(s.beta[t].view(-1, 1, 1, 1), z, eps),
            "this is β, the variance that one step adds, in place of ᾱ",
        ),
        "wrong axis": (
            lambda z, eps, t, s: noised(s.alpha_bar[t], z, eps),
            "each time met a column and not an image: (B,) lines up with the last "
            "dimension",
        ),
        "channels": (
            lambda z, eps, t, s: noised(s.alpha_bar[t].view(-1, 1, 1), z, eps),
            "each time met a channel and not an image: one dimension is missing",
        ),
        "one time for all": (
            lambda z, eps, t, s: noised(s.alpha_bar[t[0]], z, eps),
            "the first image's time was used for all images",
        ),
        "noise not scaled": (
            lambda z, eps, t, s: s.at(t, z).sqrt() * z + eps,
            "the noise is not scaled",
        ),
        "signal not scaled": (
            lambda z, eps, t, s: z + (1 - s.at(t, z)).sqrt() * eps,
            "the signal is not scaled: the variance would grow",
        ),
        "root of a root": (
            lambda z, eps, t, s: s.at(t, z).sqrt() * z + (1 - s.at(t, z).sqrt()) * eps,
            "the noise's factor is the root of 1 - ᾱ, not 1 minus the root of ᾱ",
        ),
        "root of the signal missing": (
            lambda z, eps, t, s: s.at(t, z) * z + (1 - s.at(t, z)).sqrt() * eps,
            "the signal's factor lacks its square root",
        ),
        "root of the noise missing": (
            lambda z, eps, t, s: s.at(t, z).sqrt() * z + (1 - s.at(t, z)) * eps,
            "the noise's factor lacks its square root",
        ),
        "minus": (
            lambda z, eps, t, s: noised(s.at(t, z), z, -eps),
            "the noise was subtracted; the forward equation adds it",
        ),
        "one step too far": (
            lambda z, eps, t, s: noised(s.at((t + 1).clamp(max=len(s) - 1), z), z, eps),
            "the times are off by one",
        ),
    },
    source=(diffusion.add_noise, NoiseSchedule.at),
)


def v_target(z_0: Tensor, eps: Tensor, alpha_bar_t: Tensor) -> Tensor:
    return diffusion.prediction_target(z_0, eps, alpha_bar_t, "v")


def batch(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Two arrays and a level of noise for each image."""
    return randn(seed, 3, 4, 2, 5), randn(seed + 1, 3, 4, 2, 5), column(0.9, 0.5, 0.1)


def cos_sin(a: Tensor) -> tuple[Tensor, Tensor]:
    return a.sqrt(), (1 - a).sqrt()


V_TARGET = Exercise(
    name="v_target",
    chapter=3,
    minutes=3,
    title="the velocity",
    prompt=(
        "Return the target $v = \\sqrt{\\bar\\alpha_t}\\,\\varepsilon - "
        "\\sqrt{1 - \\bar\\alpha_t}\\, z_0$. `alpha_bar_t` has shape (B, 1, 1, 1) and "
        "broadcasts by itself. It may be 0, where no signal is left."
    ),
    reference=v_target,
    cases=(
        Case(lambda: (first(1.0), first(2.0), column(0.64)), expected=first(1.0)),
        Case(lambda: (first(2.0), first(1.0), column(0.64)), expected=first(-0.4)),
        Case(lambda: batch(1)),
    ),
    properties=(
        (
            "Where no signal is left (alpha_bar_t = 0), v should be -z_0.",
            lambda f: torch.allclose(
                f(randn(1, 1, 2, 2, 2), randn(2, 1, 2, 2, 2), column(0.0)),
                -randn(1, 1, 2, 2, 2),
            ),
        ),
    ),
    hints=(
        "Two factors, c = alpha_bar_t.sqrt() and s = (1 - alpha_bar_t).sqrt(). In z_t, "
        "c goes with z_0 and s with eps.",
        "In v they change places, and one sign turns: (z_t, v) is (z_0, eps) turned by "
        "an angle.",
        "alpha_bar_t.sqrt() * eps - (1 - alpha_bar_t).sqrt() * z_0",
    ),
    misconceptions={
        "sign": (
            lambda z, eps, a: cos_sin(a)[1] * z - cos_sin(a)[0] * eps,
            "the sign is turned: v is noise minus signal",
        ),
        "plus": (
            lambda z, eps, a: cos_sin(a)[0] * eps + cos_sin(a)[1] * z,
            "the two are subtracted, not added",
        ),
        "factors exchanged": (
            lambda z, eps, a: cos_sin(a)[1] * eps - cos_sin(a)[0] * z,
            "the factors are exchanged: the noise takes the root of ᾱ",
        ),
        "z_t": (
            lambda z, eps, a: noised(a, z, eps),
            "this is z_t itself, not the target",
        ),
        "roots missing": (
            lambda z, eps, a: a * eps - (1 - a) * z,
            "the square roots are missing",
        ),
        "flow": (
            lambda z, eps, a: eps - z,
            "eps - z_0 is the velocity of a straight path (flow matching); here the "
            "path is an arc, and both terms have factors",
        ),
        "root of the noise missing": (
            lambda z, eps, a: a * eps - (1 - a).sqrt() * z,
            "the factor of the noise lacks its square root",
        ),
        "root of the signal missing": (
            lambda z, eps, a: a.sqrt() * eps - (1 - a) * z,
            "the factor of z_0 lacks its square root",
        ),
        "noise alone": (
            lambda z, eps, a: eps.clone(),
            "this is the noise, the target eps",
        ),
    },
    source=(diffusion.prediction_target,),
)


def x0_from_eps(z_t: Tensor, eps: Tensor, alpha_bar_t: Tensor) -> Tensor:
    return diffusion.split_prediction(eps, z_t, alpha_bar_t, "eps")[0]


X0 = Exercise(
    name="x0_from_eps",
    chapter=3,
    minutes=4,
    title="from the noise to the clean array",
    prompt=(
        "The network has guessed the noise `eps` in `z_t`. Solve the forward equation "
        "for $z_0$ and return the estimate of the clean array that this guess implies. "
        "`alpha_bar_t` has shape (B, 1, 1, 1)."
    ),
    reference=x0_from_eps,
    cases=(
        Case(lambda: (first(2.0), first(2.0), column(0.64)), expected=first(1.0)),
        Case(lambda: (first(1.0), first(0.0), column(0.25)), expected=first(2.0)),
        Case(lambda: batch(3)),
    ),
    hints=(
        "Forward: z_t = sqrt(alpha_bar_t) z_0 + sqrt(1 - alpha_bar_t) eps. Only z_0 is "
        "unknown.",
        "Subtract the noise's share first, then divide by what multiplies z_0.",
        "(z_t - (1 - alpha_bar_t).sqrt() * eps) / alpha_bar_t.sqrt()",
    ),
    misconceptions={
        "not divided": (
            lambda z, eps, a: z - (1 - a).sqrt() * eps,
            "the division by the root of ᾱ is missing: this is the signal, still "
            "shrunk",
        ),
        "noise not scaled": (
            lambda z, eps, a: (z - eps) / a.sqrt(),
            "the noise was subtracted whole; its share in z_t is the root of 1 - ᾱ",
        ),
        "plus": (
            lambda z, eps, a: (z + (1 - a).sqrt() * eps) / a.sqrt(),
            "the noise was added, not subtracted",
        ),
        "roots missing": (
            lambda z, eps, a: (z - (1 - a) * eps) / a,
            "the square roots are missing",
        ),
        "root missing below": (
            lambda z, eps, a: (z - (1 - a).sqrt() * eps) / a,
            "the division is by the root of ᾱ, not by ᾱ",
        ),
        "root of the noise missing": (
            lambda z, eps, a: (z - (1 - a) * eps) / a.sqrt(),
            "the noise's share is the root of 1 - ᾱ; the root is missing",
        ),
        "multiplied": (
            lambda z, eps, a: (z - (1 - a).sqrt() * eps) * a.sqrt(),
            "multiplied by the root of ᾱ; divide",
        ),
        "factors exchanged": (
            lambda z, eps, a: (z - a.sqrt() * eps) / (1 - a).sqrt(),
            "the two factors are exchanged",
        ),
        "as if v": (
            lambda z, eps, a: a.sqrt() * z - (1 - a).sqrt() * eps,
            "this is the formula for a network that predicts v",
        ),
        "divided too early": (
            lambda z, eps, a: z / a.sqrt() - (1 - a).sqrt() * eps,
            "only z_t was divided; the noise's share has to be divided as well",
        ),
    },
    source=(diffusion.split_prediction,),
)


def posterior(
    z_t: Tensor, x0: Tensor, alpha_bar_t: Tensor, alpha_bar_s: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and variance of q(z_s | z_t, z_0 = x0), s < t (Ho et al. 2020, eq. 7)."""
    alpha = alpha_bar_t / alpha_bar_s
    beta = 1 - alpha
    mean = alpha_bar_s.sqrt() * beta * x0 + alpha.sqrt() * (1 - alpha_bar_s) * z_t
    variance = beta * (1 - alpha_bar_s) / (1 - alpha_bar_t)
    return mean / (1 - alpha_bar_t), variance


def a_step() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        randn(5, 3, 4, 2, 5),
        randn(6, 3, 4, 2, 5),
        column(0.6, 0.3, 0.05),
        column(0.9, 0.5, 0.06),
    )


def by_hand() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """α = 0.64, β = 0.36; mean (0.18 x0 + 0.6 z_t) / 0.84, variance 0.27 / 0.84."""
    return first(1.0), first(2.0), column(0.16), column(0.25)


def step_parts(a_t: Tensor, a_s: Tensor) -> tuple[Tensor, Tensor]:
    return a_t / a_s, 1 - a_t / a_s


def posterior_slip(mean: str = "", variance: str = ""):
    """The posterior with a slip in its mean or its variance."""

    def f(z_t, x0, a_t, a_s):
        alpha, beta = step_parts(a_t, a_s)
        m, v = posterior(z_t, x0, a_t, a_s)
        from_x0, from_z = a_s.sqrt() * beta, alpha.sqrt() * (1 - a_s)
        means = {
            "": m,
            "swapped": (from_x0 * z_t + from_z * x0) / (1 - a_t),
            "undivided": from_x0 * x0 + from_z * z_t,
            "t for s": (a_t.sqrt() * beta * x0 + alpha.sqrt() * (1 - a_t) * z_t)
            / (1 - a_t),
            "no root": (a_s * beta * x0 + alpha * (1 - a_s) * z_t) / (1 - a_t),
        }
        variances = {"": v, "beta": beta, "std": v.sqrt(), "log": v.log()}
        return means[mean], variances[variance]

    return f


def cumulative_for_step(z_t, x0, a_t, a_s):
    """ᾱ_t where the single step's α belongs."""
    beta = 1 - a_t
    mean = (a_s.sqrt() * beta * x0 + a_t.sqrt() * (1 - a_s) * z_t) / (1 - a_t)
    return mean, beta * (1 - a_s) / (1 - a_t)


POSTERIOR = Exercise(
    name="posterior",
    chapter=3,
    minutes=10,
    title="the posterior of one step back",
    prompt=(
        "Return the mean and the variance, as a pair, of $q(z_s \\mid z_t, z_0)$ for a "
        "step back from $t$ to $s < t$. `z_t` and `x0` have shape (B, C, h, w); "
        "`alpha_bar_t` and `alpha_bar_s` are $\\bar\\alpha$ at the two times, shape "
        "(B, 1, 1, 1). The step's own $1 - \\beta$ is $\\bar\\alpha_t / "
        "\\bar\\alpha_s$; with it the formula of $q(z_{t-1} \\mid z_t, z_0)$ holds for "
        "strides of any length, the last one included, where $\\bar\\alpha_s = 1$. "
        "The variance has the shape of `alpha_bar_t`."
    ),
    reference=posterior,
    lines="4 lines",
    cases=(
        Case(
            by_hand,
            expected=(
                first((0.5 * 0.36 * 2 + 0.8 * 0.75) / 0.84),
                first(0.36 * 0.75 / 0.84),
            ),
        ),
        Case(a_step),
    ),
    properties=(
        (
            "A step to the end (alpha_bar_s = 1) should give x0 and variance 0.",
            lambda f: (
                torch.allclose(
                    f(first(3.0), first(2.0), column(0.5), column(1.0))[0],
                    first(2.0),
                )
                and float(f(first(3.0), first(2.0), column(0.5), column(1.0))[1].abs())
                < 1e-6
            ),
        ),
    ),
    hints=(
        "alpha = alpha_bar_t / alpha_bar_s and beta = 1 - alpha are the step's own.",
        "The mean weighs two opinions: sqrt(alpha_bar_s) · beta · x0 and "
        "sqrt(alpha) · (1 - alpha_bar_s) · z_t, both over (1 - alpha_bar_t).",
        "The variance is beta * (1 - alpha_bar_s) / (1 - alpha_bar_t).",
    ),
    misconceptions={
        "alpha-bar for alpha": (
            cumulative_for_step,
            "ᾱ_t was used where the step's own α = ᾱ_t / ᾱ_s belongs",
        ),
        "roles exchanged": (
            posterior_slip(mean="swapped"),
            "x0 and z_t are exchanged in the mean",
        ),
        "not divided": (
            posterior_slip(mean="undivided"),
            "the mean has to be divided by 1 - ᾱ_t",
        ),
        "t for s": (
            posterior_slip(mean="t for s"),
            "in the mean ᾱ_t stands where ᾱ_s belongs",
        ),
        "roots missing": (
            posterior_slip(mean="no root"),
            "the square roots in the mean are missing",
        ),
        "forward variance": (
            posterior_slip(variance="beta"),
            "the variance is β, that of the step forward; knowing z_0 makes it smaller",
        ),
        "standard deviation": (
            posterior_slip(variance="std"),
            "the second result is the standard deviation; the variance is asked for",
        ),
        "log variance": (
            posterior_slip(variance="log"),
            "the second result is the logarithm of the variance",
        ),
    },
)


def mean_and_std(z: Tensor) -> Tensor:
    return torch.stack([z.mean(), z.std()])


def draws(z: float, x0: float, a_t: float, a_s: float):
    """Many equal arrays, so that the moments of what is drawn can be compared."""
    shape = (10, 4, 50, 50)
    return lambda: (
        torch.full(shape, z),
        torch.full(shape, x0),
        torch.full((10, 1, 1, 1), a_t),
        torch.full((10, 1, 1, 1), a_s),
    )


def dice() -> torch.Generator:
    return torch.Generator().manual_seed(1)


DRAWS = "mean and standard deviation of 100,000 draws with z_t = {}, x0 = {}, "
DRAWS += "alpha_bar_t = {}, alpha_bar_s = {}"


def drawn(scale):
    """A step whose noise is scaled by a function of (a_t, a_s)."""

    def f(z_t, x0, a_t, a_s):
        mean, _ = posterior(z_t, x0, a_t, a_s)
        return mean + scale(a_t, a_s) * torch.randn_like(z_t)

    return f


def step_variance(a_t: Tensor, a_s: Tensor) -> Tensor:
    return (1 - a_t / a_s) * (1 - a_s) / (1 - a_t)


def moments_case(z: float, x0: float, a_t: float, a_s: float) -> Case:
    return Case(
        draws(z, x0, a_t, a_s),
        measure=mean_and_std,
        note=DRAWS.format(*(f"{value:g}" for value in (z, x0, a_t, a_s))),
        atol=0.01,
        rtol=0.0,
    )


DDPM_STEP = Exercise(
    name="ddpm_step",
    chapter=3,
    minutes=6,
    title="the DDPM step",
    prompt=(
        "Draw $z_s$ from the posterior: its mean, plus fresh standard normal noise "
        "times its standard deviation. Use your `posterior(z_t, x0, alpha_bar_t, "
        "alpha_bar_s)`, and `torch.randn(z_t.shape, generator=generator, "
        "device=z_t.device)` for the noise. Shapes are as in `posterior`."
    ),
    reference=samplers.ddpm_step,
    lines="3 lines",
    cases=(
        moments_case(1.0, 2.0, 0.16, 0.25),
        moments_case(-1.0, 0.5, 0.5, 0.9),
        moments_case(0.5, -0.5, 0.02, 0.3),
    ),
    properties=(
        (
            "Each element needs noise of its own, also within an image.",
            lambda f: float(f(*draws(0.0, 0.0, 0.16, 0.25)()).std((2, 3)).min()) > 0.1,
        ),
        (
            "Each image needs noise of its own.",
            lambda f: float(f(*draws(0.0, 0.0, 0.16, 0.25)()).std(0).mean()) > 0.1,
        ),
        (
            "Two calls should draw different noise.",
            lambda f: not torch.equal(*(f(*draws(1.0, 2.0, 0.1, 0.2)()) for _ in "ab")),
        ),
        (
            "Two generators with the same seed should give the same draw: hand "
            "`generator` to torch.randn.",
            lambda f: torch.equal(
                *(f(*draws(1.0, 2.0, 0.1, 0.2)(), dice()) for _ in "ab")
            ),
        ),
        (
            "The last step (alpha_bar_s = 1) should give x0, without noise.",
            lambda f: torch.allclose(
                f(*draws(1.0, 2.0, 0.5, 1.0)()), torch.tensor(2.0), atol=1e-4
            ),
        ),
    ),
    hints=(
        "mean, variance = posterior(z_t, x0, alpha_bar_t, alpha_bar_s)",
        "Noise of variance v is standard normal noise times the root of v.",
        "return mean + variance.sqrt() * noise",
    ),
    misconceptions={
        "variance for its root": (
            drawn(step_variance),
            "the noise was multiplied by the variance; take its root",
        ),
        "no noise": (
            lambda *a: posterior(*a)[0],
            "this is the mean alone, without the noise",
        ),
        "noise not scaled": (
            drawn(lambda a_t, a_s: 1.0),
            "the noise is not scaled",
        ),
        "forward variance": (
            drawn(lambda a_t, a_s: (1 - a_t / a_s).sqrt()),
            "the noise has the variance β of the step forward; the posterior's is "
            "smaller",
        ),
        "noise of z_s": (
            drawn(lambda a_t, a_s: (1 - a_s).sqrt()),
            "the noise has the variance 1 - ᾱ_s of z_s as a whole; only the step's own "
            "share is fresh",
        ),
        "x0 noised again": (
            lambda z, x0, a_t, a_s: noised(a_s, x0, torch.randn_like(x0)),
            "x0 was noised afresh, and z_t has no effect: all that it knew is thrown "
            "away",
        ),
    },
)


def ddim_step(
    z_t: Tensor, eps: Tensor, alpha_bar_t: Tensor, alpha_bar_s: Tensor
) -> Tensor:
    x0 = diffusion.split_prediction(eps, z_t, alpha_bar_t, "eps")[0]
    return samplers.ddim_step(x0, eps, alpha_bar_t, alpha_bar_s)


def clean(z: Tensor, eps: Tensor, a: Tensor) -> Tensor:
    return (z - (1 - a).sqrt() * eps) / a.sqrt()


DDIM_STEP = Exercise(
    name="ddim_step",
    chapter=3,
    minutes=6,
    title="the DDIM step",
    prompt=(
        "Step from $t$ to $s < t$ without fresh noise: estimate $\\hat z_0$ from `z_t` "
        "and the guessed noise `eps`, then mix the two again with less noise, "
        "$\\sqrt{\\bar\\alpha_s}\\,\\hat z_0 + \\sqrt{1 - \\bar\\alpha_s}\\,"
        "\\varepsilon$. `alpha_bar_t` and `alpha_bar_s` have shape (B, 1, 1, 1), or "
        "(1, 1, 1, 1) for all images together."
    ),
    reference=ddim_step,
    lines="2 lines",
    cases=(
        Case(
            lambda: (first(2.0), first(2.0), column(0.64), column(1.0)),
            expected=first(1.0),
        ),
        Case(
            lambda: (first(1.0), first(0.0), column(0.16), column(0.64)),
            expected=first(2.0),
        ),
        Case(a_step, note="random arrays, from alpha_bar 0.6 to 0.9 and others"),
    ),
    properties=(
        (
            "A step that goes nowhere (alpha_bar_s = alpha_bar_t) should change "
            "nothing.",
            lambda f: torch.allclose(
                f(*batch(1)[:2], column(*[0.3] * 3), column(*[0.3] * 3)),
                batch(1)[0],
                atol=1e-4,
            ),
        ),
    ),
    hints=(
        "Your x0_from_eps(z_t, eps, alpha_bar_t) is the first line.",
        "The second is the forward equation at s, with the two guesses in place of the "
        "truth.",
        "alpha_bar_s.sqrt() * x0 + (1 - alpha_bar_s).sqrt() * eps",
    ),
    misconceptions={
        "x0 alone": (
            lambda z, eps, a_t, a_s: clean(z, eps, a_t),
            "this is the estimate of z_0; it has to be mixed with noise again",
        ),
        "noise forgotten": (
            lambda z, eps, a_t, a_s: a_s.sqrt() * clean(z, eps, a_t),
            "the noise's share at s is missing",
        ),
        "fresh noise": (
            lambda z, eps, a_t, a_s: (
                a_s.sqrt() * clean(z, eps, a_t) + (1 - a_s).sqrt() * torch.randn_like(z)
            ),
            "fresh noise was drawn; DDIM keeps the noise that was guessed",
        ),
        "z_t for x0": (
            lambda z, eps, a_t, a_s: a_s.sqrt() * z + (1 - a_s).sqrt() * eps,
            "z_t was mixed with noise; estimate the clean array first",
        ),
        "roots missing": (
            lambda z, eps, a_t, a_s: a_s * clean(z, eps, a_t) + (1 - a_s) * eps,
            "the square roots are missing in the mixture",
        ),
        "times exchanged": (
            lambda z, eps, a_t, a_s: (
                a_t.sqrt() * clean(z, eps, a_s) + (1 - a_t).sqrt() * eps
            ),
            "alpha_bar_t and alpha_bar_s are exchanged: z_t is at t, the result at s",
        ),
        "nowhere": (
            lambda z, eps, a_t, a_s: z.clone(),
            "this is z_t again: it was taken apart and mixed at one and the same time. "
            "z_t is at ᾱ_t, and the step goes to ᾱ_s",
        ),
        "noise of t": (
            lambda z, eps, a_t, a_s: (
                a_s.sqrt() * clean(z, eps, a_t) + (1 - a_t).sqrt() * eps
            ),
            "the noise's share was left as it is at t; at s it is smaller",
        ),
        "factors exchanged": (
            lambda z, eps, a_t, a_s: (
                (1 - a_s).sqrt() * clean(z, eps, a_t) + a_s.sqrt() * eps
            ),
            "the two factors of the mixture are exchanged",
        ),
    },
    source=(samplers.ddim_step, diffusion.split_prediction),
)


def sample_ddim(denoiser, schedule: NoiseSchedule, z_T: Tensor, steps: int) -> Tensor:
    return samplers.last(samplers.ddim(denoiser, schedule, z_T, steps=steps))


MEAN, SPREAD = 2.0, 0.5


def exact(schedule: NoiseSchedule, mean: float = MEAN, spread: float = SPREAD):
    """The best guess of the noise there is, for data from N(mean, spread²)."""

    def denoiser(z_t: Tensor, t: Tensor) -> Tensor:
        if t.shape != (len(z_t),) or t.dtype != torch.int64:
            raise ValueError(
                f"the denoiser was given t of shape {tuple(t.shape)} and dtype "
                f"{t.dtype}; it wants int64 of shape ({len(z_t)},), a time an image"
            )
        a = schedule.at(t, like=z_t)
        total = a * spread**2 + 1 - a
        return (1 - a).sqrt() * (z_t - a.sqrt() * mean) / total

    return denoiser


def sampling(steps: int, T: int = 1000):
    def make():
        schedule = NoiseSchedule.linear(T)
        return exact(schedule), schedule, randn(1, 64, 2, 4, 4), steps

    return make


def calls(f) -> bool:
    """Whether the denoiser is asked once at each of the times, from the noisiest."""
    denoiser, schedule, z_T, steps = sampling(5)()
    seen: list[int] = []

    def watched(z_t: Tensor, t: Tensor) -> Tensor:
        seen.append(int(t[0]))
        return denoiser(z_t, t)

    f(watched, schedule, z_T, steps)
    return seen == schedule.timesteps(steps)


def ddim_slip(kind: str):
    """A sampler with a slip in its loop."""

    def f(denoiser, schedule, z_T, steps):
        z, times = z_T, schedule.timesteps(steps)
        ends = [*times[1:], None]
        if kind == "forwards":
            times = times[::-1]
            ends = [*times[1:], None]
        for t, s in zip(times, ends, strict=True):
            if kind == "last step left out" and s is None:
                break
            a_t = schedule.alpha_bar[t]
            a_s = torch.tensor(1.0) if s is None else schedule.alpha_bar[s]
            seen = z_T if kind == "always z_T" else z
            eps = denoiser(seen, torch.full((len(z),), t))
            x0 = clean(z, eps, a_t)
            if kind == "fresh noise":
                eps = torch.randn_like(z)
            if kind == "noise at the end" and s is None:
                a_s = schedule.alpha_bar[0]
            z = a_s.sqrt() * x0 + (1 - a_s).sqrt() * eps
            if kind == "one jump":
                return z
        return z

    return f


SAMPLER = Exercise(
    name="sampler",
    chapter=3,
    minutes=25,
    title="a whole sampler",
    prompt=(
        "Write the loop of a DDIM sampler. `schedule.timesteps(steps)` is a falling "
        "list of times; step from each to the next one, and from the last to the "
        "clean array, where $\\bar\\alpha_s = 1$. `denoiser(z, t)` guesses the noise; "
        "its `t` is int64 of shape (B,), one time for each image. Start at `z_T` and "
        "return the last array. The checker gives you a denoiser that is exact for "
        "Gaussian data: a right sampler then draws just those data."
    ),
    reference=sample_ddim,
    lines="8-12 lines",
    cases=(
        Case(sampling(1), note="an exact denoiser and 1 step"),
        Case(sampling(4), note="an exact denoiser and 4 steps", rtol=1e-3, atol=1e-3),
        Case(sampling(50), note="an exact denoiser and 50 steps", rtol=1e-3, atol=1e-3),
        Case(
            sampling(5, 200),
            note="an exact denoiser, a schedule of 200 times and 5 steps",
            rtol=1e-3,
            atol=1e-3,
        ),
    ),
    properties=(
        (
            "The denoiser should be called once for each of the times, in their order.",
            calls,
        ),
        (
            f"With 250 steps the samples should have mean {MEAN:g} and standard "
            f"deviation {SPREAD:g}, as the data do.",
            lambda f: torch.allclose(
                mean_and_std(f(*sampling(250)())),
                torch.tensor([MEAN, SPREAD]),
                atol=0.05,
            ),
        ),
    ),
    hints=(
        "Pair each time with the next: times = schedule.timesteps(steps), and "
        "zip(times, [*times[1:], None]). None stands for the clean end.",
        "In the loop: t_batch = torch.full((len(z),), t, device=z.device), eps = "
        "denoiser(z, t_batch), and alpha_bar at both ends, 1 at the clean one "
        "(torch.tensor(1.0)).",
        "The last line of the loop is your step: z = ddim_step(z, eps, alpha_bar_t, "
        "alpha_bar_s). After the loop, return z.",
    ),
    misconceptions={
        "last step left out": (
            ddim_slip("last step left out"),
            "the last step, to the clean array, is left out",
        ),
        "noise at the end": (
            ddim_slip("noise at the end"),
            "the last step ends at ᾱ of time 0, where some noise is left; it should "
            "end at 1",
        ),
        "forwards": (
            ddim_slip("forwards"),
            "the times rise; sampling starts at the noisiest and falls",
        ),
        "fresh noise": (
            ddim_slip("fresh noise"),
            "fresh noise was mixed in; DDIM keeps the noise that was guessed",
        ),
        "always z_T": (
            ddim_slip("always z_T"),
            "the denoiser was shown z_T in every step; show it the array as it is now",
        ),
        "one jump": (
            ddim_slip("one jump"),
            "it returns after its first step",
        ),
    },
    source=(samplers.ddim, samplers.intervals, samplers.ddim_step),
)


def time_embedding(t: Tensor, dim: int, max_period: float = 10_000.0) -> Tensor:
    """Cosines, then sines of ``t`` (B,) at dim/2 falling frequencies: (B, dim)."""
    frequency = torch.exp(-math.log(max_period) * torch.arange(dim // 2) / (dim // 2))
    angle = t[:, None] * frequency[None]
    return torch.cat([angle.cos(), angle.sin()], dim=1)


def angles(t: Tensor, dim: int, exponent: Tensor) -> Tensor:
    return t[:, None].float() * (10_000.0**exponent)[None]


def falling(dim: int) -> Tensor:
    return -torch.arange(dim // 2) / (dim // 2)


def waves(angle: Tensor) -> Tensor:
    return torch.cat([angle.cos(), angle.sin()], dim=1)


TIME_EMBEDDING = Exercise(
    name="time_embedding",
    chapter=3,
    minutes=8,
    title="the time as waves",
    prompt=(
        "Turn times `t`, int64 (B,), into vectors (B, `dim`): first the cosines, then "
        "the sines of $t\\,\\omega_i$, with the frequencies "
        "$\\omega_i = 10000^{-i / (d/2)}$ for $i = 0, \\dots, d/2 - 1$, where $d$ is "
        "`dim`, an even number, and the 10000 is `max_period`. So the first frequency "
        "is 1, and the last is not quite 1/10000."
    ),
    reference=time_embedding,
    lines="3 lines",
    cases=(
        Case(
            lambda: (torch.tensor([0]), 4),
            expected=torch.tensor([[1.0, 1.0, 0.0, 0.0]]),
        ),
        Case(
            lambda: (torch.tensor([1]), 2),
            expected=torch.tensor([[math.cos(1.0), math.sin(1.0)]]),
        ),
        Case(
            lambda: (torch.tensor([0, 3, 500, 999]), 16),
            rtol=1e-3,
            atol=2e-3,
            note="t = [0, 3, 500, 999], dim = 16",
        ),
    ),
    hints=(
        "i = torch.arange(dim // 2), and the frequencies are 10000.0 ** (-i / "
        "(dim // 2)).",
        "Every time meets every frequency: t[:, None] * frequency has shape "
        "(B, dim / 2).",
        "torch.cat([angle.cos(), angle.sin()], dim=1)",
    ),
    misconceptions={
        "sines first": (
            lambda t, dim: torch.cat(
                [
                    angles(t, dim, falling(dim)).sin(),
                    angles(t, dim, falling(dim)).cos(),
                ],
                dim=1,
            ),
            "the sines come first; the cosines should (some code does it so, and "
            "weights do not fit between the two)",
        ),
        "interleaved": (
            lambda t, dim: torch.stack(
                [
                    angles(t, dim, falling(dim)).cos(),
                    angles(t, dim, falling(dim)).sin(),
                ],
                dim=2,
            ).flatten(1),
            "cosines and sines take turns; first come all cosines, then all sines",
        ),
        "rising frequencies": (
            lambda t, dim: waves(angles(t, dim, -falling(dim))),
            "the frequencies rise to 10000; the minus in the exponent is missing",
        ),
        "end included": (
            lambda t, dim: waves(
                angles(t, dim, -torch.arange(dim // 2) / (dim // 2 - 1))
            ),
            "the last frequency is exactly 1/10000: divided by d/2 - 1 in place of d/2",
        ),
        "divided by dim": (
            lambda t, dim: waves(angles(t, dim, falling(dim) / 2)),
            "the exponent was divided by d; divide by d/2",
        ),
        "angles": (
            lambda t, dim: angles(t, dim, falling(dim)).repeat(1, 2),
            "these are the angles, without cosine and sine",
        ),
        "with 2 pi": (
            lambda t, dim: waves(2 * math.pi * angles(t, dim, falling(dim))),
            "the angles were multiplied by 2π",
        ),
    },
    source=(time_embedding, TimeEmbedding),
)


def hide_classes(y: Tensor, share: float, no_class: int) -> Tensor:
    """Classes (B,) of which a random share is replaced by "no class"."""
    return torch.where(torch.rand(y.shape) < share, no_class, y)


def classes() -> Tensor:
    return torch.arange(20_000) % 4


def dropped(share: float) -> Case:
    """A share is compared with 5 standard deviations to either side."""

    def shares(y: Tensor) -> Tensor:
        found = [(y == k).double().mean() for k in (4, 0, -1)]
        return torch.stack([*found, torch.tensor(len(y) / 20_000).double()])

    return Case(
        lambda: (classes(), share, 4),
        measure=shares,
        note=f"20,000 labels 0 to 3, share = {share} and no_class = 4, the shares of "
        "the labels 4, 0 and -1, and how many labels there are",
        atol=5 * math.sqrt(share * (1 - share) / 20_000),
        rtol=0.0,
    )


def by_class(f) -> bool:
    hidden = f(classes(), 0.5, 4) == 4
    shares = [float(hidden[classes() == k].double().mean()) for k in range(4)]
    return max(shares) - min(shares) < 0.1


def counts(f) -> bool:
    """Of a small batch, each number of hidden labels should turn up in many calls."""
    found = [int((f(torch.arange(4), 0.5, 9) == 9).sum()) for _ in range(300)]
    return set(found) == {0, 1, 2, 3, 4}


def rest_kept(f) -> bool:
    y = f(classes(), 0.5, 4)
    return bool(((y == classes()) | (y == 4)).all())


CLASS_DROPOUT = Exercise(
    name="class_dropout",
    chapter=3,
    minutes=6,
    title="labels that hide",
    prompt=(
        "For classifier-free guidance the network must know both: what this class "
        "looks like, and what any image looks like. Return the labels `y`, int64 "
        "(B,), with each one replaced by `no_class` with probability `share`, "
        "independently of the others."
    ),
    reference=hide_classes,
    lines="1-2 lines",
    cases=(dropped(0.1), dropped(0.75)),
    properties=(
        ("Labels that are not hidden should stay what they are.", rest_kept),
        (
            "Chance should decide for each label by itself, not by its class.",
            by_class,
        ),
        (
            "With share = 0 nothing, and with share = 1 everything should be hidden.",
            lambda f: (
                torch.equal(f(classes(), 0.0, 4), classes())
                and bool((f(classes(), 1.0, 4) == 4).all())
            ),
        ),
        (
            "Two calls should hide different labels.",
            lambda f: not torch.equal(*(f(classes(), 0.5, 4) for _ in "ab")),
        ),
        (
            "How many labels of a batch are hidden is left to chance, too: of four, "
            "any number from none to all.",
            counts,
        ),
        (
            "Chance should decide for each label by itself, not for whole blocks.",
            lambda f: (
                9_000
                < int((f(classes(), 0.5, 4) == 4).long().diff().abs().sum())
                < 11_000
            ),
        ),
    ),
    hints=(
        "torch.rand(y.shape, device=y.device) is a number between 0 and 1 for each "
        "label. With which probability is it below share?",
        "hidden = torch.rand(y.shape) < share is true for the labels to replace.",
        "torch.where(hidden, no_class, y), or y.masked_fill(hidden, no_class)",
    ),
    misconceptions={
        "share kept": (
            lambda y, share, none: torch.where(torch.rand(y.shape) > share, none, y),
            "the share was kept and the rest hidden; the comparison points the wrong "
            "way",
        ),
        "all or none": (
            lambda y, share, none: (
                torch.full_like(y, none) if torch.rand(()) < share else y
            ),
            "one draw decided for the whole batch; each label needs its own",
        ),
        "set to zero": (
            lambda y, share, none: torch.where(torch.rand(y.shape) < share, 0, y),
            "hidden labels became 0, which is a class like any other",
        ),
        "set to minus one": (
            lambda y, share, none: torch.where(torch.rand(y.shape) < share, -1, y),
            "hidden labels became -1; `no_class` is the number that stands for none",
        ),
        "removed": (
            lambda y, share, none: y[torch.rand(y.shape) >= share],
            "labels were removed; every image keeps a label, and for some it is "
            "`no_class`",
        ),
        "nothing hidden": (
            lambda y, share, none: y.clone(),
            "no label is hidden",
        ),
        "half hidden": (
            lambda y, share, none: torch.where(torch.rand(y.shape) < 0.5, none, y),
            "half of the labels are hidden, whatever the share",
        ),
        "normal noise": (
            lambda y, share, none: torch.where(torch.randn(y.shape) < share, none, y),
            "the chance came from randn, normal numbers; rand gives uniform ones",
        ),
    },
    source=(hide_classes, LatentDiffusion._hide),
)


def guidance(cond: Tensor, uncond: Tensor, guidance_scale: float) -> Tensor:
    """Classifier-free guidance: scale 1 is ``cond``, scale 0 is ``uncond``."""
    return uncond + guidance_scale * (cond - uncond)


GUIDANCE = Exercise(
    name="guidance",
    chapter=3,
    minutes=3,
    title="classifier-free guidance",
    prompt=(
        "`cond` and `uncond` are the network's predictions with and without the class. "
        "Start at `uncond` and go `guidance_scale` times the way to `cond`: scale 1 "
        "gives `cond`, scale 0 gives `uncond`, and more than 1 exaggerates the class."
    ),
    reference=guidance,
    cases=(
        Case(lambda: (first(3.0), first(1.0), 2.0), expected=first(5.0)),
        Case(lambda: (first(3.0), first(1.0), 0.5), expected=first(2.0)),
        Case(lambda: (first(3.0), first(1.0), 0.0), expected=first(1.0)),
        Case(lambda: (first(3.0), first(1.0), 1.0), expected=first(3.0)),
        Case(lambda: (randn(1, 2, 4, 3, 5), randn(2, 2, 4, 3, 5), 7.5)),
    ),
    hints=(
        "The way from uncond to cond is cond - uncond.",
        "Go the whole way and you are at cond; go twice as far and you are beyond it.",
        "uncond + guidance_scale * (cond - uncond)",
    ),
    misconceptions={
        "terms exchanged": (
            lambda c, u, s: c + s * (u - c),
            "the two predictions are exchanged: scale 1 should give cond",
        ),
        "paper's w": (
            lambda c, u, s: c + s * (c - u),
            "this starts at cond, so scale 0 is the plain model: that is the w of Ho & "
            "Salimans, and s = w + 1",
        ),
        "difference turned": (
            lambda c, u, s: u + s * (u - c),
            "the difference points from cond to uncond, away from the class",
        ),
        "conditional scaled": (
            lambda c, u, s: s * c,
            "uncond has no effect: guidance needs both predictions",
        ),
        "difference alone": (
            lambda c, u, s: s * (c - u),
            "the start, uncond, was not added",
        ),
        "one less": (
            lambda c, u, s: u + (s - 1) * (c - u),
            "this goes s - 1 times the way; scale 1 should arrive at cond",
        ),
        "not weighed": (
            lambda c, u, s: s * c - u,
            "uncond should be weighed with 1 - s, so that the weights add up to one",
        ),
        "added": (
            lambda c, u, s: u + s * c,
            "cond was added to uncond; the difference of the two is",
        ),
    },
    source=(guidance, samplers.guided),
)


def min_snr_weight(snr: Tensor, gamma: float) -> Tensor:
    """Weight of the eps loss at times of this signal-to-noise ratio (Hang et al. 2023,
    arXiv:2303.09556, sec. 3.4)."""
    return snr.clamp(max=gamma) / snr


def ratios() -> Tensor:
    return torch.tensor([0.01, 0.5, 5.0, 50.0, 1000.0])


MIN_SNR = Exercise(
    name="min_snr",
    chapter=3,
    minutes=6,
    title="min-SNR weights",
    prompt=(
        "Early times, where hardly any noise is left, teach little and count as much "
        "as all others in the plain loss. Hang et al. (2023) bound them: measured on "
        "$z_0$, a time gets the weight $\\min(\\mathrm{SNR}, \\gamma)$. A network that "
        "predicts the *noise* has an error of $z_0$ that is $1 / \\mathrm{SNR}$ times "
        "its own, squared, so its loss takes $\\min(\\mathrm{SNR}, \\gamma) / "
        "\\mathrm{SNR}$. Return that for the ratios `snr` (B,)."
    ),
    reference=min_snr_weight,
    cases=(
        Case(
            lambda: (torch.tensor([1.0, 5.0, 10.0]), 5.0),
            expected=torch.tensor([1.0, 1.0, 0.5]),
        ),
        Case(lambda: (ratios(), 5.0)),
        Case(lambda: (ratios(), 2.5)),
    ),
    hints=(
        "The minimum of a tensor and a number is .clamp(max=gamma).",
        "Noisy times have a small SNR: there the minimum is the SNR itself, and the "
        "weight 1.",
        "snr.clamp(max=gamma) / snr",
    ),
    misconceptions={
        "for x0": (
            lambda snr, gamma: snr.clamp(max=gamma),
            "this is the weight for a network that predicts x0; for the noise divide "
            "by the SNR",
        ),
        "for v": (
            lambda snr, gamma: snr.clamp(max=gamma) / (snr + 1),
            "this is the weight for a network that predicts v; for the noise divide by "
            "the SNR alone",
        ),
        "maximum": (
            lambda snr, gamma: snr.clamp(min=gamma) / snr,
            "the maximum was taken; the minimum bounds the weight",
        ),
        "no bound": (
            lambda snr, gamma: gamma / snr,
            "the minimum is missing: noisy times would weigh without bound",
        ),
        "multiplied": (
            lambda snr, gamma: snr.clamp(max=gamma) * snr,
            "multiplied by the SNR; divide",
        ),
        "upside down": (
            lambda snr, gamma: snr / snr.clamp(max=gamma),
            "the fraction is upside down: times with little noise should count less",
        ),
        "one over": (
            lambda snr, gamma: 1 / snr.clamp(max=gamma),
            "this is one over the minimum",
        ),
    },
)


def ema_update(average: Tensor, current: Tensor, decay: float) -> Tensor:
    """The new average: a share ``decay`` of the old one and the rest of ``current``."""
    return torch.lerp(current, average, decay)


EMA = Exercise(
    name="ema",
    chapter=3,
    minutes=3,
    title="an average of the weights",
    prompt=(
        "Samples come from an exponential moving average of the weights. Return the "
        "new average: a share `decay`, such as 0.999, of the old `average`, and the "
        "rest of the `current` weights."
    ),
    reference=ema_update,
    cases=(
        Case(
            lambda: (torch.tensor([1.0]), torch.tensor([2.0]), 0.9),
            expected=torch.tensor([1.1]),
        ),
        Case(lambda: (randn(1, 5, 3), randn(2, 5, 3), 0.99)),
        Case(lambda: (randn(3, 4), randn(4, 4), 0.0)),
    ),
    hints=(
        "The two shares add up to one.",
        "decay is close to 1 so that the average moves slowly: it belongs to the old "
        "average.",
        "decay * average + (1 - decay) * current",
    ),
    misconceptions={
        "shares exchanged": (
            lambda a, c, d: (1 - d) * a + d * c,
            "the shares are exchanged: with decay 0.999 the average would forget "
            "nearly everything at each step",
        ),
        "not normalised": (
            lambda a, c, d: d * a + c,
            "current needs the share 1 - decay; so the average grows without bound",
        ),
        "plain mean": (
            lambda a, c, d: (a + c) / 2,
            "this is the plain mean of the two, whatever the decay",
        ),
        "added": (
            lambda a, c, d: a + (1 - d) * c,
            "the old average needs the share decay; so it grows without bound",
        ),
        "difference turned": (
            lambda a, c, d: a + (1 - d) * (a - c),
            "the average moves away from the current weights: the difference is turned",
        ),
    },
)


def latents_from_cache(
    moments: Tensor, eps: Tensor, mean: Tensor, std: Tensor
) -> Tensor:
    """Latents of unit scale, sampled with ``eps`` from cached moments (B, 2C, h, w)."""
    q = DiagonalGaussian(*moments.chunk(2, dim=1))
    return (q.mu + q.std * eps - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)


def a_cache() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    mean, std = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.5, 2.0, 3.0])
    return randn(1, 2, 6, 4, 5), randn(2, 2, 3, 4, 5), mean, std


def from_cache(scale=None, norm=None, halves=None):
    """Latents from a cache, with a slip in one of the three steps."""

    def f(moments, eps, mean, std):
        mean, std = mean.view(-1, 1, 1), std.view(-1, 1, 1)
        mu, logvar = halves(moments) if halves else moments.chunk(2, dim=1)
        raw = mu + (scale(logvar) if scale else (0.5 * logvar).exp()) * eps
        return norm(raw, mean, std) if norm else (raw - mean) / std

    return f


CACHED = Exercise(
    name="cached_latents",
    chapter=3,
    minutes=8,
    title="latents from the cache",
    prompt=(
        "The cache holds for each image what the frozen encoder puts out: `moments` "
        "(B, 2C, h, w), the mean in the first C channels and the logvar in the others. "
        "Make of it a training latent: sample with the noise `eps` (B, C, h, w), then "
        "bring it to unit scale with the codec's `mean` and `std`, both (C,)."
    ),
    reference=latents_from_cache,
    lines="3 lines",
    cases=(
        Case(
            lambda: (
                torch.tensor([5.0, 2 * math.log(2.0)]).view(1, 2, 1, 1),
                first(1.0),
                torch.tensor([1.0]),
                torch.tensor([3.0]),
            ),
            expected=first(2.0),
            note="moments = [5, ln 4] (μ = 5, σ = 2), eps = 1, mean = [1], std = [3]",
        ),
        Case(a_cache, note="random moments (2, 6, 4, 5), three channels"),
    ),
    hints=(
        "mu, logvar = moments.chunk(2, dim=1) cuts the channels in two.",
        "Chapter 1's reparameterise(mu, logvar, eps) samples, chapter 2's "
        "normalise(raw, mean, std) scales.",
        "raw = mu + (0.5 * logvar).exp() * eps, then (raw - mean.view(-1, 1, 1)) / "
        "std.view(-1, 1, 1)",
    ),
    misconceptions={
        "variance as sigma": (
            from_cache(scale=lambda logvar: logvar.exp()),
            "exp(logvar) is the variance; the noise is scaled with its root",
        ),
        "logvar as sigma": (
            from_cache(scale=lambda logvar: logvar),
            "logvar was used as if it were σ",
        ),
        "no sampling": (
            from_cache(scale=torch.zeros_like),
            "the noise has no effect: every epoch would see the very same latents",
        ),
        "unit noise": (
            from_cache(scale=torch.ones_like),
            "the noise is not scaled: logvar has no effect",
        ),
        "not normalised": (
            from_cache(norm=lambda raw, mean, std: raw),
            "these are raw latents; mean and std were not used",
        ),
        "multiplied": (
            from_cache(norm=lambda raw, mean, std: (raw - mean) * std),
            "multiplied by std; divide",
        ),
        "the way back": (
            from_cache(norm=lambda raw, mean, std: raw * std + mean),
            "this is the way back, from unit scale to raw latents",
        ),
        "scaled twice": (
            from_cache(norm=lambda raw, mean, std: (raw - mean) / std**2),
            "the scale was applied twice",
        ),
        "along the columns": (
            lambda moments, eps, mean, std: (
                (
                    moments.chunk(2, dim=1)[0]
                    + (0.5 * moments.chunk(2, dim=1)[1]).exp() * eps
                    - mean
                )
                / std
            ),
            "mean and std, (C,), were lined up with the columns, not with the channels",
        ),
        "halves exchanged": (
            from_cache(halves=lambda m: m.chunk(2, dim=1)[::-1]),
            "mean and logvar are exchanged: the mean is in the first channels",
        ),
        "every other channel": (
            from_cache(halves=lambda m: (m[:, ::2], m[:, 1::2])),
            "every other channel was taken; the first half of them is the mean",
        ),
        "only the mean normalised": (
            lambda moments, eps, mean, std: (
                (moments.chunk(2, dim=1)[0] - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
                + (0.5 * moments.chunk(2, dim=1)[1]).exp() * eps
            ),
            "only the mean was brought to unit scale; the sample, noise included, "
            "should be",
        ),
    },
    source=(latents_from_cache, CachedLatentTraining),
)

EXERCISES = (
    ADD_NOISE,
    V_TARGET,
    X0,
    TIME_EMBEDDING,
    CACHED,
    MIN_SNR,
    EMA,
    POSTERIOR,
    DDPM_STEP,
    DDIM_STEP,
    SAMPLER,
    CLASS_DROPOUT,
    GUIDANCE,
)
