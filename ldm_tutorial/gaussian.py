"""The diagonal Gaussian that the VAE's encoder puts out, q(z | x).

Kingma & Welling, "Auto-Encoding Variational Bayes", 2013 (arXiv:1312.6114).
"""

import math

import torch
from torch import Tensor

from ldm_tutorial.arguments import alike
from ldm_tutorial.noise import Generators, normal_like


class DiagonalGaussian:
    """N(mu, diag(exp(logvar))), one independent Gaussian per latent element.

    Args:
        mu: mean, any shape.
        logvar: natural logarithm of the variance, same shape as ``mu``. It is
            clamped to [-30, 20], which keeps ``exp`` finite in float32.

    Raises:
        TypeError: for anything but tensors of floating-point numbers.
        ValueError: if the two shapes differ.
    """

    def __init__(self, mu: Tensor, logvar: Tensor):
        alike("mu", mu, "logvar", logvar)
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
        """-log q(z) of each element, in nats; same shape as ``mu``, as z has."""
        alike("z", z, "mu", self.mu)
        scaled = (z - self.mu).square() * torch.exp(-self.logvar)
        return 0.5 * (math.log(2 * math.pi) + self.logvar + scaled)
