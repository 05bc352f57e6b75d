"""The exercise on two lists of scores: better, worse, or cannot tell."""

import torch
from torch import Tensor

from ldm_tutorial.teach.task import Case, Exercise


def compare(a: Tensor, b: Tensor) -> str:
    """Whether model b scores higher than a: a paired t-interval of the differences."""
    d = b - a
    error = d.std() / len(d) ** 0.5
    if d.mean().abs() <= 2.2 * error:  # about Student's t for a dozen pairs
        return "cannot tell"
    return "better" if d.mean() > 0 else "worse"


def pairs(seed: int, effect: float, n: int, spread: float = 5.0):
    """Scores of two models on the same n seeds: seeds differ by ``spread``, the two
    models on one seed by 1, and b is better by ``effect`` on average."""
    g = torch.Generator().manual_seed(seed)
    draw = lambda: torch.randn(n, generator=g, dtype=torch.float64)  # noqa: E731
    shared = 30 + spread * draw()
    return shared + 0.7 * draw(), shared + effect + 0.7 * draw()


def share(f, word: str, effect: float, n: int, tables: int = 300) -> float:
    """How often a verdict comes on random tables."""
    found = [f(*pairs(1000 * n + i, effect, n)) for i in range(tables)]
    return found.count(word) / tables


def few_false_alarms(f) -> bool:
    return all(share(f, "cannot tell", 0.0, n) > 0.87 for n in (12, 30))


def enough_power(f) -> bool:
    return share(f, "better", 1.15, 12) > 0.85 and share(f, "worse", -0.72, 30) > 0.85


def alike_on_all(f) -> bool:
    """What all scores have in common says nothing."""
    found = [pairs(i, 1.0, 15) for i in range(40)]
    return all(f(a + 500, b + 500) == f(a, b) for a, b in found)


def scale_free(f) -> bool:
    found = [pairs(i, 1.0, 15) for i in range(40)]
    return all(f(100 * a, 100 * b) == f(a, b) for a, b in found)


def narrow() -> tuple[Tensor, Tensor]:
    """b is ahead on 8 of 12 seeds by next to nothing, and far behind on one."""
    d = torch.tensor([0.1] * 8 + [-0.1, -0.2, -4.0, -0.3], dtype=torch.float64)
    a, _ = pairs(3, 0.0, 12)
    return a, a + d


def nearly_none() -> tuple[Tensor, Tensor]:
    """Differences of both signs whose mean is a twentieth of their spread."""
    a, _ = pairs(7, 0.0, 12)
    return a, a + torch.linspace(-1.0, 1.0, 12, dtype=torch.float64) + 0.03


def ahead() -> tuple[Tensor, Tensor]:
    """b is ahead on all of 12 seeds, by no more than the differences spread."""
    a, _ = pairs(5, 0.0, 12)
    return a, a + torch.linspace(0.1, 2.4, 12, dtype=torch.float64)


WHY = {
    "better": "b is ahead on hardly more seeds than chance would have it, or behind",
    "worse": "b is behind on hardly more seeds than chance would have it, or ahead",
    "cannot tell": "on the same seeds the two differ by the same sign again and again, "
    "by far more than the mean of the differences is uncertain",
}


def verdict(word: str, make, note: str) -> Case:
    reasons = {w: reason for w, reason in WHY.items() if w != word}
    return Case(make, expected=word, note=note, reasons=reasons)


def compare_slip(kind: str):
    def f(a, b):
        d = b - a
        error = d.std() / len(d) ** 0.5
        if kind == "exchanged":
            d = -d
        if kind == "not paired":
            error = ((a.var() + b.var()) / len(a)) ** 0.5
        if kind == "spread for its error":
            error = d.std()
        if kind == "means alone":
            error = 0 * error
        if kind == "variance":
            error = d.var() / len(d)
        if kind == "n for its root":
            error = d.std() / len(d)
        if kind == "one error":
            error = error / 2.2
        if kind == "one side":
            return "better" if d.mean() > 2.2 * error else "cannot tell"
        if kind == "one side down":
            return "cannot tell" if d.mean() > -2.2 * error else "worse"
        if d.mean().abs() <= 2.2 * error:
            return "cannot tell"
        return "better" if d.mean() > 0 else "worse"

    return f


