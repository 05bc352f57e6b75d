"""Exercises on classes: labels that hide, and guidance."""

import math

import torch
from torch import Tensor

from ldm_tutorial.guidance import guided
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.teach.task import Case, Exercise
from ldm_tutorial.teach.tasks.inputs import first, randn


def hide_classes(y: Tensor, share: float, no_class: int) -> Tensor:
    """Classes (B,) of which a random share is replaced by "no class"."""
    return torch.where(torch.rand(y.shape) < share, no_class, y)


def classes() -> Tensor:
    return torch.arange(20_000) % 4


def dropped(share: float) -> Case:
    """A share is compared with 5 standard deviations to either side."""

    def shares(y: Tensor) -> Tensor:
        found = [(y == k).double().mean() for k in (4, 0, -1)]
        return torch.stack([*found, torch.tensor(y.numel() / 20_000).double()])

    return Case(
        lambda: (classes(), share, 4),
        measure=shares,
        note=f"20,000 labels 0 to 3, share = {share} and no_class = 4, the shares of "
        "the labels 4, 0 and -1, and how many labels there are",
        atol=5 * math.sqrt(share * (1 - share) / 20_000),
        rtol=0.0,
    )


def rest_kept(f) -> bool:
    y = f(classes(), 0.5, 4)
    return bool(((y == classes()) | (y == 4)).all())


def by_class(f) -> bool:
    hidden = f(classes(), 0.5, 4) == 4
    shares = [float(hidden[classes() == k].double().mean()) for k in range(4)]
    return max(shares) - min(shares) < 0.1


def counts(f) -> bool:
    """Of a small batch, each number of hidden labels should turn up in many calls."""
    found = [int((f(torch.arange(4), 0.5, 9) == 9).sum()) for _ in range(300)]
    return set(found) == {0, 1, 2, 3, 4}


CLASS_DROPOUT = Exercise(
    name="class_dropout",
    chapter=3,
    difficulty=1,
    trains="a throw of the dice for every label",
    title="labels that hide",
    prompt=(
        "For classifier-free guidance the network must know both: what this class "
        "looks like, and what any image looks like. Return the labels `y`, int64 "
        "(B,), with each one replaced by `no_class` with probability `share`, "
        "independently of the others."
    ),
    reference=hide_classes,
    lines="1-2 lines",
    cases=(dropped(0.1), dropped(0.75)),
    properties=(
        ("Labels that are not hidden should stay what they are.", rest_kept),
        (
            "Chance should decide for each label by itself, not by its class.",
            by_class,
        ),
        (
            "With share = 0 nothing, and with share = 1 everything should be hidden.",
            lambda f: (
                torch.equal(f(classes(), 0.0, 4), classes())
                and bool((f(classes(), 1.0, 4) == 4).all())
            ),
        ),
        (
            "Two calls should hide different labels.",
            lambda f: not torch.equal(*(f(classes(), 0.5, 4) for _ in "ab")),
        ),
        (
            "How many labels of a batch are hidden is left to chance, too: of four, "
            "any number from none to all.",
            counts,
        ),
        (
            "Chance should decide for each label by itself, not for whole blocks.",
            lambda f: (
                9_000
                < int((f(classes(), 0.5, 4) == 4).long().diff().abs().sum())
                < 11_000
            ),
        ),
    ),
    hints=(
        "torch.rand(y.shape, device=y.device) is a number between 0 and 1 for each "
        "label. With which probability is it below share?",
        "hidden = torch.rand(y.shape) < share is true for the labels to replace.",
        "torch.where(condition, a, b) takes a where the condition holds. Which of "
        "the two is y?",
    ),
    misconceptions={
        "share kept": (
            lambda y, share, none: torch.where(torch.rand(y.shape) > share, none, y),
            "the share was kept and the rest hidden; the comparison points the wrong "
            "way",
        ),
        "all or none": (
            lambda y, share, none: (
                torch.full_like(y, none) if torch.rand(()) < share else y
            ),
            "one draw decided for the whole batch; each label needs its own",
        ),
        "set to zero": (
            lambda y, share, none: torch.where(torch.rand(y.shape) < share, 0, y),
            "hidden labels became 0, which is a class like any other",
        ),
        "set to minus one": (
            lambda y, share, none: torch.where(torch.rand(y.shape) < share, -1, y),
            "hidden labels became -1; `no_class` is the number that stands for none",
        ),
        "removed": (
            lambda y, share, none: y[torch.rand(y.shape) >= share],
            "labels were removed; every image keeps a label, and for some it is "
            "`no_class`",
        ),
        "nothing hidden": (
            lambda y, share, none: y.clone(),
            "no label is hidden",
        ),
        "half hidden": (
            lambda y, share, none: torch.where(torch.rand(y.shape) < 0.5, none, y),
            "half of the labels are hidden, whatever the share",
        ),
        "normal noise": (
            lambda y, share, none: torch.where(torch.randn(y.shape) < share, none, y),
            "the chance came from randn, normal numbers; rand gives uniform ones",
        ),
    },
    source=(hide_classes, LatentDiffusion._hide),
)


