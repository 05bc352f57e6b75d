"""The diagonal Gaussian that the VAE's encoder puts out, q(z | x).

Kingma & Welling, "Auto-Encoding Variational Bayes", 2013 (arXiv:1312.6114).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

# Where random numbers come from: one source for a batch, or one for each image.
Generators = torch.Generator | Sequence[torch.Generator]


class DiagonalGaussian:
    """N(mu, diag(exp(logvar))), one independent Gaussian per latent element.

    Args:
        mu: mean, any shape.
        logvar: natural logarithm of the variance, same shape as ``mu``. It is
            clamped to [-30, 20], which keeps ``exp`` finite in float32.

    Raises:
        ValueError: if the two shapes differ.
    """

    def __init__(self, mu: Tensor, logvar: Tensor):
        if mu.shape != logvar.shape:
            raise ValueError(
                f"mu has shape {tuple(mu.shape)} and logvar {tuple(logvar.shape)}; "
                "give both the same shape"
            )
        self.mu = mu
        self.logvar = logvar.clamp(-30.0, 20.0)

    @property
    def std(self) -> Tensor:
        return torch.exp(0.5 * self.logvar)

    def sample(self, generator: Generators | None = None) -> Tensor:
        """z = mu + std * eps, eps ~ N(0, I): the reparameterisation (sec. 2.4)."""
        return self.mu + self.std * normal_like(self.mu, generator)

    def mode(self) -> Tensor:
        """The most likely z, which is mu."""
        return self.mu

    def kl(self) -> Tensor:
        """KL(q || N(0, I)) of each element, in nats; same shape as ``mu`` (app. B).

        The mean over all elements is the number this project weighs in its losses;
        the sum over an image's elements is the rate of that image in nats.
        """
        return 0.5 * (self.mu.square() + self.logvar.exp() - 1.0 - self.logvar)

    def nll(self, z: Tensor) -> Tensor:
        """-log q(z) of each element, in nats; same shape as ``mu``."""
        scaled = (z - self.mu).square() * torch.exp(-self.logvar)
        return 0.5 * (math.log(2 * math.pi) + self.logvar + scaled)


def normal_like(x: Tensor, generator: Generators | None = None) -> Tensor:
    """Standard normal numbers with the shape, device and dtype of ``x``.

    A generator that lives on another device (a CPU generator gives the same numbers
    on every machine) draws there, and the numbers are moved. A list of generators, one
    for each of the B rows of ``x``, gives each row the numbers that it would get alone.

    Raises:
        ValueError: if there are more or fewer generators than rows.
    """
    if isinstance(generator, Sequence):
        if len(generator) != len(x):
            raise ValueError(
                f"{len(generator)} generators were given for {len(x)} rows; give one "
                "for each"
            )
        return torch.stack([normal_like(x[i], g) for i, g in enumerate(generator)])
    device = x.device if generator is None else generator.device
    eps = torch.randn(x.shape, generator=generator, device=device, dtype=torch.float32)
    return eps.to(device=x.device, dtype=x.dtype)


def generators(seed: int, n: int, start: int = 0) -> list[torch.Generator]:
    """Generators of the images ``start`` to ``start + n`` of a seed, on the CPU.

    Image i of a seed is the same in a batch of any size, and on any device, for its
    random numbers depend on nothing but ``seed`` and i.
    """
    dice = torch.Generator().manual_seed(seed)
    seeds = torch.randint(2**32, (start + n,), generator=dice)[start:].tolist()
    return [torch.Generator().manual_seed(s) for s in seeds]
