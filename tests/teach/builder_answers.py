"""Answers to the exercises that build or judge something, as readers might write them.

RIGHT and WRONG as in ``exercise_answers``.
"""

import copy
import math
import statistics
from itertools import pairwise

import torch
import torch.nn.functional as F

from ldm_tutorial.layers import ResBlock
from ldm_tutorial.unet import apply

# diffusion_loss


def loss_by_image(denoiser, schedule, z_0, generator=None):
    """The noise first, then the times; one mean after the other."""
    noise = torch.randn(z_0.shape, generator=generator, dtype=z_0.dtype)
    times = torch.randint(0, len(schedule), z_0.shape[:1], generator=generator)
    left = schedule.alpha_bar[times].reshape(-1, 1, 1, 1)
    guess = denoiser(left**0.5 * z_0 + (1 - left) ** 0.5 * noise, times)
    return (guess - noise).pow(2).mean((1, 2, 3)).mean()


def loss_in_place(denoiser, schedule, z_0, generator=None):
    """Times from uniform numbers; z_0 is written over."""
    u = torch.rand(len(z_0), generator=generator)
    t = (u * len(schedule)).long()
    eps = torch.empty_like(z_0).normal_(generator=generator)
    a = schedule.alpha_bar.gather(0, t)[:, None, None, None]
    z_0.mul_(a.sqrt()).add_((1 - a).sqrt() * eps)
    return F.mse_loss(denoiser(z_0, t), eps)


def uniform(T, n, generator):
    return torch.randint(T, (n,), generator=generator)


def loss_with(times=None, noise=None, target=None, calls=1, cut=False):
    def f(denoiser, schedule, z_0, generator=None):
        T, n = len(schedule), len(z_0)
        t = (times or uniform)(T, n, generator)
        make = noise or (lambda z, g: torch.randn(z.shape, generator=g))
        eps = make(z_0, generator)
        a = schedule.at(t, z_0)
        z_t = a.sqrt() * z_0 + (1 - a).sqrt() * eps
        for _ in range(calls):
            guess = denoiser(z_t, t)
        loss = (guess - (target(eps) if target else eps)).square().mean()
        return loss.detach() if cut else loss

    return f


# train


def train_by_hand(model, average, optimizer, batch_loss, steps, decay):
    """Gradients are emptied by the model, after the step; the average by copy_."""
    losses = torch.zeros(steps)
    for i in range(steps):
        model.zero_grad()
        loss = batch_loss(model)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for a, p in zip(average.parameters(), model.parameters(), strict=True):
                a.copy_(decay * a + (1 - decay) * p)
        losses[i] = loss.item()
    return losses


def train_by_state(model, average, optimizer, batch_loss, steps, decay):
    found = []
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        loss = batch_loss(model)
        found.append(float(loss.detach()))
        loss.backward()
        optimizer.step()
        new = model.state_dict()
        old = average.state_dict()
        average.load_state_dict({k: decay * old[k] + (1 - decay) * new[k] for k in old})
    return torch.tensor(found)


def train_with(
    average_every=1, shares=None, keep_graph=False, tie=False, extra=0, start=False
):
    def f(model, average, optimizer, batch_loss, steps, decay):
        losses = []
        for i in range(steps + extra):
            if start:
                follow(model, average, decay)
            loss = batch_loss(model)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if not start and (i + 1) % average_every == 0:
                follow(model, average, shares(decay) if shares else decay)
            if tie:
                for a, p in zip(average.parameters(), model.parameters(), strict=True):
                    a.data = p.data
            losses.append(loss if keep_graph else loss.detach())
        return torch.stack(losses[:steps])

    return f


@torch.no_grad()
def follow(model, average, decay):
    for a, p in zip(average.parameters(), model.parameters(), strict=True):
        a.mul_(decay).add_(p, alpha=1 - decay)


def average_replaced(model, average, optimizer, batch_loss, steps, decay):
    """The name is bound anew; what was handed in stays as it was."""
    losses = train_with()(
        model, copy.deepcopy(average), optimizer, batch_loss, steps, decay
    )
    average = copy.deepcopy(model)
    return losses


# unet_forward


def forward_by_blocks(unet, z_t, t, y):
    """Every layer by hand, the kept arrays in a stack that is read from its end."""
    knobs = unet.class_embedding(y) + unet.time_embedding(t)

    def through(stage, h):
        for layer in stage:
            h = layer(h, knobs) if isinstance(layer, ResBlock) else layer(h)
        return h

    kept = [unet.stem(z_t)]
    for stage in unet.down:
        kept = [*kept, through(stage, kept[-1])]
    h = through(unet.middle, kept[-1])
    for stage in unet.up:
        if type(stage[0]) is ResBlock:
            *kept, last = kept
            h = torch.concat((h, last), 1)
        h = through(stage, h)
    return unet.out(h)


def forward_by_method(unet, z_t, t, y):
    h, skips, emb = unet.descend(z_t, t, y)
    for stage in unet.up:
        takes = stage[0].__class__.__name__ == "ResBlock"
        h = apply(stage, torch.cat([h, skips.pop(-1)], 1) if takes else h, emb)
    return unet.out(h)


