"""Trainings so small that they take a fraction of a second: a linear autoencoder of
numbers on a plane, and a denoiser of its two-dimensional latents.

They are real trainings, each gone one of the ways that large ones go.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from ldm_tutorial.diffusion import add_noise
from ldm_tutorial.schedule import NoiseSchedule


@dataclass(frozen=True)
class Way:
    """How a training goes.

    Attributes:
        kl_weight: of the autoencoder's loss, in nats per latent element.
        learning_rate: of the second half, in which the denoiser is trained.
        pull: weight of the diffusion loss in the encoder; 0 freezes the autoencoder.
    """

    kl_weight: float = 1e-3
    learning_rate: float = 1e-2
    pull: float = 0.0


WAYS = {
    "healthy": Way(),
    "collapsed": Way(kl_weight=5.0),
    "rate too high": Way(learning_rate=2.0),
    "wrong reason": Way(pull=10.0),
}
STEPS, EVERY, T = 100, 4, 50


class Plane(nn.Module):
    """An autoencoder of 8 numbers that lie on a plane, and a denoiser."""

    def __init__(self, generator: torch.Generator):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(8, 4), nn.Linear(2, 8)
        self.denoiser = nn.Sequential(nn.Linear(3, 24), nn.SiLU(), nn.Linear(24, 2))
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(0.4 * torch.randn(p.shape, generator=generator))


@lru_cache
def curves(way: str, seed: int) -> dict[str, Tensor]:
    """The log of a training: every 4 steps ``reconstruction``, ``kl`` (nats per latent
    element), ``latent_std`` and ``diffusion``, the loss of the denoiser.

    An autoencoder is trained first, and its latents are brought to unit scale. The log
    is that of the second half, which trains the denoiser.
    """
    g = torch.Generator().manual_seed(seed)
    settings, schedule = WAYS[way], NoiseSchedule.cosine(T)
    net, plane = Plane(g), torch.randn(2, 8, generator=g) / 2
    codec = [*net.encoder.parameters(), *net.decoder.parameters()]
    optimizer = torch.optim.Adam(codec, lr=2e-2)
    for _ in range(STEPS):
        z, loss, _ = autoencode(net, plane, settings, g)
        descend(optimizer, loss)
    scale = z.detach().std()
    optimizer = torch.optim.Adam(net.parameters(), lr=settings.learning_rate)
    log: dict[str, list[float]] = {}
    for step in range(STEPS):
        with torch.set_grad_enabled(settings.pull > 0):
            z, loss, seen = autoencode(net, plane, settings, g)
        diffusion = denoise(net, z / scale, schedule, g)
        seen |= {"latent_std": (z / scale).std(), "diffusion": diffusion}
        if step % EVERY == 0:
            for name, value in seen.items():
                log.setdefault(name, []).append(value.item())
        descend(optimizer, loss + max(settings.pull, 1.0) * diffusion)
    return {name: torch.tensor(values) for name, values in log.items()}


def autoencode(net: Plane, plane: Tensor, way: Way, g: torch.Generator):
    """(latents, the autoencoder's loss, what is logged of it) for a fresh batch."""
    x = torch.randn(64, 2, generator=g) @ plane
    mu, logvar = net.encoder(x).chunk(2, dim=1)
    z = mu + (0.5 * logvar).exp() * torch.randn(mu.shape, generator=g)
    reconstruction = (net.decoder(z) - x).square().mean()
    kl = 0.5 * (mu.square() + logvar.exp() - 1 - logvar).mean()
    seen = {"reconstruction": reconstruction, "kl": kl}
    return z, reconstruction + way.kl_weight * kl, seen


def denoise(
    net: Plane, z: Tensor, schedule: NoiseSchedule, g: torch.Generator
) -> Tensor:
    t = torch.randint(T, (len(z),), generator=g)
    eps = torch.randn(z.shape, generator=g)
    z_t = add_noise(z, eps, schedule.at(t, like=z))
    return (net.denoiser(torch.cat([z_t, t[:, None] / T], 1)) - eps).square().mean()


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def logs() -> dict[str, dict[str, Tensor]]:
    """Four trainings to look at, one of each kind, in no telling order."""
    order = ("wrong reason", "healthy", "rate too high", "collapsed")
    runs = zip("ABCD", order, (11, 12, 13, 14), strict=True)
    return {f"run {run}": curves(way, seed) for run, way, seed in runs}
