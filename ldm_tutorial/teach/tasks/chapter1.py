"""Exercises of chapter 1: measuring images, and what an autoencoder is trained on."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ldm_tutorial import metrics
from ldm_tutorial.gaussian import DiagonalGaussian
from ldm_tutorial.teach.task import Case, Exercise
from ldm_tutorial.teach.tasks.inputs import randn
from ldm_tutorial.training import losses


def psnr(x_hat: Tensor, x: Tensor) -> Tensor:
    return metrics.psnr(x_hat, x)


def images(seed: int, batch: int = 3) -> tuple[Tensor, Tensor]:
    """Images and reconstructions that are better for the first than for the last."""
    x = randn(seed, batch, 3, 6, 8).clamp(-1, 1)
    error = torch.linspace(0.05, 0.3, batch).view(-1, 1, 1, 1)
    return (x + error * randn(seed + 1, batch, 3, 6, 8)).clamp(-1, 1), x


def mse(x_hat: Tensor, x: Tensor) -> Tensor:
    return (x_hat - x).square().mean((1, 2, 3))


PSNR = Exercise(
    name="psnr",
    chapter=1,
    minutes=5,
    title="an error in decibels",
    prompt=(
        "Write the PSNR of each image of a batch: `x_hat` and `x` have shape "
        "(B, 3, H, W) and values in $[-1, 1]$, the result has shape (B,) and is in "
        "decibels. Take the mean squared error of each image by itself; the peak is "
        "the whole range of the values."
    ),
    reference=psnr,
    lines="2 lines",
    cases=(
        Case(
            lambda: (torch.full((1, 3, 2, 2), 0.2), torch.zeros(1, 3, 2, 2)),
            expected=torch.tensor([20.0]),
            note="x = 0 and x_hat = 0.2 everywhere",
        ),
        Case(lambda: images(1), note="three random images, the last the worst"),
    ),
    hints=(
        "The squared error of an image is a mean over its channels, rows and columns, "
        "but not over the batch: .mean((1, 2, 3)) or .flatten(1).mean(1).",
        "PSNR compares the square of the peak with that error: peak**2 / mse. Values "
        "run from -1 to 1, so the peak is 2.",
        "10 times the logarithm to base 10: 10 * torch.log10(4 / mse).",
    ),
    misconceptions={
        "peak of one": (
            lambda x_hat, x: 10 * torch.log10(1 / mse(x_hat, x)),
            "the peak is 2, the whole range from -1 to 1, and 1 was taken",
        ),
        "peak not squared": (
            lambda x_hat, x: 10 * torch.log10(2 / mse(x_hat, x)),
            "the peak has to be squared, like the error it is compared with",
        ),
        "peak of 255": (
            lambda x_hat, x: 10 * torch.log10(255**2 / mse(x_hat, x)),
            "255 is the peak of 8-bit images; here values run from -1 to 1",
        ),
        "natural logarithm": (
            lambda x_hat, x: 10 * torch.log(4 / mse(x_hat, x)),
            "decibels use the logarithm to base 10, and this is the natural one",
        ),
        "one number for the batch": (
            lambda x_hat, x: 10 * torch.log10(4 / (x_hat - x).square().mean()),
            "the error was averaged over the batch too; each image has its own PSNR",
        ),
        "error not squared": (
            lambda x_hat, x: 10 * torch.log10(4 / (x_hat - x).abs().mean((1, 2, 3))),
            "the error is the mean absolute one; PSNR wants the squared one",
        ),
        "root of the error": (
            lambda x_hat, x: 10 * torch.log10(4 / mse(x_hat, x).sqrt()),
            "a square root was taken of the error but not of the peak's square",
        ),
        "20 in place of 10": (
            lambda x_hat, x: 20 * torch.log10(4 / mse(x_hat, x)),
            "20 log10 is for amplitudes; peak² / MSE is a ratio of squares already, "
            "so it takes 10",
        ),
        "sum in place of mean": (
            lambda x_hat, x: 10 * torch.log10(4 / (x_hat - x).square().sum((1, 2, 3))),
            "the squared error was summed; PSNR takes its mean per value",
        ),
        "fraction upside down": (
            lambda x_hat, x: 10 * torch.log10(mse(x_hat, x) / 4),
            "the fraction is upside down: a better image must have more decibels",
        ),
    },
    source=(metrics.psnr, metrics.decibels),
)


def reparameterise(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    return mu + DiagonalGaussian(mu, logvar).std * eps


def half_log(sigma: float) -> Tensor:
    """The logvar of a standard deviation."""
    return torch.tensor([2 * math.log(sigma)])


REPARAMETERISE = Exercise(
    name="reparameterise",
    chapter=1,
    minutes=3,
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
        "The root of an exponential is the exponential of half: "
        "mu + torch.exp(0.5 * logvar) * eps.",
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
    },
    source=(DiagonalGaussian.std.fget, DiagonalGaussian.sample),
)


def compression_ratio(size: int, downsampling: int, latent_channels: int) -> float:
    """Values in an RGB image of size x size over values in its latent."""
    side = size // downsampling
    return 3 * size**2 / (latent_channels * side**2)


COMPRESSION = Exercise(
    name="compression",
    chapter=1,
    minutes=3,
    title="the effective compression ratio",
    prompt=(
        "How many times fewer numbers does the latent hold than the image? The image "
        "has 3 colours and `size` × `size` pixels, the latent `latent_channels` and "
        "$1/f$ of each side, $f$ = `downsampling`. Return values in over values out, "
        "one number, which need not be whole."
    ),
    reference=compression_ratio,
    lines="1-3 lines",
    cases=(
        Case(lambda: (64, 8, 4), expected=48.0),
        Case(lambda: (64, 16, 16), expected=48.0),
        Case(lambda: (256, 4, 3), expected=16.0),
        Case(lambda: (512, 8, 16), expected=12.0),
        Case(lambda: (96, 8, 5), expected=38.4),
    ),
    hints=(
        "Count both sides. The image has 3 · size · size values.",
        "The latent has latent_channels values at each of (size / downsampling)² "
        "places.",
        "Divide the two. The size cancels: 3 · downsampling² / latent_channels.",
    ),
    misconceptions={
        "one side only": (
            lambda size, f, C: 3 * f / C,
            "f shrinks both sides, so the number of places falls by f²",
        ),
        "channels forgotten": (
            lambda size, f, C: f**2,
            "the channels are forgotten: 3 in the image, latent_channels in the latent",
        ),
        "colours forgotten": (
            lambda size, f, C: f**2 / C,
            "the 3 colours of the image are forgotten",
        ),
        "latent channels forgotten": (
            lambda size, f, C: 3 * f**2,
            "the channels of the latent are forgotten",
        ),
        "upside down": (
            lambda size, f, C: C / (3 * f**2),
            "the fraction is upside down: values in over values out is more than 1 "
            "here",
        ),
    },
)


def recall(h_hat: Tensor, h: Tensor, mask: Tensor) -> float:
    """Slope of the shown detail over the true one, over the pixels of a mask."""
    shown, there = (h_hat * h).mean(1), (h * h).mean(1)  # (B, H, W)
    return float(shown[mask].sum() / there[mask].sum())


def details(strength: float, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """A detail, the same with another contrast and some noise, and where it is."""
    h = randn(seed, 2, 3, 6, 6)
    mask = randn(seed + 1, 2, 6, 6) > 0.3
    return strength * h + 0.3 * randn(seed + 2, 2, 3, 6, 6), h, mask


def faded(strength: float) -> tuple[Tensor, Tensor, Tensor]:
    h = randn(7, 1, 3, 4, 4)
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, 1:3, 1:3] = True
    return torch.where(mask[:, None], strength * h, torch.zeros_like(h)), h, mask


RECALL = Exercise(
    name="recall",
    chapter=1,
    minutes=8,
    title="how much of a detail is left",
    prompt=(
        "`h` and `h_hat` (B, 3, H, W) are the fine detail of images and of their "
        "reconstructions, what is left of each after subtracting its blur; `mask` "
        "(B, H, W) is true where, say, stars are. Return one number, "
        "$\\sum \\hat h\\,h \\,/ \\sum h^2$, both sums over the colours and over the "
        "pixels of the mask: 1 if the stars are as bright as they were, 0 if they are "
        "gone."
    ),
    reference=recall,
    lines="2-3 lines",
    cases=(
        Case(
            lambda: faded(1.0),
            expected=1.0,
            note="h_hat = h inside the mask, 0 outside",
        ),
        Case(
            lambda: faded(0.25),
            expected=0.25,
            note="h_hat = h / 4 inside the mask, 0 outside",
        ),
        Case(lambda: faded(-1.0), expected=-1.0, note="h_hat = -h inside the mask"),
        Case(lambda: faded(1.5), expected=1.5, note="h_hat = 1.5 h inside the mask"),
        Case(lambda: details(0.8), note="detail at 0.8 of its contrast, with noise"),
    ),
    hints=(
        "A mask (B, H, W) chooses pixels of a tensor (B, H, W): product[mask]. So get "
        "rid of the colours first, with a sum or a mean over dimension 1.",
        "Two such tensors are needed: (h_hat * h) and (h * h), each without colours.",
        "Sum first, divide last: shown[mask].sum() / there[mask].sum().",
    ),
    misconceptions={
        "mean of ratios": (
            lambda h_hat, h, mask: ((h_hat * h).sum(1) / (h * h).sum(1))[mask].mean(),
            "each pixel was divided by itself, so faint pixels, which are mostly "
            "noise, count as much as bright ones; sum first, then divide",
        ),
        "no mask": (
            lambda h_hat, h, mask: (h_hat * h).sum() / (h * h).sum(),
            "the mask has no effect: these are the sums over all pixels",
        ),
        "energy": (
            lambda h_hat, h, mask: (
                (h_hat**2).sum(1)[mask].sum() / (h**2).sum(1)[mask].sum()
            ),
            "this compares energies: noise in place of a star would count as a star; "
            "the numerator is the product of h_hat and h",
        ),
        "correlation": (
            lambda h_hat, h, mask: (
                (h_hat * h).sum(1)[mask].sum()
                / ((h_hat**2).sum(1)[mask].sum() * (h**2).sum(1)[mask].sum()).sqrt()
            ),
            "this is a correlation, which is 1 for a faded star too; divide by the sum "
            "of h² alone",
        ),
        "divided by the copy": (
            lambda h_hat, h, mask: (
                (h_hat * h).sum(1)[mask].sum() / (h_hat**2).sum(1)[mask].sum()
            ),
            "the denominator is the energy of h_hat; the original, h, is the measure",
        ),
        "mask inverted": (
            lambda h_hat, h, mask: (
                (h_hat * h).sum(1)[~mask].sum() / (h**2).sum(1)[~mask].sum()
            ),
            "these are the pixels outside the mask",
        ),
    },
    source=(recall, metrics.detail_recall),
)


def frechet(a: Tensor, b: Tensor) -> Tensor:
    """Squared Fréchet distance of the Gaussians fitted to two sets of numbers."""
    return (a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2


def numbers(seed: int, mean: float, std: float, n: int = 4000) -> Tensor:
    """Numbers with exactly this mean and standard deviation."""
    a = randn(seed, n)
    return mean + std * (a - a.mean()) / a.std()


FRECHET = Exercise(
    name="frechet",
    chapter=1,
    minutes=5,
    title="the Fréchet distance of two sets of numbers",
    prompt=(
        "Fit a Gaussian to each of two sets of numbers `a` (n,) and `b` (m,), and "
        "return the *squared* Fréchet distance between the two, "
        "$(\\mu_a - \\mu_b)^2 + \\sigma_a^2 + \\sigma_b^2 - 2\\sigma_a\\sigma_b$: the "
        "distance behind FID, for features of one dimension."
    ),
    reference=frechet,
    lines="1-2 lines",
    cases=(
        Case(
            lambda: (numbers(1, 0.0, 1.0), numbers(2, 3.0, 1.0)),
            expected=9.0,
            note="means 0 and 3, both standard deviations 1",
            rtol=2e-3,
        ),
        Case(
            lambda: (numbers(1, 0.0, 1.0), numbers(2, 0.0, 3.0)),
            expected=4.0,
            note="means 0, standard deviations 1 and 3",
            rtol=2e-3,
        ),
        Case(
            lambda: (numbers(3, -1.0, 0.5), numbers(4, 1.0, 2.0, 3000)),
            expected=6.25,
            note="means -1 and 1, standard deviations 0.5 and 2",
            rtol=2e-3,
        ),
    ),
    hints=(
        "Two numbers describe each Gaussian: .mean() and .std().",
        "The last three terms are a square: σa² + σb² - 2 σa σb = (σa - σb)².",
        "(a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2",
    ),
    misconceptions={
        "variances compared": (
            lambda a, b: (a.mean() - b.mean()) ** 2 + (a.var() - b.var()) ** 2,
            "the variances are subtracted; the distance takes the difference of the "
            "standard deviations",
        ),
        "means only": (
            lambda a, b: (a.mean() - b.mean()) ** 2,
            "only the means are compared; the spreads count too",
        ),
        "spreads only": (
            lambda a, b: (a.std() - b.std()) ** 2,
            "only the spreads are compared; the means count too",
        ),
        "root taken": (
            lambda a, b: ((a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2).sqrt(),
            "this is the distance, and the square of it is asked for, as in FID",
        ),
        "cross term missing": (
            lambda a, b: (a.mean() - b.mean()) ** 2 + a.var() + b.var(),
            "the term -2 σa σb is missing: two equal sets must be at distance 0",
        ),
        "cross term of variances": (
            lambda a, b: (
                (a.mean() - b.mean()) ** 2 + a.var() + b.var() - 2 * a.var() * b.var()
            ),
            "the last term is twice the product of the standard deviations, not of the "
            "variances",
        ),
        "not squared": (
            lambda a, b: (a.mean() - b.mean()).abs() + (a.std() - b.std()).abs(),
            "the differences have to be squared before they are added",
        ),
        "paired": (
            lambda a, b: (a - b).square().mean(),
            "the numbers were compared in pairs; the order of samples means nothing, "
            "only the two Gaussians do",
        ),
    },
)


def feature_distance(f_hat: Tensor, f: Tensor) -> Tensor:
    return losses.perceptual_distance([f_hat], [f])


def unit(f: Tensor) -> Tensor:
    return F.normalize(f, dim=1)


def one_place() -> tuple[Tensor, Tensor]:
    f_hat = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    return f_hat, torch.tensor([10.0, 0.0]).view(1, 2, 1, 1)


PERCEPTUAL = Exercise(
    name="perceptual",
    chapter=1,
    minutes=8,
    title="a distance between features",
    prompt=(
        "`f_hat` and `f` (B, C, H, W) are the feature maps that one layer of a network "
        "makes of reconstructions and of originals. Bring the C numbers at each "
        "position to unit length, take the squared difference, sum it over channels "
        "and average it over positions. The result has shape (B,). It will be a "
        "loss, so gradients have to reach `f_hat`."
    ),
    reference=feature_distance,
    lines="2-3 lines",
    cases=(
        Case(
            one_place,
            expected=torch.tensor([0.8]),
            note="features (3, 4) and (10, 0) at a single position",
        ),
        Case(lambda: (randn(1, 2, 4, 3, 5), 2 + randn(2, 2, 4, 3, 5))),
    ),
    gradient=("f_hat",),
    properties=(
        (
            "Features that are all 5 times as large should have the same distance.",
            lambda g: torch.allclose(
                g(5 * randn(1, 2, 4, 3, 3), randn(2, 2, 4, 3, 3)),
                g(randn(1, 2, 4, 3, 3), randn(2, 2, 4, 3, 3)),
                rtol=1e-3,
            ),
        ),
    ),
    hints=(
        "Unit length means: divide by the norm over the channels. keepdim=True lets it "
        "broadcast: f / f.norm(dim=1, keepdim=True).",
        "torch.nn.functional.normalize(f, dim=1) does that in one call.",
        "(unit(f_hat) - unit(f)).square() has shape (B, C, H, W): .sum(1) and then "
        ".mean((1, 2)).",
    ),
    misconceptions={
        "not normalised": (
            lambda f_hat, f: (f_hat - f).square().sum(1).mean((1, 2)),
            "the features were not brought to unit length, so loud ones drown the rest",
        ),
        "normalised over space": (
            lambda f_hat, f: (
                (
                    F.normalize(f_hat.flatten(2), dim=2)
                    - F.normalize(f.flatten(2), dim=2)
                )
                .square()
                .sum(1)
                .mean(1)
            ),
            "the length was taken over positions; each position is to have unit length "
            "over its channels",
        ),
        "normalised as a whole": (
            lambda f_hat, f: (
                (
                    f_hat / f_hat.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
                    - f / f.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
                )
                .square()
                .sum(1)
                .mean((1, 2))
            ),
            "the whole map was brought to unit length; each position should be",
        ),
        "mean over channels": (
            lambda f_hat, f: (unit(f_hat) - unit(f)).square().mean((1, 2, 3)),
            "the channels were averaged; they are summed, and positions averaged",
        ),
        "sum over positions": (
            lambda f_hat, f: (unit(f_hat) - unit(f)).square().sum((1, 2, 3)),
            "the positions were summed; a larger image would be farther away for that",
        ),
        "one number for the batch": (
            lambda f_hat, f: (unit(f_hat) - unit(f)).square().sum(1).mean(),
            "the batch was averaged too; each image has its own distance",
        ),
        "absolute difference": (
            lambda f_hat, f: (unit(f_hat) - unit(f)).abs().sum(1).mean((1, 2)),
            "the difference has to be squared",
        ),
        "root taken": (
            lambda f_hat, f: (unit(f_hat) - unit(f)).norm(dim=1).mean((1, 2)),
            "a root was taken: sum the squares over channels, and leave it at that",
        ),
        "divided by the squared norm": (
            lambda f_hat, f: (
                (
                    f_hat / f_hat.square().sum(1, keepdim=True)
                    - f / f.square().sum(1, keepdim=True)
                )
                .square()
                .sum(1)
                .mean((1, 2))
            ),
            "the features were divided by their squared length; divide by the length",
        ),
    },
    source=(losses.perceptual_distance, losses.unit_length),
)


def logits(*values: float) -> Tensor:
    """One patch an image, (B, 1, 1, 1)."""
    return torch.tensor(values).view(-1, 1, 1, 1)


def hinge_d_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    return losses.hinge_d_loss(real_logits, fake_logits)


HINGE = Exercise(
    name="hinge",
    chapter=1,
    minutes=5,
    title="what the discriminator minimises",
    prompt=(
        "The discriminator gives one logit for each patch, (B, 1, h, w), high where "
        "it takes a patch for real. Write its hinge loss: half the sum of the mean of "
        "$\\max(0, 1 - D(x))$ over `real_logits` and the mean of "
        "$\\max(0, 1 + D(\\hat x))$ over `fake_logits`, one number."
    ),
    reference=hinge_d_loss,
    lines="2-3 lines",
    cases=(
        Case(
            lambda: (logits(2.0), logits(-3.0)),
            expected=torch.tensor(0.0),
        ),
        Case(
            lambda: (logits(0.0), logits(0.0)),
            expected=torch.tensor(1.0),
        ),
        Case(
            lambda: (logits(-1.0, 3.0), logits(-2.0, 0.5)),
            expected=torch.tensor(0.875),
            note="real_logits -1 and 3, fake_logits -2 and 0.5",
        ),
        Case(lambda: (1.5 * randn(1, 4, 1, 5, 5), 1.5 * randn(2, 3, 1, 4, 5))),
    ),
    gradient=("real_logits", "fake_logits"),
    hints=(
        "max(0, a) of a tensor is torch.relu(a) or a.clamp(min=0).",
        "A real patch costs nothing once its logit is above 1, a fake one once it is "
        "below -1.",
        "0.5 * (torch.relu(1 - real_logits).mean() + "
        "torch.relu(1 + fake_logits).mean())",
    ),
    misconceptions={
        "no hinge": (
            lambda real, fake: 0.5 * ((1 - real).mean() + (1 + fake).mean()),
            "max(0, ·) is missing, so patches that are judged well already still count",
        ),
        "hinge after the mean": (
            lambda real, fake: (
                0.5 * (torch.relu((1 - real).mean()) + torch.relu((1 + fake).mean()))
            ),
            "max(0, ·) was taken of the mean; each patch has a hinge of its own",
        ),
        "half missing": (
            lambda real, fake: (
                torch.relu(1 - real).mean() + torch.relu(1 + fake).mean()
            ),
            "the factor ½ is missing",
        ),
        "signs exchanged": (
            lambda real, fake: (
                0.5 * (torch.relu(1 + real).mean() + torch.relu(1 - fake).mean())
            ),
            "the signs are exchanged: this rewards the discriminator for calling fakes "
            "real",
        ),
        "same sign": (
            lambda real, fake: (
                0.5 * (torch.relu(1 - real).mean() + torch.relu(1 - fake).mean())
            ),
            "both terms have the sign of the real one; a fake should get a low logit",
        ),
        "sum in place of mean": (
            lambda real, fake: (
                0.5 * (torch.relu(1 - real).sum() + torch.relu(1 + fake).sum())
            ),
            "the patches were summed; take their mean",
        ),
        "logistic loss": (
            lambda real, fake: (
                0.5 * (F.softplus(-real).mean() + F.softplus(fake).mean())
            ),
            "this is the logistic loss; the hinge is max(0, 1 - D)",
        ),
        "no margin": (
            lambda real, fake: (
                0.5 * (torch.relu(-real).mean() + torch.relu(fake).mean())
            ),
            "the margin of 1 is missing inside the hinge",
        ),
    },
    source=(losses.hinge_d_loss,),
)


def adaptive_weight(nll: Tensor, g_loss: Tensor, last_layer: Tensor) -> Tensor:
    return losses.adaptive_weight(nll, g_loss, last_layer)


def diagonal(*values: float) -> Tensor:
    """A layer of 2 x 2 channels whose rows differ, (2, 2, 1, 1)."""
    return torch.diag(torch.tensor(values))[:, :, None, None].clone()


def two_losses(pull: float, push: float) -> tuple[Tensor, Tensor, Tensor]:
    """Losses whose gradients at the layer have the lengths 10 pull, 2 push."""
    layer = diagonal(1.0, 2.0).requires_grad_()
    h = layer.square()  # a part of the graph that both share
    a, b = diagonal(3.0, 2.0), diagonal(1.0, 0.0)
    return pull * (a * h).sum(), push * (b * h).sum(), layer


def backward_after(f) -> bool:
    nll, g_loss, layer = two_losses(1.0, 1.0)
    f(nll, g_loss, layer)
    untouched = layer.grad is None
    (nll + g_loss).backward()
    return untouched


def lengths(nll: Tensor, g_loss: Tensor, layer: Tensor) -> tuple[Tensor, Tensor]:
    """Norms of the two gradients."""
    found = (torch.autograd.grad(v, layer, retain_graph=True) for v in (nll, g_loss))
    return tuple(g[0].norm() for g in found)


def ratio(a: Tensor, b: Tensor) -> Tensor:
    return (a / (b + 1e-4)).detach()


ADAPTIVE = Exercise(
    name="adaptive_weight",
    chapter=1,
    minutes=10,
    title="a discriminator that pulls no harder than the pixels",
    prompt=(
        "Return VQGAN's weight of the adversarial loss, "
        "$\\lVert \\nabla \\mathrm{nll} \\rVert / (\\lVert \\nabla g \\rVert + "
        "10^{-4})$: the norms of the gradients of the scalars `nll` and `g_loss` with "
        "respect to the tensor `last_layer`, of any shape. Both graphs are needed "
        "afterwards, and `last_layer.grad` belongs to the optimiser. "
        "`torch.autograd.grad(loss, last_layer, retain_graph=True)` gives a tuple of "
        "one gradient. The weight is a constant: "
        "no gradient may flow through it."
    ),
    reference=adaptive_weight,
    lines="3-4 lines",
    cases=(
        Case(
            lambda: two_losses(1.0, 1.0),
            expected=torch.tensor(4.99975),
            note="gradients of length 10 (nll) and 2 (g_loss)",
        ),
        Case(
            lambda: two_losses(1.0, 50.0),
            expected=torch.tensor(0.1),
            note="gradients of length 10 (nll) and 100 (g_loss)",
        ),
        Case(
            lambda: two_losses(3.0, 0.005),
            expected=torch.tensor(2970.297),
            note="gradients of length 30 (nll) and 0.01 (g_loss)",
        ),
    ),
    properties=(
        (
            "The weight is a constant in the loss: finish with .detach().",
            lambda f: not torch.as_tensor(f(*two_losses(1.0, 1.0))).requires_grad,
        ),
        (
            "It should leave last_layer.grad alone: that belongs to the optimiser.",
            backward_after,
        ),
    ),
    hints=(
        "(g,) = torch.autograd.grad(nll, last_layer, retain_graph=True) is the "
        "gradient of the reconstruction; the same with g_loss.",
        ".norm() makes a number of each. The reconstruction's is above the line.",
        "(nll_grad.norm() / (g_grad.norm() + 1e-4)).detach()",
    ),
    misconceptions={
        "upside down": (
            lambda *a: ratio(*reversed(lengths(*a))),
            "the fraction is upside down: a strong adversarial gradient should get a "
            "small weight",
        ),
        "losses compared": (
            lambda nll, g_loss, layer: ratio(nll, g_loss),
            "the values of the losses were divided; their gradients should be",
        ),
        "norms not taken": (
            lambda nll, g_loss, layer: ratio(
                torch.autograd.grad(nll, layer, retain_graph=True)[0].sum(),
                torch.autograd.grad(g_loss, layer, retain_graph=True)[0].sum(),
            ),
            "the gradients were summed; take their norms, for which signs do not "
            "matter",
        ),
        "element by element": (
            lambda nll, g_loss, layer: ratio(
                torch.autograd.grad(nll, layer, retain_graph=True)[0],
                torch.autograd.grad(g_loss, layer, retain_graph=True)[0],
            ),
            "the gradients were divided element by element; the weight is one number, "
            "the ratio of their norms",
        ),
        "squared norms": (
            lambda *a: ratio(*(n.square() for n in lengths(*a))),
            "the norms are squared; take .norm()",
        ),
        "nothing added": (
            lambda *a: (lengths(*a)[0] / lengths(*a)[1]).detach(),
            "the 1e-4 below the line is missing: it keeps the weight finite where the "
            "discriminator has no gradient",
        ),
        "fraction of both": (
            lambda *a: ratio(lengths(*a)[0], sum(lengths(*a))),
            "the reconstruction's norm was divided by the sum of both",
        ),
    },
    source=(losses.adaptive_weight,),
)

EXERCISES = (
    COMPRESSION,
    PSNR,
    RECALL,
    REPARAMETERISE,
    FRECHET,
    PERCEPTUAL,
    HINGE,
    ADAPTIVE,
)