def forward_with(pop=-1, emb=None, stem_kept=True):
    def f(unet, z_t, t, y):
        knobs = unet.time_embedding(t) + unet.class_embedding(y)
        if emb:
            knobs = emb(unet, t, y)
        h = unet.stem(z_t)
        skips = [h] if stem_kept else []
        for stage in unet.down:
            h = apply(stage, h, knobs)
            skips.append(h)
        h = apply(unet.middle, h, knobs)
        for stage in unet.up:
            if isinstance(stage[0], ResBlock):
                h = torch.cat([h, skips.pop(pop)], 1)
            h = apply(stage, h, knobs)
        return unet.out(h)

    return f


# dpm_solver_2m


def solver_in_log_snr(denoiser, schedule, z_T, steps):
    """With lambda, sigma and exponentials, as in the paper."""
    z, times = z_T, schedule.timesteps(steps)
    a = schedule.alpha_bar.double()[times]
    lam = 0.5 * (torch.log(a) - torch.log1p(-a))
    old = None
    for i, t in enumerate(times):
        eps = denoiser(z, torch.full(z.shape[:1], t))
        x0 = (z - (1 - a[i]).sqrt().to(z) * eps) / a[i].sqrt().to(z)
        if i == steps - 1:
            return x0
        h = lam[i + 1] - lam[i]
        D = x0
        if old is not None:
            r = (lam[i] - lam[i - 1]) / h
            D = (1 + 1 / (2 * r)).to(z) * x0 - (1 / (2 * r)).to(z) * old
        sigma, sigma_s = (1 - a[i]).sqrt(), (1 - a[i + 1]).sqrt()
        shift = a[i + 1].sqrt() * -torch.expm1(-h)
        z = (sigma_s / sigma).to(z) * z + shift.to(z) * D
        old = x0
    return z


def solver_by_pairs(denoiser, schedule, z_T, steps):
    z, memory = z_T.clone(), []
    times = schedule.timesteps(steps)
    ends = [schedule.alpha_bar[s].item() for s in times[1:]] + [1.0]
    for t, b in zip(times, ends, strict=True):
        a = schedule.alpha_bar[t].item()
        eps = denoiser(z, torch.tensor([t] * len(z)))
        x0 = (z - math.sqrt(1 - a) * eps) / math.sqrt(a)
        if b == 1.0:
            z = x0
            continue
        h = 0.5 * math.log(b / (1 - b)) - 0.5 * math.log(a / (1 - a))
        line = x0
        if memory:
            line = x0 + h / (2 * memory[-1][1]) * (x0 - memory[-1][0])
        memory.append((x0, h))
        r = math.sqrt((1 - b) / (1 - a))
        z = r * z + (math.sqrt(b) - r * math.sqrt(a)) * line
    return z


def asks_twice(denoiser, schedule, z_T, steps):
    """The guess before is asked for again, at the old array."""
    denoiser(z_T, torch.full((len(z_T),), schedule.timesteps(steps)[0]))
    return solver_by_pairs(denoiser, schedule, z_T, steps)


# find_the_bug


def diagnose_by_trial(box):
    """Runs what each box would do to ones, and looks which it is."""
    calls = []

    def deaf(z, t, y):
        calls.append((t.unique().item(), y.unique().item()))
        return z * 0

    out = box(deaf, torch.ones(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64))
    times, labels = zip(*calls, strict=True)
    if list(dict.fromkeys(times)) != box.schedule.timesteps(box.steps):
        return "time"
    if set(labels) != {0, box.num_classes}:
        return "no class"
    path = box.schedule.timesteps(box.steps)
    a_bar, alpha = box.schedule.alpha_bar, 1 - box.schedule.beta
    turn = 1.0
    for now, then in pairwise([*path, None]):
        c, d = a_bar[now], 1.0 if then is None else a_bar[then]
        turn *= float((c * d) ** 0.5 + ((1 - c) * (1 - d)) ** 0.5)
    candidates = {
        "none": box.std / a_bar[path[0]] ** 0.5,
        "scale": box.std**2 / a_bar[path[0]] ** 0.5,
        "alpha": box.std / alpha[path[0]] ** 0.5,
        "prediction": box.std * turn,
    }
    got = out.mean().item()
    return min(candidates, key=lambda name: abs(math.log(got / candidates[name])))


def guess_once(box):
    seen = []
    note = lambda z, t, y: seen.append(int(t[0])) or z  # noqa: E731
    box(note, torch.ones(1, 1, 1, 1), torch.tensor([0]))
    return "none" if seen[0] == len(box.schedule) - 1 else "time"


# read_curves


def read_by_score(log):
    end = {name: float(curve[-6:].mean()) for name, curve in log.items()}
    if bool((log["diffusion"][8:] > 3).any()):
        return "rate too high"
    if end["kl"] < 0.3:
        return "collapsed"
    shrunk = end["latent_std"] / float(log["latent_std"][:4].mean())
    return "wrong reason" if shrunk < 0.5 else "healthy"