def guidance(cond: Tensor, uncond: Tensor, guidance_scale: float) -> Tensor:
    """Classifier-free guidance: scale 1 is ``cond``, scale 0 is ``uncond``."""
    return uncond + guidance_scale * (cond - uncond)


GUIDANCE = Exercise(
    name="guidance",
    chapter=3,
    difficulty=1,
    trains="going further than the difference of two answers",
    title="classifier-free guidance",
    prompt=(
        "`cond` and `uncond` are the network's predictions with and without the class. "
        "Start at `uncond` and go `guidance_scale` times the way to `cond`: scale 1 "
        "gives `cond`, scale 0 gives `uncond`, and more than 1 exaggerates the class."
    ),
    reference=guidance,
    cases=(
        Case(lambda: (first(3.0), first(1.0), 2.0), expected=first(5.0)),
        Case(lambda: (first(3.0), first(1.0), 0.5), expected=first(2.0)),
        Case(lambda: (first(3.0), first(1.0), 0.0), expected=first(1.0)),
        Case(lambda: (first(3.0), first(1.0), 1.0), expected=first(3.0)),
        Case(lambda: (randn(1, 2, 4, 3, 5), randn(2, 2, 4, 3, 5), 7.5)),
    ),
    hints=(
        "The way from uncond to cond is cond - uncond.",
        "Go the whole way and you are at cond; go twice as far and you are beyond it.",
        "Start at uncond and add the way, guidance_scale times.",
    ),
    misconceptions={
        "terms exchanged": (
            lambda c, u, s: c + s * (u - c),
            "the two predictions are exchanged: scale 1 should give cond",
        ),
        "paper's w": (
            lambda c, u, s: c + s * (c - u),
            "this starts at cond, so scale 0 is the plain model: that is the w of Ho & "
            "Salimans, and s = w + 1",
        ),
        "difference turned": (
            lambda c, u, s: u + s * (u - c),
            "the difference points from cond to uncond, away from the class",
        ),
        "conditional scaled": (
            lambda c, u, s: s * c,
            "uncond has no effect: guidance needs both predictions",
        ),
        "difference alone": (
            lambda c, u, s: s * (c - u),
            "the start, uncond, was not added",
        ),
        "one less": (
            lambda c, u, s: u + (s - 1) * (c - u),
            "this goes s - 1 times the way; scale 1 should arrive at cond",
        ),
        "not weighed": (
            lambda c, u, s: s * c - u,
            "uncond should be weighed with 1 - s, so that the weights add up to one",
        ),
        "added": (
            lambda c, u, s: u + s * c,
            "cond was added to uncond; the difference of the two is",
        ),
    },
    source=(guidance, guided),
)
