"""The exercise on finding a planted bug in a sampler that can only be called."""

import torch

from ldm_tutorial.teach.boxes import BUGS, Box, box
from ldm_tutorial.teach.task import Case, Exercise


def diagnose(box: Box) -> str:
    """Probe a sampler with a denoiser that sees no noise and writes down its calls."""
    seen = []

    def silent(z_t, t, y):
        seen.append((int(t[0]), int(y[0])))
        return torch.zeros_like(z_t)

    grown = float(box(silent, torch.ones(1, 1, 1, 1), torch.tensor([0])))
    times = box.schedule.timesteps(box.steps)
    if {t for t, _ in seen} != set(times):
        return "time"
    if {y for _, y in seen} != {0, box.num_classes}:
        return "no class"
    # Without noise every step only rescales, from the root of alpha_bar to 1 at last.
    healthy = box.std / float(box.schedule.alpha_bar[times[0]].sqrt())
    if abs(grown / healthy - 1) < 0.01:
        return "none"
    if abs(grown / (healthy * box.std) - 1) < 0.01:
        return "scale"
    return "prediction" if grown < 0.999 * box.std else "alpha"


def unseen(bug: str, seed: int) -> Case:
    return Case(
        lambda: (box(bug, seed),),
        expected=bug,
        note=f"a box you have not seen ({seed})",
        reasons={other: BUGS[bug] for other in BUGS if other != bug},
    )


def overlooking(bug: str, instead: str):
    """A diagnosis that takes one bug for something else."""

    def f(box):
        found = diagnose(box)
        return instead if found == bug else found

    return f


def last_class_for_none(box: Box) -> str:
    """A diagnosis that expects the label of the last class where none is meant."""
    labels = set()

    def note(z_t, t, y):
        labels.update(y.tolist())
        return torch.zeros_like(z_t)

    box(note, torch.ones(1, 1, 1, 1), torch.tensor([0]))
    found = diagnose(box)
    if found == "time":
        return found
    return "none" if labels == {0, box.num_classes - 1} else "no class"


FIND_THE_BUG = Exercise(
    name="find_the_bug",
    chapter=4,
    difficulty=3,
    trains="finding a bug by experiments, where no error is raised",
    title="a sampler with a bug in it",
    prompt=(
        "`box(denoiser, z_T, y)` is somebody's sampler, with guidance. It runs, and "
        "its samples are poor. Write `diagnose(box)`, which finds out why by calling "
        "it, with denoisers `f(z_t, t, y)` of your own making, and returns one word: "
        '`"time"`, '
        'the denoiser is called at wrong times; `"no class"`, a wrong label stands '
        'for no class; `"scale"`, the latents are multiplied by `std` twice; '
        '`"alpha"`, one step\'s α is used for ᾱ; `"prediction"`, the guess of the '
        'noise is taken for v; `"none"`, the box is all right. You may read '
        "`box.schedule`, `box.steps`, `box.std`, `box.num_classes` and "
        "`help(box.__call__)`, which says what a right box does. It is judged on "
        "boxes that you have not seen, of other schedules, scales and classes."
    ),
    reference=diagnose,
    lines="12-20 lines",
    cases=tuple(
        unseen(bug, 7 * i + seed)
        for seed in (101, 202, 303)
        for i, bug in enumerate(BUGS)
    ),
    hints=(
        "A denoiser may do more than guess: a function that appends t and y to a list "
        "before it answers tells you all about the calls.",
        "Give it the answer zero, always. Then nothing is random and no step adds "
        "anything: each only rescales the array, and you can say on paper by how much, "
        "from z_T = 1 to the end.",
        "For a right box, what comes out is std over the root of ᾱ at the first time. "
        "Work out the same for the three bugs that rescale: which of them is larger by "
        "a factor std, which can never exceed std, which exceeds it by a little?",
    ),
    misconceptions={
        "times not looked at": (
            overlooking("time", "none"),
            "the times at which the box calls the denoiser were not looked at",
        ),
        "labels not looked at": (
            overlooking("no class", "none"),
            "the labels that the box hands to the denoiser were not looked at",
        ),
        "scale overlooked": (
            overlooking("scale", "none"),
            "the scale of what comes out was not compared with `std`",
        ),
        "alpha for prediction": (
            overlooking("alpha", "prediction"),
            "α for ᾱ was taken for a wrong prediction type: with v a silent denoiser "
            "makes the array smaller than std, with α a little larger",
        ),
        "prediction for alpha": (
            overlooking("prediction", "alpha"),
            "a wrong prediction type was taken for α: with v a silent denoiser makes "
            "the array smaller than std, with α a little larger",
        ),
        "every box at wrong times": (
            lambda box: "time",
            "every box is accused of wrong times: a right one asks at "
            "`box.schedule.timesteps(box.steps)`",
        ),
        "last class for none": (
            last_class_for_none,
            "the label `box.num_classes` - 1 was taken for no class; it is the last "
            "class, and no class is the number after it",
        ),
        "nothing is ever right": (
            overlooking("none", "scale"),
            "a box without a bug was accused",
        ),
    },
)