def read_by_error(log):
    """The error of the autoencoder tells as well."""
    loss, error = log["diffusion"].numpy(), log["reconstruction"].numpy()
    if loss[4:].max() > 2.5:
        return "rate too high"
    if error[-5:].mean() > 3 * error[:5].mean():
        return "wrong reason"
    return "collapsed" if log["kl"].max() < 0.5 else "healthy"


# compare


def compare_in_python(a, b):
    d = [float(y) - float(x) for x, y in zip(a, b, strict=True)]
    error = statistics.stdev(d) / math.sqrt(len(d))
    t = statistics.fmean(d) / error
    return "better" if t > 2.1 else "worse" if t < -2.1 else "cannot tell"


def compare_by_interval(a, b):
    d = b - a
    half = 1.96 * d.std() / math.sqrt(d.numel())
    low, high = d.mean() - half, d.mean() + half
    if low > 0:
        return "better"
    return "worse" if high < 0 else "cannot tell"


def compare_with(limit, unit=False):
    def f(a, b):
        d = b - a
        error = torch.ones(()) if unit else d.std() / len(d) ** 0.5
        if d.mean().abs() <= limit * error:
            return "cannot tell"
        return "better" if d.mean() > 0 else "worse"

    return f


def weight_by_sort(weights, distances, intervals, pixel_values, latent_elements):
    """Row by row, from the largest weight down."""
    rows = sorted(
        zip(weights.tolist(), distances.tolist(), intervals.tolist(), strict=True),
        reverse=True,
    )
    _, best, half = min(rows, key=lambda row: row[1])
    return next(w for w, d, _ in rows if d <= best + half) * (
        latent_elements / pixel_values
    )


RIGHT = {
    "diffusion_loss": [loss_in_place, loss_by_image],
    "train": [train_by_state, train_by_hand],
    "unet_forward": [forward_by_method, forward_by_blocks],
    "dpm_solver_2m": [solver_in_log_snr, solver_by_pairs],
    "find_the_bug": [
        diagnose_by_trial,
        lambda box: diagnose_by_trial(box),
    ],
    "read_curves": [read_by_score, read_by_error],
    "choose_weight": [
        weight_by_sort,
        lambda w, d, h, n_x, n_z: (
            w[d <= d.min() + h[d.argmin()]].amax().item() * n_z / n_x
        ),
    ],
    "compare": [compare_in_python, compare_by_interval],
}

WRONG = {
    "diffusion_loss": [
        (
            loss_with(lambda T, n, g: torch.randint(T, (1,), generator=g).expand(n)),
            "one time was drawn for the whole batch",
        ),
        (
            loss_with(lambda T, n, g: torch.randint(1, T, (n,), generator=g)),
            "Every time from 0 to T - 1",
        ),
        (
            loss_with(lambda T, n, g: torch.randint(T - 1, (n,), generator=g)),
            "Every time from 0 to T - 1",
        ),
        (
            loss_with(lambda T, n, g: torch.randint(T, (n,))),
            "both draws have to come from it",
        ),
        (
            loss_with(noise=lambda z, g: torch.randn(z.shape)),
            "both draws have to come from it",
        ),
        (loss_with(noise=lambda z, g: torch.randn(1, 1, 1, 1)), "loss"),
        (loss_with(calls=2), "called once a batch"),
        (loss_with(cut=True), "gradient"),
        (loss_with(target=lambda eps: -eps), "diffusion_loss"),
        (
            loss_with(lambda T, n, g: T * torch.rand(n, generator=g).square() // 1),
            "raises an exception",
        ),
        (
            loss_with(lambda T, n, g: (T * torch.rand(n, generator=g).square()).long()),
            "All times should be equally likely",
        ),
    ],
    "train": [
        (train_with(average_every=10), "follow after every step"),
        (train_with(shares=lambda d: 1 - d), "the shares are exchanged"),
        (train_with(start=True), "follow after every step"),
        (train_with(keep_graph=True), "hold on to no graph"),
        (train_with(tie=True), "with the weights of so many steps"),
        (train_with(extra=1), "in this order"),
        (average_replaced, "follow after every step"),
    ],
    "unet_forward": [
        (forward_with(pop=0), "unet_forward"),
        (forward_with(stem_kept=False), "the output of the stem was not kept"),
        (
            forward_with(
                emb=lambda u, t, y: u.time_embedding(t) * u.class_embedding(y)
            ),
            "embeddings were multiplied",
        ),
    ],
    "dpm_solver_2m": [(asks_twice, "called 6 times in 5 steps")],
    "find_the_bug": [
        (guess_once, "find_the_bug"),
        (lambda box: "none", "find_the_bug"),
        (lambda box: "bug", "no such choice"),
    ],
    "read_curves": [
        (lambda log: "healthy", "read_curves"),
        (lambda log: "fine", "no such choice"),
    ],
    "compare": [
        (compare_with(1.0), "chance"),
        (compare_with(6.0), "compare"),
        (compare_with(0.8, unit=True), "compare"),
    ],
    "choose_weight": [
        (lambda w, d, h, n_x, n_z: float(w.max()) * n_z / n_x, "of the table was"),
        (lambda w, d, h, n_x, n_z: int(d.argmin()), "have no effect"),
    ],
}
