"""Exercises on the way back with fresh noise: the posterior and the DDPM step."""

import torch
from torch import Tensor

from ldm_tutorial import samplers
from ldm_tutorial.teach.task import Case, Exercise
from ldm_tutorial.teach.tasks.inputs import a_step, column, first, mean_and_std, noised


def posterior(
    z_t: Tensor, x0: Tensor, alpha_bar_t: Tensor, alpha_bar_s: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and variance of q(z_s | z_t, z_0 = x0), s < t (Ho et al. 2020, eq. 7)."""
    alpha = alpha_bar_t / alpha_bar_s
    beta = 1 - alpha
    mean = alpha_bar_s.sqrt() * beta * x0 + alpha.sqrt() * (1 - alpha_bar_s) * z_t
    variance = beta * (1 - alpha_bar_s) / (1 - alpha_bar_t)
    return mean / (1 - alpha_bar_t), variance


def by_hand() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """α = 0.64, β = 0.36; mean (0.18 x0 + 0.6 z_t) / 0.84, variance 0.27 / 0.84."""
    return first(1.0), first(2.0), column(0.16), column(0.25)


def cumulative_for_step(z_t, x0, a_t, a_s):
    """ᾱ_t where the single step's α belongs."""
    beta = 1 - a_t
    mean = (a_s.sqrt() * beta * x0 + a_t.sqrt() * (1 - a_s) * z_t) / (1 - a_t)
    return mean, beta * (1 - a_s) / (1 - a_t)


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
            "no root at z_t": (from_x0 * x0 + alpha * (1 - a_s) * z_t) / (1 - a_t),
            "no root at x0": (a_s * beta * x0 + from_z * z_t) / (1 - a_t),
            "bar at z_t": (from_x0 * x0 + a_t.sqrt() * (1 - a_s) * z_t) / (1 - a_t),
            "by 1 - a_s": (from_x0 * x0 + from_z * z_t) / (1 - a_s),
            "forward": z_t / alpha.sqrt(),
            "by variances": (
                (1 - a_s) * a_s.sqrt() * x0 + beta / alpha * z_t / alpha.sqrt()
            )
            / (1 - a_s + beta / alpha),
        }
        variances = {"": v, "beta": beta, "std": v.sqrt(), "log": v.log()}
        variances["turned"] = beta * (1 - a_t) / (1 - a_s)
        variances["precision"] = 1 / v
        variances["undivided"] = beta * (1 - a_s)
        return means[mean], variances[variance]

    return f


