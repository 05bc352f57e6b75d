"""What a claim is, and how it is held against the records it rests on.

A claim is a sentence of the book, the arms of recorded studies that it is drawn from,
and a function of these that is true as long as the sentence is. ``problems`` lists what
does not fit; a test wants the list to be empty, and the page "How every number was
made" shows the claims.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = ROOT / "data" / "results"
PAGES = {name: ROOT / "book" / f"{name}.md" for name in ("index", "own_images")}
PAGES["README"] = ROOT / "README.md"

Row = dict[str, Any]


@dataclass(frozen=True)
class Claim:
    """A conclusion of the book.

    Attributes:
        page: a chapter's name, ``index``, ``own_images`` or ``README``.
        sentence: what it says, word for word.
        arms: what it rests on, ``RECORD/ARM``, or ``RECORD`` where a record is one run.
        holds: whether the arms' rows, given in this order, bear it out.
        differ: the fields in which the recipes of the arms differ. An experiment
            isolates one; claims that need more say in ``because`` what that means.
            None if the arms are not compared.
        n: where a row says how many images it was judged by.
        numbers: numbers of the sentence, and what they round, from the rows.
        because: why more than one field differs, or what the claim does not isolate.
    """

    page: str
    sentence: str
    arms: tuple[str, ...]
    holds: Callable[..., bool]
    differ: tuple[str, ...] | None = ()
    n: str = ""
    numbers: dict[str, Callable[..., float]] | None = None
    because: str = ""


def record(name: str) -> dict[str, Any]:
    """A recorded result.

    Raises:
        FileNotFoundError: if there is none of that name.
    """
    return json.loads((RESULTS / f"{name}.json").read_text("utf8"))


def row(arm: str) -> Row:
    """The row of ``RECORD/ARM``, or all of ``RECORD``."""
    name, _, part = arm.partition("/")
    found = record(name)
    return found["rows"][part] if part else found


def get(value: Row, path: str) -> Any:
    """What a row holds at ``a.b.c``."""
    for key in path.split("."):
        value = value[key]
    return value


def gap(a: Row, b: Row, path: str) -> tuple[float, float]:
    """By how much b's figure is larger, and the interval of both together."""
    both = (get(r, f"{path}_ci95") for r in (a, b))
    return get(b, path) - get(a, path), sum(w**2 for w in both) ** 0.5


def more(a: Row, b: Row, path: str) -> bool:
    """Whether b's figure is larger by more than both intervals together."""
    difference, both = gap(a, b, path)
    return difference > both


def equal(a: Row, b: Row, path: str) -> bool:
    """Whether two figures differ by no more than both intervals together."""
    difference, both = gap(a, b, path)
    return abs(difference) <= both


def differences(a: Row, b: Row, prefix: str = "") -> Iterator[str]:
    """The fields, ``a.b.c``, in which two recipes differ. A field that only one of them
    has is younger than the other, and not compared."""
    for name in sorted(a.keys() & b.keys()):
        if isinstance(a[name], dict) and isinstance(b[name], dict):
            yield from differences(a[name], b[name], f"{prefix}{name}.")
        elif a[name] != b[name]:
            yield f"{prefix}{name}"


def seeds(recipe: Row) -> set[int]:
    """The seeds of all trainings that a recipe describes."""
    found = {recipe["seed"]} if isinstance(recipe.get("seed"), int) else set()
    for value in recipe.values():
        found |= seeds(value) if isinstance(value, dict) else set()
    return found


def source(page: str) -> str:
    """The text of a page, with single spaces."""
    path = PAGES.get(page, ROOT / "book" / "src" / f"{page}.md")
    return " ".join(path.read_text("utf8").split())


def rounds(text: str, value: float) -> bool:
    """Whether a number as it is printed is a rounding of a value; of a percentage, the
    value is the fraction."""
    scale = 100 if "%" in text else 1
    number = re.search(r"\d[\d,]*\.?\d*", text)[0].replace(",", "")
    digits = len(number.partition(".")[2])
    return abs(float(number) - value * scale) <= 0.5000001 * 10**-digits


def not_isolated(claim: Claim, recipes: list[Row]) -> list[str]:
    """What the recipes of the compared arms have against the claim."""
    if len(claim.arms) > 1 and len(recipes) < len(claim.arms):
        return ["arms without a recipe cannot be compared"]
    fields = {f for r in recipes[1:] for f in differences(recipes[0], r)}
    if fields != set(claim.differ):
        return [f"recipes differ in {sorted(fields)}, not {sorted(claim.differ)}"]
    if len(fields) > 1 and not claim.because:
        return ["more than one thing differs, and nothing says why"]
    return []


def problems(claim: Claim) -> list[str]:
    """Why a claim does not stand; empty if it does."""
    if " ".join(claim.sentence.split()) not in source(claim.page):
        return [f"{claim.page} does not say so"]
    try:
        rows = [row(arm) for arm in claim.arms]
    except (FileNotFoundError, KeyError) as error:
        return [f"no record: {error}"]
    found = []
    recipes = [r["recipe"] for r in rows if "recipe" in r]
    if claim.differ is not None:
        found += not_isolated(claim, recipes)
    if not claim.holds(*rows):
        found.append("the records say otherwise")
    for text, figure in (claim.numbers or {}).items():
        if text not in claim.sentence:
            found.append(f"{text} is not in the sentence")
        elif not rounds(text, figure(*rows)):
            found.append(f"{text} is said and {figure(*rows):.4g} recorded")
    return found
