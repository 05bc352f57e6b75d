"""Splits that are the same on every machine: by a hash of names, class by class."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")
SPLITS = ("train", "validation", "test")


def check_split(split: object) -> None:
    """Raise a ValueError for anything but the name of a split."""
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")


def by_hash(items: Sequence[Item], keys: Sequence[str]) -> list[Item]:
    """Items in an order that looks random and depends only on their keys."""
    hashes = [
        hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest() for key in keys
    ]
    return [items[i] for i in sorted(range(len(items)), key=hashes.__getitem__)]


def carve(
    items: Sequence[Item], missing: Sequence[str], labels: Sequence[int] | None = None
) -> dict[str, list[Item]]:
    """A tenth of the items for each missing split; the rest is for training.

    Every class gives its share, and keeps at least one image to train on. Of fewer than
    three images none is taken. Validation takes the first of a class and test the last,
    so that an image that is added later moves hardly any other.

    Args:
        items: in an order that looks random.
        missing: which of validation and test are wanted.
        labels: their classes; by default all are of one.
    """
    labels = [0] * len(items) if labels is None else labels
    sizes = Counter(labels)
    room = {label: n - 1 for label, n in sizes.items()}
    target = max(1, round(len(items) / 10)) if len(items) > 2 else 0
    taken = {}
    for split in missing:
        taken[split] = shares(target, sizes, room)
        room = {label: n - taken[split][label] for label, n in room.items()}
    parts: dict[str, list[Item]] = {split: [] for split in (*missing, "train")}
    first, last = (taken.get(split, {}) for split in SPLITS[1:])
    end = {label: n - last.get(label, 0) for label, n in sizes.items()}
    met = dict.fromkeys(sizes, 0)
    for item, label in zip(items, labels, strict=True):
        n = met[label]
        if n < first.get(label, 0):
            split = "validation"
        else:
            split = "train" if n < end[label] else "test"
        parts[split].append(item)
        met[label] = n + 1
    return parts


def shares(target: int, sizes: dict[int, int], room: dict[int, int]) -> dict[int, int]:
    """How many each class gives so that together they give ``target``, in proportion to
    their sizes and at most what they have room for (method of largest remainders)."""
    exact = {label: target * n / sum(sizes.values()) for label, n in sizes.items()}
    given = {label: min(int(exact[label]), room[label]) for label in sizes}
    order = sorted(sizes, key=lambda k: (int(exact[k]) - exact[k], -sizes[k], k))
    while (left := target - sum(given.values())) > 0:
        free = [label for label in order if given[label] < room[label]][:left]
        if not free:
            break
        for label in free:
            given[label] += 1
    return given
