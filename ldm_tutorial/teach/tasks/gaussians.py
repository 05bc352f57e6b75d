"""Exercises on the encoder's Gaussian: a sample of it, its divergence."""

import math

import torch
from torch import Tensor

from ldm_tutorial.gaussian import DiagonalGaussian
from ldm_tutorial.teach.task import Case, Exercise
from ldm_tutorial.teach.tasks.inputs import randn


def reparameterise(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    return mu + DiagonalGaussian(mu, logvar).std * eps


def half_log(sigma: float) -> Tensor:
    """The logvar of a standard deviation."""
    return torch.tensor([2 * math.log(sigma)])


REPARAMETERISE = Exercise(
    name="reparameterise",
    chapter=1,
    difficulty=1,
    trains="a sample that gradients pass through",
    title="a sample through which gradients pass",
    prompt=(
        "The encoder puts out the mean `mu` and the logarithm of the *variance* "
        "`logvar`; `eps` is standard normal noise. All three have one shape. Return a "
        "sample of $\\mathcal N(\\mu, \\sigma^2)$ that is made of `eps`, above the "
        "mean where `eps` is positive, so that gradients reach `mu` and `logvar`."
    ),
    reference=reparameterise,
    cases=(
        Case(
            lambda: (torch.tensor([5.0]), half_log(2.0), torch.tensor([1.0])),
            expected=torch.tensor([7.0]),
            note="mu = [5], logvar = [ln 4] (so σ = 2), eps = [1]",
        ),
        Case(
            lambda: (torch.tensor([5.0]), half_log(2.0), torch.tensor([-3.0])),
            expected=torch.tensor([-1.0]),
            note="mu = [5], logvar = [ln 4] (so σ = 2), eps = [-3]",
        ),
        Case(
            lambda: (randn(1, 2, 4, 4, 4), randn(2, 2, 4, 4, 4), randn(3, 2, 4, 4, 4))
        ),
    ),
    gradient=("mu", "logvar"),
    hints=(
        "Shift and scale: a standard normal number times σ, plus μ, is normal with "
        "mean μ and standard deviation σ.",
        "logvar = ln σ². So σ² = exp(logvar), and σ is its square root.",
        "The root of an exponential is the exponential of half the exponent. Shift "
        "by mu, and scale eps with that.",
    ),
    misconceptions={
        "logvar as sigma": (
            lambda mu, logvar, eps: mu + logvar * eps,
            "logvar was used as if it were σ; it is the logarithm of σ²",
        ),
        "variance as sigma": (
            lambda mu, logvar, eps: mu + logvar.exp() * eps,
            "exp(logvar) is the variance; the noise is scaled with its root, σ",
        ),
        "root of logvar": (
            lambda mu, logvar, eps: mu + logvar.sqrt() * eps,
            "the root was taken of the logarithm; take exp first",
        ),
        "noise not scaled": (
            lambda mu, logvar, eps: mu + eps,
            "the noise is not scaled: logvar has no effect",
        ),
        "one over sigma": (
            lambda mu, logvar, eps: mu + (-0.5 * logvar).exp() * eps,
            "the noise is divided by σ; the sign in the exponent is wrong",
        ),
        "mean alone": (
            lambda mu, logvar, eps: mu.clone(),
            "this is the mean alone: eps has no effect, so nothing is sampled",
        ),
        "mean scaled": (
            lambda mu, logvar, eps: (0.5 * logvar).exp() * (mu + eps),
            "σ scales the mean as well; only the noise is scaled",
        ),
        "fresh noise": (
            lambda mu, logvar, eps: mu + (0.5 * logvar).exp() * torch.randn_like(mu),
            "fresh noise was drawn; the sample should be made of eps",
        ),
        "half outside": (
            lambda mu, logvar, eps: mu + 0.5 * logvar.exp() * eps,
            "the half stands outside: σ is exp(logvar / 2), not exp(logvar) / 2",
        ),
        "logvar doubled": (
            lambda mu, logvar, eps: mu + (2 * logvar).exp() * eps,
            "logvar was doubled; the root of an exponential has half the exponent",
        ),
        "half inside the root": (
            lambda mu, logvar, eps: mu + (logvar.exp() / 2).sqrt() * eps,
            "the variance was halved as well: its root is σ already",
        ),
    },
    source=(vars(DiagonalGaussian)["std"].fget, DiagonalGaussian.sample),
)


def kl_to_standard_normal(mu: Tensor, logvar: Tensor) -> Tensor:
    return DiagonalGaussian(mu, logvar).kl()


def one(value: float) -> Tensor:
    return torch.tensor([value])


KL = Exercise(
    name="kl",
    chapter=2,
    difficulty=2,
    trains="from two expectations to a loss",
    title="the KL divergence from the standard normal",
    prompt=(
        "The divergence is the difference of the two averages in $(2.4)$, $\\mathbb "
        "E_q[\\log q] - \\mathbb E_q[\\log p]$. Simplify it, and write it for each "
        "latent element by itself, in nats. `mu` and `logvar` ($\\ln \\sigma^2$) "
        "have one shape, and so has the result: no sum, no mean. Guess first: for "
        "which $\\mu$ and $\\sigma$ is it zero?"
    ),
    reference=kl_to_standard_normal,
    cases=(
        Case(lambda: (one(0.0), one(0.0)), expected=one(0.0)),
        Case(lambda: (one(2.0), one(0.0)), expected=one(2.0)),
        Case(
            lambda: (one(0.0), one(math.log(4.0))),
            expected=one(1.5 - math.log(2.0)),
            note="mu = [0], logvar = [ln 4] (so σ = 2)",
        ),
        Case(lambda: (one(20.0), one(0.0)), expected=one(200.0)),
        Case(lambda: (randn(1, 2, 4, 3, 3), randn(2, 2, 4, 3, 3))),
    ),
    gradient=("mu", "logvar"),
    properties=(
        (
            "A KL divergence is never negative.",
            lambda f: bool((f(randn(3, 500), 2 * randn(4, 500)) >= -1e-4).all()),
        ),
    ),
    hints=(
        "Both averages begin with the same ln 2π: it cancels. Mind the minus in "
        "front of either bracket.",
        "ln σ² is logvar itself, and σ² is logvar.exp(): no root is needed.",
        "Four terms are left, and a half before all of them: two come with a plus, "
        "two with a minus. μ = 0 and σ = 1 must give 0, and nothing may give less.",
    ),
    misconceptions={
        "half missing": (
            lambda mu, logvar: mu**2 + logvar.exp() - 1 - logvar,
            "the factor ½ is missing",
        ),
        "sign": (
            lambda mu, logvar: -0.5 * (mu**2 + logvar.exp() - 1 - logvar),
            "the sign is wrong: this is minus the divergence, which is never negative",
        ),
        "mean over elements": (
            lambda mu, logvar: (0.5 * (mu**2 + logvar.exp() - 1 - logvar)).mean(),
            "the mean over all elements was taken; each element is asked for by itself",
        ),
        "sum over elements": (
            lambda mu, logvar: (0.5 * (mu**2 + logvar.exp() - 1 - logvar)).sum(),
            "the elements were summed; each is asked for by itself",
        ),
        "sum per image": (
            lambda mu, logvar: (0.5 * (mu**2 + logvar.exp() - 1 - logvar)).sum(
                tuple(range(1, mu.ndim))
            ),
            "the elements of each image were summed; each is asked for by itself",
        ),
        "logvar as sigma": (
            lambda mu, logvar: 0.5 * (mu**2 + logvar**2 - 1 - 2 * logvar.abs().log()),
            "logvar was used as if it were σ; it is the logarithm of σ²",
        ),
        "logvar as log sigma": (
            lambda mu, logvar: 0.5 * (mu**2 + (2 * logvar).exp() - 1 - 2 * logvar),
            "logvar was used as ln σ; it is ln σ², so σ² = exp(logvar)",
        ),
        "logvar as variance": (
            lambda mu, logvar: 0.5 * (mu**2 + logvar - 1 - logvar.log()),
            "logvar was used as if it were σ²; it is its logarithm",
        ),
        "sigma for its square": (
            lambda mu, logvar: 0.5 * (mu**2 + (0.5 * logvar).exp() - 1 - logvar),
            "exp(logvar / 2) is σ; the formula has σ² in that place",
        ),
        "one missing": (
            lambda mu, logvar: 0.5 * (mu**2 + logvar.exp() - logvar),
            "the -1 is missing: the prior itself must be at divergence 0",
        ),
        "plus one": (
            lambda mu, logvar: 0.5 * (mu**2 + logvar.exp() + 1 - logvar),
            "the 1 is subtracted, not added: the prior itself must be at divergence 0",
        ),
        "plus logvar": (
            lambda mu, logvar: 0.5 * (mu**2 + logvar.exp() - 1 + logvar),
            "the logarithm is subtracted: a sharp Gaussian is expensive",
        ),
        "mean not squared": (
            lambda mu, logvar: 0.5 * (mu + logvar.exp() - 1 - logvar),
            "the mean has to be squared",
        ),
        "the other direction": (
            lambda mu, logvar: 0.5 * ((mu**2 + 1) * (-logvar).exp() - 1 + logvar),
            "this is KL(N(0, 1) ‖ q), the other direction; the divergence is of q from "
            "the prior",
        ),
        "in bits": (
            lambda mu, logvar: 0.5 * (mu**2 + logvar.exp() - 1 - logvar) / math.log(2),
            "these are bits; nats are asked for",
        ),
        "half at the mean alone": (
            lambda mu, logvar: 0.5 * mu**2 + logvar.exp() - 1 - logvar,
            "the ½ stands before the first term alone: brackets are missing",
        ),
        "half missing at the end": (
            lambda mu, logvar: 0.5 * (mu**2 + logvar.exp() - 1) - logvar,
            "the logarithm stands outside the brackets: it is halved, too",
        ),
        "signs in the bracket": (
            lambda mu, logvar: -0.5 * (1 + logvar - mu**2 + logvar.exp()),
            "in -½ (1 + logvar - μ² - σ²) the last sign is a minus",
        ),
        "mean subtracted": (
            lambda mu, logvar: 0.5 * (-(mu**2) + logvar.exp() - 1 - logvar),
            "μ² is added: a mean far from 0 is expensive",
        ),
        "absolute value": (
            lambda mu, logvar: 0.5 * (mu.abs() + logvar.exp() - 1 - logvar),
            "the absolute value of the mean was taken; the mean has to be squared",
        ),
    },
    source=(DiagonalGaussian.kl,),
)
