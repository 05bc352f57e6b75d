"""Exercises that measure images: how small, how close, how much detail is left."""

import torch
from torch import Tensor

from ldm_tutorial import metrics
from ldm_tutorial.teach.task import Case, Exercise
from ldm_tutorial.teach.tasks.inputs import randn


def compression_ratio(size: int, downsampling: int, latent_channels: int) -> float:
    """Values in an RGB image of size x size over values in its latent."""
    side = size // downsampling
    return 3 * size**2 / (latent_channels * side**2)


COMPRESSION = Exercise(
    name="compression",
    chapter=1,
    difficulty=1,
    trains="what a compression ratio counts",
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
        "Divide the first count by the second. Does the size of the image still "
        "matter?",
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
        "latent's side not squared": (
            lambda size, f, C: 3 * size**2 / (C * (size // f)),
            "the latent has (size / f)² places, not size / f",
        ),
        "image's side not squared": (
            lambda size, f, C: 3 * size / (C * (size // f) ** 2),
            "the image has size² pixels, not size",
        ),
        "added": (
            lambda size, f, C: 3 * size**2 / (C + (size // f) ** 2),
            "the channels were added to the places; each place holds all of them",
        ),
        "a power of two": (
            lambda size, f, C: 3 * 4**f / C,
            "f was taken for the number of halvings; it is the factor itself",
        ),
        "share saved": (
            lambda size, f, C: 1 - C / (3 * f**2),
            "this is the share that is saved; how many times fewer is a ratio",
        ),
    },
)


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
    difficulty=2,
    trains="making a measure: which mean, which ratio, which logarithm",
    title="an error in decibels",
    prompt=(
        "Write the PSNR of each image of a batch: `x_hat` and `x` have shape (B, 3, "
        "H, W) and values in $[-1, 1]$, the result has shape (B,). It compares the "
        "square of the largest error that is possible with the mean squared error of "
        "the image, and counts the factors of ten between them in decibels: ten "
        "times better is ten decibels more. Guess first: how many decibels has an "
        "image that is wrong by 0.2 everywhere?"
    ),
    reference=psnr,
    lines="2 lines",
    cases=(
        Case(
            lambda: (torch.full((1, 3, 2, 2), 0.2), torch.zeros(1, 3, 2, 2)),
            expected=torch.tensor([20.0]),
            note="x = 0 and x_hat = 0.2 everywhere",
        ),
        Case(
            lambda: (torch.full((2, 3, 2, 2), 1e-4), torch.zeros(2, 3, 2, 2)),
            expected=torch.tensor([86.0206, 86.0206]),
            note="x = 0 and x_hat = 0.0001 everywhere",
        ),
        Case(lambda: images(1), note="three random images, the last the worst"),
    ),
    hints=(
        "The squared error of an image is a mean over its channels, rows and "
        "columns, but not over the batch: .mean((1, 2, 3)) or .flatten(1).mean(1).",
        "PSNR compares the square of the peak with that error. Values run from -1 to "
        "1: how large can a single error get?",
        "Decibels are ten times a logarithm. Of which base, and of which of the two "
        "ratios, so that a better image has more of them?",
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
        "squared after the mean": (
            lambda x_hat, x: 10 * torch.log10(4 / (x_hat - x).mean((1, 2, 3)).square()),
            "the errors were averaged before they were squared, so those of either "
            "sign cancel",
        ),
        "error itself": (
            lambda x_hat, x: mse(x_hat, x),
            "this is the mean squared error itself; its ratio to the peak is counted "
            "in decibels",
        ),
        "20 with the peak alone": (
            lambda x_hat, x: 20 * torch.log10(2 / mse(x_hat, x)),
            "20 log10 wants two amplitudes, the peak over the root of the error; the "
            "root is missing",
        ),
    },
    source=(metrics.psnr, metrics.decibels),
)


def recall(h_hat: Tensor, h: Tensor, mask: Tensor) -> float:
    """Slope of the shown detail over the true one, over the pixels of a mask."""
    shown, there = (h_hat * h).mean(1), (h * h).mean(1)  # (B, H, W)
    return float(shown[mask].sum() / there[mask].sum())


def centred_slope(a: Tensor, b: Tensor) -> Tensor:
    b = b - b.mean()
    return ((a - a.mean()) * b).sum() / b.square().sum()


def faded(strength: float) -> tuple[Tensor, Tensor, Tensor]:
    h = randn(7, 1, 3, 4, 4)
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, 1:3, 1:3] = True
    return torch.where(mask[:, None], strength * h, torch.zeros_like(h)), h, mask


def details(strength: float, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """A detail, the same with another contrast and some noise, and where it is."""
    h = randn(seed, 2, 3, 6, 6)
    mask = randn(seed + 1, 2, 6, 6) > 0.3
    return strength * h + 0.3 * randn(seed + 2, 2, 3, 6, 6), h, mask


RECALL = Exercise(
    name="recall",
    chapter=1,
    difficulty=2,
    trains="a slope by least squares, and sums over a mask",
    title="how much of a detail is left",
    prompt=(
        "`h` and `h_hat` (B, 3, H, W) are the fine detail of images and of their "
        "reconstructions, what is left of each after subtracting its blur; `mask` "
        "(B, H, W) is true where, say, stars are. Return one number: the slope $a$ "
        "for which the sum of (`h_hat` - $a$ `h`)² is smallest, over the colours "
        "and over the pixels of the mask. It is 1 if the stars are as bright as they "
        "were, 0 if they are gone."
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
        "Where is that parabola in a lowest? Differentiate the sum with respect to a "
        "and set the result to zero: a sum of products and a sum of squares are "
        "left.",
        "A mask (B, H, W) chooses pixels of a tensor (B, H, W): product[mask]. So "
        "get rid of the colours first, with a sum or a mean over dimension 1.",
        "Sum first, divide last: a mean of ratios would blow up wherever h is nearly "
        "zero.",
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
        "plain sums": (
            lambda h_hat, h, mask: h_hat.sum(1)[mask].sum() / h.sum(1)[mask].sum(),
            "the two were summed as they are, where signs cancel; the slope is a sum "
            "of products over a sum of squares",
        ),
        "absolute sums": (
            lambda h_hat, h, mask: (
                h_hat.abs().sum(1)[mask].sum() / h.abs().sum(1)[mask].sum()
            ),
            "absolute values were summed: noise in place of a star would count as a "
            "star, and the sign is lost",
        ),
        "mask above alone": (
            lambda h_hat, h, mask: (h_hat * h).sum(1)[mask].sum() / (h * h).sum(),
            "the mask chooses pixels in the numerator alone; the denominator needs "
            "it, too",
        ),
        "image by image": (
            lambda h_hat, h, mask: torch.stack(
                [
                    torch.tensor(recall(*one))
                    for one in zip(
                        h_hat[:, None], h[:, None], mask[:, None], strict=True
                    )
                ]
            ).mean(),
            "a slope was taken for each image and then the mean; sum over all images "
            "first",
        ),
        "mean of ratios of colours": (
            lambda h_hat, h, mask: (h_hat / h)[mask[:, None].expand_as(h)].mean(),
            "each value was divided by the true one, so faint ones, which are mostly "
            "noise, count as much as bright ones; sum first, then divide",
        ),
        "root of energies": (
            lambda h_hat, h, mask: (
                (h_hat**2).sum(1)[mask].sum() / (h**2).sum(1)[mask].sum()
            ).sqrt(),
            "this compares how strong both are: noise in place of a star would count "
            "as a star; the numerator is the product of h_hat and h",
        ),
        "with an intercept": (
            lambda h_hat, h, mask: centred_slope(
                *(v[mask[:, None].expand_as(v)] for v in (h_hat, h))
            ),
            "the means were subtracted, which fits a line with an intercept; the sum "
            "of (h_hat - a h)² has none",
        ),
        "residual": (
            lambda h_hat, h, mask: ((h_hat - h) ** 2).sum(1)[mask].sum(),
            "this is the squared error itself; the slope at which it is smallest is "
            "asked for",
        ),
    },
    source=(recall, metrics.detail_recall),
)
