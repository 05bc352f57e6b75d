"""Answers to the exercises, as readers might write them.

RIGHT: for each exercise answers that are right and written in different ways; the
second of them leaves its arguments alone, so that a whole chapter can run on them.
WRONG: further wrong ones, beside the misconceptions that each exercise knows, with the
words that the message must hold.
"""

import math
import random
from itertools import pairwise

import builder_answers
import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from torch import nn
from torch.distributions import Normal, kl_divergence

from ldm_tutorial.schedule import NoiseSchedule


def psnr_in_a_loop(x_hat, x):
    out = []
    for a, b in zip(x_hat, x, strict=True):
        out.append(20 * math.log10(2) - 10 * math.log10(F.mse_loss(a, b).item()))
    return torch.tensor(out)


@torch.no_grad()
def psnr_without_gradient(x_hat, x):
    return -10 * (F.mse_loss(x_hat, x, reduction="none").flatten(1).mean(1) / 4).log10()


def recall_in_place(h_hat, h, mask):
    h_hat *= mask.unsqueeze(1)
    h *= mask.unsqueeze(1)
    return (h_hat * h).sum() / (h**2).sum()


def recall_least_squares(h_hat, h, mask):
    keep = mask[:, None].expand_as(h)
    return torch.linalg.lstsq(h[keep][:, None], h_hat[keep]).solution.item()


class Reparameterise(nn.Module):
    def forward(self, mu, logvar, eps):
        return torch.addcmul(mu, torch.exp(logvar / 2), eps)


def frechet_in_numpy(a, b):
    a, b = a.numpy(), b.numpy()
    sa, sb = np.std(a), np.std(b)  # over n, not n - 1
    return (a.mean() - b.mean()) ** 2 + sa**2 + sb**2 - 2 * np.sqrt(sa**2 * sb**2)


def perceptual_cosine(f_hat, f):
    """|a - b|² = 2 - 2 cos for unit vectors."""
    return (2 - 2 * F.cosine_similarity(f_hat, f, dim=1)).mean((1, 2))


def perceptual_einops(f_hat, f):
    a = f_hat / (reduce(f_hat**2, "b c h w -> b 1 h w", "sum") + 1e-12).sqrt()
    b = f / (reduce(f**2, "b c h w -> b 1 h w", "sum") + 1e-12).sqrt()
    summed = reduce((a - b) ** 2, "b c h w -> b h w", "sum")
    return reduce(summed, "b h w -> b", "mean")


def hinge_with_labels(real, fake):
    both = torch.cat([real.flatten(), -fake.flatten()])
    loss = torch.clamp_min(1 - both, 0)
    n = real.numel()
    return (loss[:n].mean() + loss[n:].mean()) / 2


def adaptive_in_a_loop(nll, g_loss, last_layer):
    norms = []
    for loss in (nll, g_loss):
        (g,) = torch.autograd.grad(loss, last_layer, retain_graph=True)
        norms.append(sum(float(v) ** 2 for v in g.flatten()) ** 0.5)
    return norms[0] / (norms[1] + 1e-4)


def adaptive_backward(nll, g_loss, last_layer):
    """Leaves gradients behind."""
    norms = []
    for loss in (nll, g_loss):
        last_layer.grad = None
        loss.backward(retain_graph=True)
        norms.append(last_layer.grad.norm())
    return (norms[0] / (norms[1] + 1e-4)).item()


def adaptive_flat(nll, g_loss, last_layer):
    a = torch.autograd.grad(nll, last_layer, retain_graph=True)[0].pow(2).sum().sqrt()
    b = torch.autograd.grad(g_loss, last_layer, retain_graph=True)[0].pow(2)
    b = b.sum().sqrt()
    return torch.clamp(a / (b + 1e-4), 0.0, 1e4).detach()


def kl_in_place(mu, logvar):
    mu.square_().add_(logvar.exp()).sub_(1).sub_(logvar).mul_(0.5)
    return mu


def kl_by_torch(mu, logvar):
    return kl_divergence(Normal(mu, (logvar / 2).exp()), Normal(0.0, 1.0))


def free_bits_relu(kl, allowance=0.1):
    over = torch.relu(reduce(kl, "b ... -> ...", "mean") - allowance)
    return (over + allowance).sum() / over.numel()