POSTERIOR = Exercise(
    name="posterior",
    chapter=3,
    difficulty=3,
    trains="Bayes' rule for Gaussians, and a step of any length",
    title="the posterior of one step back",
    prompt=(
        "Return the mean and the variance, as a pair, of $q(z_s \\mid z_t, z_0)$ for "
        "a step back from $t$ to $s < t$. It is a product of two Gaussians in $z_s$. "
        "The first, given $z_0$, has mean $\\sqrt{\\bar\\alpha_s}\\,z_0$ and variance "
        "$1 - \\bar\\alpha_s$. The second comes from $z_t = \\sqrt\\alpha\\,z_s + "
        "\\sqrt\\beta\\,\\varepsilon$, with the step's own $\\alpha = "
        "\\bar\\alpha_t / \\bar\\alpha_s$ and $\\beta = 1 - \\alpha$: it has mean "
        "$z_t / \\sqrt\\alpha$ and variance $\\beta / \\alpha$. In a product of "
        "Gaussians the precisions (one over the variance) add up, and the mean is "
        "the mean of the two weighed by their precisions. Simplify before you write, "
        "for at the last step $\\bar\\alpha_s = 1$, and nothing may be divided by "
        "$1 - \\bar\\alpha_s$. `z_t` and `x0` have shape (B, C, h, w), `alpha_bar_t` "
        "and `alpha_bar_s` (B, 1, 1, 1), and so has the variance."
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
        Case(
            lambda: tuple(a.double() for a in a_step()),
            note="random arrays of float64",
        ),
        Case(a_step),
    ),
    properties=(
        (
            "A step to the end (alpha_bar_s = 1) should give x0 and variance 0.",
            lambda f: ends_in_x0(f),
        ),
    ),
    hints=(
        "The precision is 1 / (1 - ᾱ_s) + α / β. Over one denominator the numerator "
        "is β + α - α ᾱ_s, and that is 1 - ᾱ_t.",
        "So the variance is β times a ratio of 1 - ᾱ at the two times. Which stands "
        "above, so that it vanishes where ᾱ_s = 1?",
        "The mean is that variance times the sum of mean over variance. In each of "
        "the two terms something cancels: beside x0 a β stays and 1 - ᾱ_s goes, "
        "beside z_t it is the other way round; both stand over 1 - ᾱ_t.",
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
        "root of alpha missing": (
            posterior_slip(mean="no root at z_t"),
            "in the mean the factor of z_t holds the root of α; the root is missing",
        ),
        "root of alpha-bar missing": (
            posterior_slip(mean="no root at x0"),
            "in the mean the factor of x0 holds the root of ᾱ_s; the root is missing",
        ),
        "root of alpha-bar at z_t": (
            posterior_slip(mean="bar at z_t"),
            "the factor of z_t holds the root of the step's own α = ᾱ_t / ᾱ_s, not "
            "that of ᾱ_t",
        ),
        "divided by 1 - alpha-bar at s": (
            posterior_slip(mean="by 1 - a_s"),
            "the mean is divided by 1 - ᾱ_t, not by 1 - ᾱ_s",
        ),
        "likelihood alone": (
            posterior_slip(mean="forward"),
            "the mean is that of the second Gaussian alone; x0 has its say, too",
        ),
        "weighed by variances": (
            posterior_slip(mean="by variances"),
            "the two means were weighed by their variances; the precisions are one "
            "over them",
        ),
        "precision": (
            posterior_slip(variance="precision"),
            "the second result is the precision; the variance is one over it",
        ),
        "variance undivided": (
            posterior_slip(variance="undivided"),
            "the variance has to be divided by 1 - ᾱ_t",
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
        "variance turned": (
            posterior_slip(variance="turned"),
            "in the variance the ratio is turned: 1 - ᾱ_s stands above, so that it "
            "vanishes at the end",
        ),
    },
)


def draws(z: float, x0: float, a_t: float, a_s: float):
    """Many equal arrays, so that the moments of what is drawn can be compared."""
    shape = (10, 4, 50, 50)
    return lambda: (
        torch.full(shape, z),
        torch.full(shape, x0),
        torch.full((10, 1, 1, 1), a_t),
        torch.full((10, 1, 1, 1), a_s),
    )


def ends_in_x0(f) -> bool | str:
    mean, variance = f(first(3.0), first(2.0), column(0.5), column(1.0))
    if not bool(mean.isfinite().all() and variance.isfinite().all()):
        return (
            "at the last step it divides by 0, for 1 - ᾱ_s is 0 there: simplify until "
            "nothing is divided by it"
        )
    return torch.allclose(mean, first(2.0)) and float(variance.abs().max()) < 1e-6


DRAWS = "mean and standard deviation of 100,000 draws with z_t = {}, x0 = {}, "
DRAWS += "alpha_bar_t = {}, alpha_bar_s = {}"


def moments_case(z: float, x0: float, a_t: float, a_s: float) -> Case:
    return Case(
        draws(z, x0, a_t, a_s),
        measure=mean_and_std,
        note=DRAWS.format(*(f"{value:g}" for value in (z, x0, a_t, a_s))),
        atol=0.01,
        rtol=0.0,
    )


def drawn(scale):
    """A step whose noise is scaled by a function of (a_t, a_s)."""

    def f(z_t, x0, a_t, a_s):
        mean, _ = posterior(z_t, x0, a_t, a_s)
        return mean + scale(a_t, a_s) * torch.randn_like(z_t)

    return f


def step_variance(a_t: Tensor, a_s: Tensor) -> Tensor:
    return (1 - a_t / a_s) * (1 - a_s) / (1 - a_t)


def sources(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def twice(f, first: torch.Generator, second: torch.Generator) -> bool:
    """Whether two draws are the same."""
    return torch.equal(*(f(*draws(1.0, 2.0, 0.1, 0.2)(), g) for g in (first, second)))


def one_after_another(f) -> bool:
    """Whether two draws with one generator differ."""
    generator = sources()
    return not twice(f, generator, generator)


def many_alphas() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ten images that are at ten different times."""
    z_t, x0, _, _ = draws(1.0, -1.0, 0.5, 0.9)()
    which = torch.linspace(-1.0, 2.0, 10).view(-1, 1, 1, 1)
    z_t, x0 = z_t + which, x0 - which.square()
    a_t = torch.linspace(0.05, 0.6, 10).view(-1, 1, 1, 1)
    return z_t, x0, a_t, (a_t + 0.3).flip(0).maximum(a_t + 0.05)


def image_by_image(z: Tensor) -> Tensor:
    return torch.stack([z.mean((1, 2, 3)), z.std((1, 2, 3))])


DDPM_STEP = Exercise(
    name="ddpm_step",
    chapter=3,
    difficulty=1,
    trains="a draw from a Gaussian, with dice of one's own",
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
        Case(
            many_alphas,
            measure=image_by_image,
            note="ten images at times of their own, mean and standard deviation of "
            "10,000 draws each",
            atol=0.05,
            rtol=0.0,
        ),
    ),
    properties=(
        (
            "Each element needs noise of its own, also within an image.",
            lambda f: all(
                float(f(*draws(0.0, 0.0, 0.16, 0.25)()).std(d).mean()) > 0.1
                for d in (1, 2, 3)
            ),
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
            lambda f: twice(f, sources(), sources()),
        ),
        (
            "Generators with different seeds should give different draws, and so "
            "should two calls with one generator: leave its seed alone.",
            lambda f: not twice(f, sources(1), sources(2)) and one_after_another(f),
        ),
        (
            "The last step (alpha_bar_s = 1) should give x0, without noise.",
            lambda f: torch.allclose(
                f(*a_step()[:3], column(1.0, 1.0, 1.0)), a_step()[1], atol=1e-4
            ),
        ),
    ),
    hints=(
        "mean, variance = posterior(z_t, x0, alpha_bar_t, alpha_bar_s)",
        "Noise of variance v is standard normal noise times the root of v.",
        "Add that noise to the mean, and hand `generator` on to torch.randn.",
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
