"""Exercises on the discriminator: its loss, and how hard it may pull."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ldm_tutorial.teach.task import Case, Exercise
from ldm_tutorial.teach.tasks.inputs import randn
from ldm_tutorial.training import losses


def hinge_d_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    return losses.hinge_d_loss(real_logits, fake_logits)


def logits(*values: float) -> Tensor:
    """One patch an image, (B, 1, 1, 1)."""
    return torch.tensor(values).view(-1, 1, 1, 1)


HINGE = Exercise(
    name="hinge",
    chapter=1,
    difficulty=1,
    trains="a margin, in code",
    title="what the discriminator minimises",
    prompt=(
        "The discriminator gives one logit for each patch, (B, 1, h, w), high where "
        "it takes a patch for real. Write its hinge loss: a real patch, of "
        "`real_logits`, costs nothing from a logit of 1 on, and one more for every "
        "unit below; a fake patch, of `fake_logits`, costs nothing up to $-1$, and "
        "one more for every unit above. Return half the sum of the two means, one "
        "number."
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
        "What does a real patch cost at logits of 1, 0 and -1? And what is that in "
        "general, as long as it is more than nothing?",
        "max(0, a) of a tensor is torch.relu(a) or a.clamp(min=0). For a fake patch "
        "the sign of the logit turns.",
        "Take the mean of each of the two after the maximum, not before, and half of "
        "their sum.",
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
        "minimum": (
            lambda real, fake: (
                0.5 * ((1 - real).clamp(max=0).mean() + (1 + fake).clamp(max=0).mean())
            ),
            "the smaller of 0 and the cost was taken; nothing costs less than 0, so "
            "take the larger",
        ),
        "squared": (
            lambda real, fake: (
                0.5
                * (
                    torch.relu(1 - real).square().mean()
                    + torch.relu(1 + fake).square().mean()
                )
            ),
            "the costs were squared; each unit costs one",
        ),
        "patches together": (
            lambda real, fake: torch.cat(
                [torch.relu(1 - real).flatten(), torch.relu(1 + fake).flatten()]
            ).mean(),
            "one mean was taken over all patches; real and fake have a mean each, "
            "however many there are",
        ),
        "no hinge, no margin": (
            lambda real, fake: fake.mean() - real.mean(),
            "this is the critic's loss of a Wasserstein GAN; the hinge stops at a "
            "margin of 1",
        ),
        "margin of a half": (
            lambda real, fake: (
                0.5 * (torch.relu(0.5 - real).mean() + torch.relu(0.5 + fake).mean())
            ),
            "the margin is ½; it should be 1, and the half stands before the sum",
        ),
        "cross entropy": (
            lambda real, fake: F.softplus(-real).mean() + F.softplus(fake).mean(),
            "this is the logistic loss (binary cross entropy); the hinge is max(0, 1 "
            "- D)",
        ),
        "leaky": (
            lambda real, fake: (
                0.5 * (F.leaky_relu(1 - real).mean() + F.leaky_relu(1 + fake).mean())
            ),
            "a leaky ReLU lets patches that are judged well go below 0; the hinge "
            "stops there",
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


def others_untouched(f) -> bool:
    """Whether the gradients of another layer are left alone."""
    other = diagonal(1.0, 1.0).requires_grad_()
    nll, g_loss, layer = two_losses(1.0, 1.0)
    f(nll + other.sum(), g_loss + other.square().sum(), layer)
    return other.grad is None


def ratio(a: Tensor, b: Tensor) -> Tensor:
    return (a / (b + 1e-4)).detach()


def lengths(nll: Tensor, g_loss: Tensor, layer: Tensor) -> tuple[Tensor, Tensor]:
    """Norms of the two gradients."""
    a, b = pulls(nll, g_loss, layer)
    return a.norm(), b.norm()


def pulls(nll: Tensor, g_loss: Tensor, layer: Tensor) -> list[Tensor]:
    """The two gradients."""
    found = (torch.autograd.grad(v, layer, retain_graph=True) for v in (nll, g_loss))
    return [g for (g,) in found]


ADAPTIVE = Exercise(
    name="adaptive_weight",
    chapter=1,
    difficulty=2,
    trains="gradients by hand, and what is cut out of the graph",
    title="a discriminator that pulls no harder than the pixels",
    prompt=(
        "Two losses pull at the same weights: the scalars `nll` (of the "
        "reconstruction) and `g_loss` (of the critic). A pull is the gradient with "
        "respect to the tensor `last_layer`, of any shape, and its strength is the "
        "norm. Return the factor by which `g_loss` has to be multiplied so that both "
        "pull equally hard; add $10^{-4}$ to the norm that you divide by. Both "
        "graphs are needed afterwards, and `last_layer.grad` belongs to the "
        "optimiser: `torch.autograd.grad(loss, last_layer, retain_graph=True)` "
        "leaves it alone and gives a tuple of one gradient. The factor is a "
        "constant: no gradient may flow through it."
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
        (
            "It should leave the gradients of all other layers alone, too: .backward() "
            "fills them, torch.autograd.grad does not.",
            others_untouched,
        ),
    ),
    hints=(
        "(g,) = torch.autograd.grad(nll, last_layer, retain_graph=True) is the "
        "gradient of the reconstruction; the same with g_loss.",
        ".norm() makes a number of each. If the critic pulls twice as hard as the "
        "other, which factor makes them equal?",
        "Guard the division with the small number below the line, and cut the result "
        "out of the graph.",
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
        "mean of ratios": (
            lambda *a: (
                (pulls(*a)[0].abs() / (pulls(*a)[1].abs() + 1e-4)).mean().detach()
            ),
            "the gradients were divided element by element, and the mean was taken; "
            "the weight is the ratio of their norms",
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
            lambda *a: ratio(lengths(*a)[0], torch.stack(lengths(*a)).sum()),
            "the reconstruction's norm was divided by the sum of both",
        ),
        "mean of absolutes": (
            lambda *a: ratio(*(g.abs().mean() for g in pulls(*a))),
            "the mean of absolute values was taken; the strength of a pull is the "
            "norm, .norm()",
        ),
        "largest": (
            lambda *a: ratio(*(g.abs().max() for g in pulls(*a))),
            "the largest element was taken; the strength of a pull is the norm, "
            ".norm()",
        ),
        "added outside": (
            lambda *a: (lengths(*a)[0] / lengths(*a)[1]).detach() + 1e-4,
            "the 1e-4 was added to the ratio; it belongs to the norm that is divided "
            "by",
        ),
        "difference": (
            lambda *a: (lengths(*a)[0] - lengths(*a)[1]).detach(),
            "the norms were subtracted; the factor is their ratio",
        ),
        "multiplied already": (
            lambda nll, g_loss, layer: (
                adaptive_weight(nll, g_loss, layer) * g_loss.detach()
            ),
            "the loss was multiplied already; the factor alone is asked for",
        ),
    },
    source=(losses.adaptive_weight,),
)