def normalise_in_place(raw, mean, std):
    raw.sub_(mean[None, :, None, None]).div_(std[None, :, None, None])
    return raw


def normalise_einops(raw, mean, std):
    last = rearrange(raw, "b c h w -> b h w c")
    return rearrange((last - mean) / std, "b h w c -> b c h w")


def active_in_a_loop(mu, logvar, least):
    spent = (0.5 * (mu**2 + logvar.exp() - 1 - logvar)).mean(0).flatten().tolist()
    return sum(nats > least for nats in spent) / len(spent)


def slerp_of_directions(a, b, t):
    """Along the part of b that is at right angles to a."""
    u = a / a.norm()
    theta = math.acos(F.cosine_similarity(a.flatten(), b.flatten(), dim=0).item())
    return (math.sin((1 - t) * theta) * a + math.sin(t * theta) * b) / math.sin(
        theta
    ) + 0 * u


def add_noise_in_place(z_0, eps, t, schedule):
    a = schedule.alpha_bar.gather(0, t)[:, None, None, None]
    z_0.mul_(a**0.5)
    return z_0.add_(eps * (1 - a) ** 0.5)


def add_noise_by_snr(z_0, eps, t, schedule):
    snr = schedule.snr[t]
    signal, noise = (snr / (1 + snr)).sqrt(), (1 / (1 + snr)).sqrt()
    return torch.einsum("b,bchw->bchw", signal, z_0) + torch.einsum(
        "b,bchw->bchw", noise, eps
    )


def v_by_derivative(z_0, eps, alpha_bar_t):
    """v = d z_t / d angle."""
    angle = torch.acos(alpha_bar_t.sqrt())
    return angle.cos() * eps - angle.sin() * z_0


def posterior_by_bayes(z_t, x0, alpha_bar_t, alpha_bar_s):
    """Precisions add up. (Where s is the clean end there is nothing to add.)"""
    alpha = alpha_bar_t / alpha_bar_s
    prior = 1 / (1 - alpha_bar_s).clamp(min=1e-12)
    likelihood = alpha / (1 - alpha)
    variance = 1 / (prior + likelihood)
    prior_mean = alpha_bar_s.sqrt() * x0
    mean = variance * (prior * prior_mean + likelihood * z_t / alpha.sqrt())
    return [mean, variance]


def ddpm_other_draws(z_t, x0, alpha_bar_t, alpha_bar_s, generator=None, eta=1.0):
    """The noise is drawn in another order."""
    mean, variance = posterior_by_bayes(z_t, x0, alpha_bar_t, alpha_bar_s)
    noise = torch.randn(z_t.mT.shape, generator=generator).mT
    return mean + eta * variance.sqrt() * noise


def ddpm_by_normal(z_t, x0, a_t, a_s, generator=None):
    beta = 1 - a_t / a_s
    mean = (a_s**0.5 * beta * x0 + (1 - beta) ** 0.5 * (1 - a_s) * z_t) / (1 - a_t)
    std = (beta * (1 - a_s) / (1 - a_t)) ** 0.5
    return torch.normal(mean, std.expand_as(mean), generator=generator)


def ddim_by_ratio(z_t, eps, a_t, a_s):
    """Without x0: z_s = sqrt(a_s / a_t) z_t + (...) eps."""
    scale = (a_s / a_t).sqrt()
    return scale * z_t + ((1 - a_s).sqrt() - scale * (1 - a_t).sqrt()) * eps


def sampler_with_while(denoiser, schedule, z_T, steps=50):
    times = list(schedule.timesteps(steps))
    z = z_T.clone()
    while times:
        t = times.pop(0)
        a_t = schedule.alpha_bar[t].item()
        a_s = schedule.alpha_bar[times[0]].item() if times else 1.0
        eps = denoiser(z, torch.tensor([t] * len(z)))
        x0 = (z - (1 - a_t) ** 0.5 * eps) / a_t**0.5
        z = a_s**0.5 * x0 + (1 - a_s) ** 0.5 * eps
    return z


def sampler_by_index(denoiser, schedule, z_T, steps):
    alpha_bar = torch.cat([torch.ones(1), schedule.alpha_bar])  # one place later
    times = [*(t + 1 for t in schedule.timesteps(steps)), 0]
    for now, then in pairwise(times):
        eps = denoiser(z_T, torch.full((z_T.shape[0],), now - 1, dtype=torch.long))
        z_T = ddim_by_ratio(z_T, eps, alpha_bar[now], alpha_bar[then])
    return z_T