def majority(a: Tensor, b: Tensor) -> str:
    ahead = int((b > a).sum())
    if 2 * ahead == len(a):
        return "cannot tell"
    return "better" if 2 * ahead > len(a) else "worse"


COMPARE = Exercise(
    name="compare",
    chapter=4,
    difficulty=3,
    trains="judging a difference against its uncertainty, and admitting ignorance",
    title="better, worse, or cannot tell",
    prompt=(
        "Two models were trained with the same n seeds and scored, the higher the "
        "better: `a` and `b`, shape (n,), in the same order of seeds, n from 10 on. "
        'Return `"better"` if b is better than a, `"worse"` if it is worse, and '
        '`"cannot tell"` where the difference may be chance. Seeds differ far more '
        "than models do, so compare pair by pair: the mean of the differences, "
        "against its own standard error, twice or a little more of it on either side. "
        "Your verdicts are counted on some hundred random tables: of equal models "
        "hardly one in twenty may be told apart, and where one is really better it "
        "has to be found."
    ),
    reference=compare,
    lines="4-6 lines",
    cases=(
        verdict("better", lambda: pairs(1, 2.0, 20), "20 seeds, b better by 2 or so"),
        verdict("worse", lambda: pairs(2, -2.0, 20), "20 seeds, b worse by 2 or so"),
        verdict("cannot tell", lambda: pairs(8, 0.0, 20), "20 seeds, equal models"),
        verdict(
            "better",
            lambda: tuple(s.float() for s in pairs(4, 3.0, 10, spread=20.0)),
            "10 seeds that differ a lot, b better by 3 or so",
        ),
        verdict("cannot tell", lambda: pairs(6, 0.05, 12), "12 seeds, next to equal"),
        verdict("cannot tell", nearly_none, "12 seeds, b ahead by next to nothing"),
        verdict("better", ahead, "12 seeds, b a little ahead on every one of them"),
        verdict(
            "cannot tell",
            narrow,
            "12 seeds, b ahead by a tenth on 8 of them and behind by 4 on one",
        ),
    ),
    properties=(
        (
            'Of equal models, about 19 tables in 20 should end in "cannot tell": '
            "yours sees differences that are chance.",
            few_false_alarms,
        ),
        (
            "Real differences, about as large as the noise of a pair, should be found "
            "nearly always: yours misses too many. Are the scores compared pair by "
            "pair, and with about two standard errors of as many pairs as there are?",
            enough_power,
        ),
        (
            "The verdict should not change if all scores are higher by the same.",
            alike_on_all,
        ),
        (
            "The verdict should not depend on the unit of the scores: multiplied by "
            "100, they say the same.",
            scale_free,
        ),
    ),
    hints=(
        "Begin with one number a seed: b - a. What the seed does to both is gone.",
        "The mean of n numbers is uncertain by their standard deviation over the root "
        "of n.",
        "If the mean lies within about two such errors of 0, nobody can tell. "
        "Otherwise its sign decides.",
    ),
    misconceptions={
        "means alone": (
            compare_slip("means alone"),
            "only the means were compared; equal models, too, differ a little",
        ),
        "n for its root": (
            compare_slip("n for its root"),
            "the spread was divided by n; the error of a mean is the spread over the "
            "root of n",
        ),
        "one error": (
            compare_slip("one error"),
            "the limit is too narrow, about one standard error: of equal models one "
            "table in three would be told apart",
        ),
        "one side": (
            compare_slip("one side"),
            '"worse" is never the answer: look on either side of 0',
        ),
        "one side down": (
            compare_slip("one side down"),
            '"better" is never the answer: look on either side of 0',
        ),
        "not paired": (
            compare_slip("not paired"),
            "the scores were not compared in pairs: what seeds do to both models "
            "drowns the difference",
        ),
        "spread for its error": (
            compare_slip("spread for its error"),
            "the mean was compared with the spread of the differences; its own error "
            "is smaller by the root of n",
        ),
        "exchanged": (
            compare_slip("exchanged"),
            "the two models are exchanged: a higher score of b is better",
        ),
        "majority": (
            majority,
            "the seeds were counted on which b is ahead; a narrow majority is chance",
        ),
    },
)