def embedding_in_a_loop(t, dim, max_period=10_000.0):
    rows = []
    for value in t.tolist():
        omega = [max_period ** (-i / (dim // 2)) for i in range(dim // 2)]
        rows.append([f(value * w) for f in (math.cos, math.sin) for w in omega])
    return torch.tensor(rows)


def embedding_logspace(t, dim, P=10_000):
    half, end = dim // 2, -math.log10(P)
    omega = torch.logspace(0, end, half + 1, dtype=torch.float64)[:half]
    angle = torch.outer(t.double(), omega)
    return torch.cat([torch.sin(angle + math.pi / 2), torch.sin(angle)], -1).float()


def dropout_bernoulli(y, share, no_class):
    hidden = torch.bernoulli(torch.full(y.shape, share)).bool()
    y[hidden] = no_class
    return y


DICE = random.Random(5)


def dropout_in_python(y, share, no_class):
    return torch.tensor([no_class if DICE.random() < share else k for k in y.tolist()])


def cached_by_halves(moments, eps, mean, std):
    C = moments.shape[1] // 2
    raw = Normal(moments[:, :C], moments[:, C:].exp().sqrt())
    z = raw.loc + raw.scale * eps
    return F.batch_norm(z, mean, std**2, eps=0.0)


def cached_einops(moments, eps, mean, std):
    mu, logvar = rearrange(moments, "b (two c) h w -> two b c h w", two=2)
    raw = mu + eps * torch.exp(0.5 * logvar)
    return (raw - mean[:, None, None]) / std[:, None, None]


def flow_by_derivative(z_0, eps, t):
    """The path is straight, so a difference quotient is its velocity."""
    a = t.view(-1, 1, 1, 1)

    def path(a):
        return z_0 + a * (eps - z_0)

    return path(a), path(a + 1) - path(a)


def modulation_by_hand(h, shift, scale):
    centred = h - h.mean(2, keepdim=True)
    h = centred / centred.square().mean(2, keepdim=True).add(1e-5).sqrt()
    return torch.stack(
        [(1 + b) * x + a for x, a, b in zip(h, shift, scale, strict=True)]
    )


def halved(x):
    return reduce(x, "b c (h p) (w q) -> b c h w", "mean", p=2, q=2)


def conv_by_its_weights(in_channels, out_channels, side, kernel):
    weight = nn.Conv2d(in_channels, out_channels, kernel, device="meta").weight
    return 2 * side**2 * weight.numel()


RIGHT = {
    "compression": [
        lambda size, f, C: (size * size * 3) / (size // f * (size // f) * C),
        lambda size, downsampling, latent_channels: torch.tensor(
            3.0 * downsampling * downsampling / latent_channels
        ),
    ],
    "psnr": [psnr_in_a_loop, psnr_without_gradient],
    "recall": [recall_in_place, recall_least_squares],
    "reparameterise": [
        lambda mu, logvar, eps: eps.mul_(logvar.div_(2).exp_()).add_(mu),
        Reparameterise(),
    ],
    "frechet": [
        frechet_in_numpy,
        lambda a, b: (a.mean() - b.mean()).square() + (a.std() - b.std()).square(),
    ],
    "perceptual": [perceptual_cosine, perceptual_einops],
    "hinge": [
        hinge_with_labels,
        lambda real, fake: (
            0.5 * ((1 - real).clamp(min=0).mean() + F.relu(fake + 1).mean())
        ),
    ],
    "adaptive_weight": [adaptive_in_a_loop, adaptive_flat],
    "kl": [kl_in_place, kl_by_torch],
    "kl_weight": [
        lambda w, n_x, n_z: w / (n_x / n_z),
        lambda weight, pixel_values, latent_elements: torch.tensor(
            weight * latent_elements / pixel_values, dtype=torch.float64
        ),
    ],
    "bits": [
        lambda kl: kl.flatten(1).sum(-1) * math.log2(math.e),
        lambda kl: reduce(kl, "b c h w -> b", "sum") / np.log(2),
    ],
    "active_units": [
        active_in_a_loop,
        lambda mu, logvar, least=0.05: (
            torch.ge(kl_by_torch(mu, logvar).mean(dim=0), least).double().mean().item()
        ),
    ],
    "free_bits": [
        free_bits_relu,
        lambda kl, a: torch.maximum(kl.mean(0), torch.full_like(kl[0], a)).mean(),
    ],
    "scaling_factor": [
        lambda z: z.transpose(0, 1).flatten(1).var(1, correction=0).rsqrt(),
        lambda z: torch.stack([1 / z[:, c].std() for c in range(z.shape[1])]),
    ],
    "normalise": [normalise_in_place, normalise_einops],
    "slerp": [
        slerp_of_directions,
        lambda a, b, t: sum(
            torch.sin(w * th) / torch.sin(th) * v
            for th in [
                torch.acos(
                    torch.dot(
                        F.normalize(a.flatten(), dim=0), F.normalize(b.flatten(), dim=0)
                    )
                )
            ]
            for w, v in ((1 - t, a), (t, b))
        ),
    ],
    "add_noise": [add_noise_in_place, add_noise_by_snr],
    "v_target": [
        lambda z_0, eps, a, unused=None: eps.mul_(a**0.5).sub_((1 - a) ** 0.5 * z_0),
        v_by_derivative,
    ],
    "x0_from_eps": [
        lambda z_t, eps, alpha_bar_t: z_t.sub_(eps.mul_((1 - alpha_bar_t).sqrt())).div_(
            alpha_bar_t.sqrt()
        ),
        lambda z, e, a: z * a.rsqrt() - ((1 - a) / a).sqrt() * e,
    ],
    "time_embedding": [embedding_in_a_loop, embedding_logspace],
    "cached_latents": [cached_by_halves, cached_einops],
    "min_snr": [
        lambda snr, gamma=5.0: torch.clamp(gamma / snr, max=1.0),
        lambda snr, g: torch.where(snr > g, g / snr, torch.ones_like(snr)),
    ],
    "ema": [
        lambda average, current, decay: average.mul_(decay).add_(
            current, alpha=1 - decay
        ),
        lambda a, c, d=0.999: a + (1 - d) * (c - a),
    ],
    "posterior": [
        posterior_by_bayes,
        lambda z, x, at, as_: (
            (as_**0.5 * (1 - at / as_) * x + (at / as_) ** 0.5 * (1 - as_) * z)
            / (1 - at),
            (1 - at / as_) / (1 - at) * (1 - as_),
        ),
    ],
    "ddpm_step": [ddpm_other_draws, ddpm_by_normal],
    "ddim_step": [
        ddim_by_ratio,
        lambda z_t, eps, a, b: (
            b**0.5 * (z_t - (1 - a) ** 0.5 * eps) / a**0.5 + (1 - b) ** 0.5 * eps
        ),
    ],
    "sampler": [sampler_with_while, sampler_by_index],
    "class_dropout": [dropout_bernoulli, dropout_in_python],
    "guidance": [
        lambda c, u, s=3.0: (1 - s) * u + s * c,
        lambda cond, uncond, guidance_scale: torch.lerp(uncond, cond, guidance_scale),
    ],
    "conv_flops": [
        conv_by_its_weights,
        lambda i, o, s, k: float(s * s * o * (2 * i * k * k)),
    ],
    "attention_flops": [
        lambda C, N: 4 * N * C * (2 * C + N),
        lambda channels, positions: torch.tensor(
            8.0 * positions * channels**2 + 4.0 * positions**2 * channels
        ),
    ],
    "activations": [
        lambda b, c, s, n, k: math.prod((b, c, s, s, n, k)),
        lambda batch, channels, side, layers, bytes_per_value=4: (
            layers
            * bytes_per_value
            * torch.empty(batch, channels, side, side, device="meta").numel()
        ),
    ],
    "break_even": [
        lambda E, e, D, x, z: E / (x - z) + e * D / (x - z),
        lambda *costs: (costs[0] + costs[1] * costs[2]) / -(costs[4] - costs[3]),
    ],
    "speedup": [
        lambda n, x, z, d: x / (z + d / n),
        lambda steps, pixel, latent, decode: 1 / ((latent + decode / steps) / pixel),
    ],
    "amdahl": [
        lambda p, s: s / (s * p + 1 - p),
        lambda decode_share, factor: (decode_share + (1 - decode_share) / factor) ** -1,
    ],
}


RIGHT |= {
    "flow_target": [
        lambda z_0, eps, t: (
            torch.lerp(z_0, eps, t[:, None, None, None]),
            eps.sub_(z_0),
        ),
        flow_by_derivative,
    ],
    "euler_step": [
        lambda z_t, u, t, s: z_t.sub_((t - s) * u),
        lambda z, u, t, s: torch.lerp(z, z - t * u, (t - s) / t),
    ],
    "time_shift": [
        lambda t, shift: t.mul_(shift).div_(1 + t / shift * (shift - 1)),
        lambda t, s: t / (t + (1 - t) / s),
    ],
    "patchify": [
        lambda x, p: F.unfold(x, p, stride=p).transpose(1, 2),
        lambda x, p: rearrange(x, "b c (h p) (w q) -> b (h w) (c p q)", p=p, q=p),
    ],
    "modulation": [
        lambda h, shift, scale: torch.addcmul(
            shift.unsqueeze(1), F.layer_norm(h, h.shape[-1:]), 1 + scale.unsqueeze(1)
        ),
        modulation_by_hand,
    ],
    "equivariance_loss": [
        lambda decode, x, z: (decode(halved(z)) - halved(x)).square().mean(),
        lambda d, x, z: F.mse_loss(
            d(F.interpolate(z, scale_factor=0.5, mode="area")),
            F.interpolate(x, scale_factor=0.5, mode="area"),
        ),
    ],
}


def no_return(mu, logvar):
    0.5 * (mu**2 + logvar.exp() - 1 - logvar)


def typo(mu, logvar):
    return 0.5 * (mu**2 + logvar.expp() - 1 - logvar)


WRONG = {
    "psnr": [
        (
            lambda x_hat, x: (
                2 * 10 * torch.log10(4 / (x_hat - x).square().mean((1, 2, 3))) + 1
            ),
            "values differ",
        ),
        (
            lambda x_hat, x: (
                10 * torch.log10(4 / (x_hat - x).square().mean((1, 2, 3))) + 7
            ),
            "off by the same number, 7",
        ),
        (
            lambda x, y: 10 * torch.log10(4 / (x - y).square().mean((1, 2, 3), True)),
            "dimensions of size 1 too many",
        ),
    ],
    "kl": [
        (no_return, "returns nothing"),
        (typo, "something was asked for that it does not have"),
        (lambda mu, logvar: 1.5 * (mu**2 + logvar.exp() - 1 - logvar), "3 times what"),
        (lambda logvar, mu: kl_by_torch(mu, logvar), "another order"),
        (lambda v, m: kl_by_torch(m, v), "mu and logvar are exchanged"),
        (lambda mu: mu, "not those asked for"),
        (lambda mu, logvar: kl_by_torch(mu, logvar).detach(), "no gradient flows"),
        (lambda mu, logvar: kl_by_torch(mu.detach(), logvar), "no gradient flows"),
        (lambda mu, logvar: kl_by_torch(mu, logvar).double(), "another dtype"),
        (lambda mu, logvar: kl_by_torch(mu, logvar).numpy(force=True), "another kind"),
        (
            lambda mu, logvar: 0.5 * (mu**2 + logvar.exp().detach() - 1 - logvar),
            "the gradient is not",
        ),
        (
            lambda mu, logvar: 0.5 * (mu**2 + logvar.exp() - 1 - logvar.abs()),
            "lacks a property",
        ),
        (lambda mu, logvar: (mu, logvar), "another number of results"),
        (lambda mu, logvar: 0.5 * (mu**2 + logvar.log()), "values are infinite"),
        (kl_by_torch(torch.ones(2), torch.ones(2)), "the function itself"),
        (nn.Identity, "the function itself"),
    ],
    "adaptive_weight": [
        (
            lambda nll, g, w: (
                torch.autograd.grad(nll, w)[0].norm()
                / (torch.autograd.grad(g, w)[0].norm() + 1e-4)
            ),
            "retain_graph=True",
        ),
        (
            lambda nll, g, w: (
                torch.autograd.grad(nll, w, create_graph=True)[0].norm()
                / (torch.autograd.grad(g, w, create_graph=True)[0].norm() + 1e-4)
            ),
            "lacks a property",
        ),
    ],
    "ddim_step": [
        (
            lambda z, eps, a_t, a_s: ddim_by_ratio(z, eps, a_s, a_t),
            "alpha_bar_t and alpha_bar_s are exchanged",
        ),
    ],
    "ddpm_step": [
        (
            lambda z, x, a_t, a_s: (
                posterior_by_bayes(z, x, a_t, a_s)[0]
                + posterior_by_bayes(z, x, a_t, a_s)[1].sqrt()
                * torch.randn(1, 1, 50, 50)
            ),
            "lacks a property",
        ),
    ],
    "class_dropout": [
        (
            lambda y, share, none: torch.where(
                torch.rand(y.shape) < share, float(none), y
            ),
            "another dtype",
        ),
        (
            lambda y, share, none: torch.where(
                torch.rand(len(y) // 4).repeat_interleave(4) < share, none, y
            ),
            "lacks a property",
        ),
    ],
    "sampler": [
        (
            lambda denoiser, schedule, z, steps: denoiser(
                z, schedule.timesteps(steps)[0]
            ),
            "was not given times as it wants them",
        ),
    ],
    "time_embedding": [
        (lambda t, dim, P=1e4: embedding_logspace(t, dim, P).T, "another order"),
    ],
    "guidance": [
        (lambda c, u, s: u + s * (c - u).abs(), "values differ"),
        (lambda c, u, s: (1 - s) * c + s * u, "exchanged"),
    ],
    "conv_flops": [
        (lambda i, o, s, k: 3 * 2 * k**2 * i * o * s**2, "3 times what"),
    ],
}


# --- answers that are nearly right, or right for the first inputs that come to mind ---


def kl_of(mu, logvar):
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar)


def fixed_mask(y, share, none):
    g = torch.Generator().manual_seed(0)
    return torch.where(torch.rand(y.shape, generator=g) < share, none, y)


def exact_count(y, share, none):
    y = y.clone()
    y[torch.randperm(len(y))[: round(share * len(y))]] = none
    return y


def square_only(z_0, eps, t, schedule):
    B, C, h, _ = z_0.shape
    a = schedule.alpha_bar[t].view(-1, 1, 1, 1).expand(B, C, h, h)
    return a.sqrt() * z_0 + (1 - a).sqrt() * eps


def other_dice(z_t, x0, a_t, a_s, generator=None):
    mean, variance = posterior_by_bayes(z_t, x0, a_t, a_s)
    return mean + variance.sqrt() * torch.randn(z_t.shape)


def same_dice(z_t, x0, a_t, a_s, generator=None):
    mean, variance = posterior_by_bayes(z_t, x0, a_t, a_s)
    g = torch.Generator().manual_seed(0)
    return mean + variance.sqrt() * torch.randn(z_t.shape, generator=g)


def own_schedule(denoiser, schedule, z, steps):
    return sampler_by_index(denoiser, NoiseSchedule.linear(), z, steps)


def asks_once_more(denoiser, schedule, z, steps):
    z = sampler_by_index(denoiser, schedule, z, steps)
    return z - 1e-6 * denoiser(z, torch.zeros(len(z), dtype=torch.int64))


def graph_freed(nll, g_loss, layer):
    (a,) = torch.autograd.grad(nll, layer, retain_graph=True)
    (b,) = torch.autograd.grad(g_loss, layer)
    return (a.norm() / (b.norm() + 1e-4)).detach()


def adaptive_by(norm):
    def f(nll, g_loss, layer):
        both = (torch.autograd.grad(v, layer, retain_graph=True) for v in (nll, g_loss))
        a, b = (norm(g[0]) for g in both)
        return (a / (b + 1e-4)).detach()

    return f


def arc(bend):
    """Spherical interpolation with another angle."""

    def f(a, b, t):
        theta = bend((a * b).sum() / (a.norm() * b.norm()))
        return (((1 - t) * theta).sin() * a + (t * theta).sin() * b) / theta.sin()

    return f


NEARLY = {
    "compression": [
        (lambda n, f, C: 3 * n**2 // (C * (n // f) ** 2), "38.4 is expected"),
    ],
    "psnr": [
        (
            lambda x_hat, x: (
                10
                * torch.log10(
                    4 * 3 * x.shape[-1] ** 2 / (x_hat - x).square().sum((1, 2, 3))
                )
            ),
            "values differ",
        ),
    ],
    "recall": [
        (
            lambda a, h, m: ((a * h).sum(1)[m].sum() / (h * h).sum(1)[m].sum()).clamp(
                max=1
            ),
            "1.5 is expected",
        ),
    ],
    "frechet": [
        (lambda a, b: (a.sort().values - b.sort().values).square().mean(), "fit"),
    ],
    "hinge": [
        (
            lambda real, fake: 0.5 * (F.relu(1 - real) + F.relu(1 + fake)).mean(),
            "shapes do not fit",
        ),
    ],
    "adaptive_weight": [
        (adaptive_backward, "last_layer.grad"),
        (graph_freed, "backward through the graph"),
        (adaptive_by(lambda g: g.square().mean().sqrt()), "values differ"),
        (adaptive_by(lambda g: (g.square().sum() + 1e-4).sqrt()), "values differ"),
        (adaptive_by(lambda g: g.norm(dim=-1)), "should be one"),
        (adaptive_by(lambda g: g.norm(dim=1).mean()), "values differ"),
    ],
    "bits": [
        (
            lambda kl: (
                kl.mean((1, 2, 3)) * kl.shape[1] * kl.shape[-1] ** 2 / math.log(2)
            ),
            "values differ",
        ),
    ],
    "kl_weight": [
        (lambda w, n_x, n_z: w / (n_x // n_z), "values differ"),
    ],
    "active_units": [
        (
            lambda mu, logvar, least: (
                (kl_of(mu, logvar).mean(0) >= 0.05).double().mean()
            ),
            "least = 0.1",
        ),
        (
            lambda mu, logvar, least: (
                (kl_of(mu, 0 * mu).mean(0) >= least).double().mean()
            ),
            "logvar has no effect",
        ),
        (
            lambda mu, logvar, least: (
                (kl_of(mu, 2 * logvar).mean(0) >= least).double().mean()
            ),
            "logvar counts twice",
        ),
        (lambda mu, logvar, least: (kl_of(mu, logvar) >= least).mean(), ".float()"),
    ],
    "slerp": [
        (arc(lambda c: torch.acos(c.abs())), "120°"),
        (arc(lambda c: torch.acos(c.clamp(0, 1))), "120°"),
        (arc(lambda c: math.pi / 2 - c), "values differ"),
    ],
    "add_noise": [(square_only, "two shapes do not fit")],
    "min_snr": [
        (lambda snr, gamma: (int(gamma) / snr).clamp(max=1), "values differ"),
        (lambda snr, gamma: (snr.clamp(max=gamma) / snr).tolist(), "another kind"),
    ],
    "cached_latents": [
        (
            lambda m, eps, mean, std: (
                (m.chunk(2, 1)[0] + (0.5 * m.chunk(2, 1)[1]).exp() * eps - mean) / std
            ),
            "lined up with the columns",
        ),
    ],
    "ddpm_step": [
        (other_dice, "generator"),
        (same_dice, "different noise"),
        (
            lambda z_t, x0, a_t, a_s, generator=None: torch.normal(
                *posterior_by_bayes(z_t, x0, a_s, a_t)
            ),
            "ddpm_step: ",
        ),
    ],
    "sampler": [
        (own_schedule, "an index is larger"),
        (asks_once_more, "called once"),
    ],
    "class_dropout": [
        (fixed_mask, "Two calls"),
        (exact_count, "left to chance"),
        (
            lambda y, share, none: torch.where(torch.rand(y.shape) < 0.1, none, y),
            "With share = 0 nothing",
        ),
        (
            lambda y, share, none: torch.where(torch.rand_like(y) < share, none, y),
            "float dtype",
        ),
    ],
    "guidance": [
        (lambda c, u, s: c if s == 0 else u + s * (c - u), "values differ"),
        (lambda c, u, s: u + (s or 1) * (c - u), "values differ"),
    ],
    "speedup": [
        (lambda n, x, z, d: round(n * x / (n * z + d), 1), "values differ"),
        (lambda n, x, z, d: n * x / (n * z - d), "decode has the wrong sign"),
    ],
    "break_even": [
        (lambda E, e, D, x, z: int((E + e * D) / (x - z)), "rounded down"),
    ],
    "amdahl": [
        (lambda p, s: 1 / p, "limit for an infinite factor"),
    ],
}
RIGHT |= builder_answers.RIGHT
for exercise, answers in (NEARLY | builder_answers.WRONG).items():
    WRONG.setdefault(exercise, []).extend(answers)
