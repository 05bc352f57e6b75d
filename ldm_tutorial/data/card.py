"""What was found in a folder, in one line and on one card: nothing that decides a
training stays unsaid."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from ldm_tutorial.data.config import DataConfig
from ldm_tutorial.data.folder import FolderDataset, look_at
from ldm_tutorial.data.images import Framing
from ldm_tutorial.data.look import Look, Progress
from ldm_tutorial.data.sets import NAMES
from ldm_tutorial.data.splits import SPLITS
from ldm_tutorial.text import printable

Left = dict[str, tuple[int, str]]


@dataclass
class Card:
    """What was found.

    Attributes:
        data: the folder, or the name of a set.
        kind: what its folders were understood to mean.
        classes: for each class the number of images of each split.
        used: how many training images are used.
        held_out: whether validation and test images are others than those to train on.
        formats: how many files there are of each format.
        smallest, median, largest: (width, height) of images, by their area.
        enlarged: images that are smaller than what is asked for.
        transparent: images of which a part may be transparent.
        left_out: what was left out, how often, and an example.
        bad: files that cannot be read, and why.
        twins: groups of images that look exactly alike after framing.
        shared: such a group for each that lies in several splits.
        decoded: whether all files were decoded, or only their ends looked at.
    """

    data: str
    framing: Framing
    kind: str
    classes: dict[str, dict[str, int]]
    used: int
    held_out: bool = True
    formats: dict[str, int] = field(default_factory=dict)
    smallest: tuple[int, int] | None = None
    median: tuple[int, int] | None = None
    largest: tuple[int, int] | None = None
    enlarged: int = 0
    transparent: int = 0
    left_out: Left = field(default_factory=dict)
    bad: dict[str, str] = field(default_factory=dict)
    twins: int = 0
    shared: list[list[str]] = field(default_factory=list)
    decoded: bool = True

    @property
    def splits(self) -> dict[str, int]:
        """How many images each split has."""
        return {s: sum(n[s] for n in self.classes.values()) for s in SPLITS}

    @property
    def untrained(self) -> list[str]:
        """Classes that have images in other splits alone: no model learns them."""
        return [name for name, n in self.classes.items() if not n["train"]]

    def line(self) -> str:
        """The whole in one line."""
        n = self.splits
        total = sum(n.values()) if self.held_out else n["train"]
        train = f"{n['train']:,}"
        if self.used < n["train"]:
            train = f"{self.used:,} of {train}"
        if self.held_out:
            split = f"{train} to train, {n['validation']:,} to validate, "
            split += f"{n['test']:,} to test"
        else:
            split = f"{train} to train, and none held out: too few"
        parts = [f"{total:,} images", self.in_classes(), split]
        parts += [", ".join([*self.formats, self.sizes()])] if self.formats else []
        if self.transparent:
            parts.append(f"{self.transparent:,} on {self.framing.background}")
        if self.left_out or self.bad:
            out = sum(count for count, _ in self.left_out.values()) + len(self.bad)
            parts.append(f"{out:,} left out")
        if self.shared:
            parts.append(f"{len(self.shared):,} in several splits")
        if self.untrained:
            parts.append(f"{len(self.untrained):,} without an image to train on")
        return printable(f"{self.data}: " + "; ".join(parts))

    def in_classes(self) -> str:
        if len(self.classes) == 1:
            return "no classes"
        return f"{len(self.classes):,} classes"

    def sizes(self) -> str:
        """From the smallest to the largest image."""
        small, middle, large = (
            f"{size[0]}x{size[1]}"
            for size in (self.smallest, self.median, self.largest)
            if size
        )
        if small == large:
            return small
        return f"{small} to {large} (median {middle})"

    def lines(self) -> Iterator[str]:
        """The card."""
        yield from map(printable, self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.data}: {self.kind}"
        names = {name: printable(name)[:30] for name in self.classes}
        width = max(12, *map(len, names.values()))
        head = "".join(f"{s:>12}" for s in SPLITS)
        yield f"  {'class':{width}}{head}"
        for name, n in self.classes.items():
            yield f"  {names[name]:{width}}" + "".join(f"{n[s]:>12,}" for s in SPLITS)
        if len(self.classes) > 1:
            total = "".join(f"{self.splits[s]:>12,}" for s in SPLITS)
            yield f"  {'together':{width}}{total}"
        if self.untrained:
            few = ", ".join(names[name] for name in self.untrained[:20])
            more = len(self.untrained) - 20
            yield (
                "  without an image to train on: "
                + few
                + f" and {more:,} more" * (more > 0)
            )
        if not self.held_out:
            yield "  too few images: none is held out, the three splits are the same"
        if self.formats:
            counts = ", ".join(f"{n:,} {name}" for name, n in self.formats.items())
            yield f"  formats: {counts}; sizes: {self.sizes()}"
        side = self.framing.size
        if self.enlarged:
            yield f"  smaller than {side} pixels, and enlarged: {self.enlarged:,}"
        if self.transparent:
            yield (
                f"  with transparency, laid on {self.framing.background}: "
                f"{self.transparent:,}"
            )
        for what, (count, example) in sorted(self.left_out.items()):
            yield f"  left out: {count:,} {what} ({example})"
        for path, why in self.bad.items():
            yield f"  cannot be read: {path}: {why}"
        if not self.decoded:
            yield "  so many files were not decoded: only their ends were looked at"
        if self.twins:
            yield f"  exactly alike: {self.twins:,} groups of images"
        for group in self.shared[:20]:
            yield f"  in several splits: {' = '.join(group)}"
        if len(self.shared) > 20:
            yield f"  and {len(self.shared) - 20:,} more in several splits"

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self) | {"splits": self.splits}


def card(config: DataConfig, progress: Progress | None = None) -> Card:
    """What a training or an evaluation with this config will find.

    Args:
        progress: called while files are looked at, with how many were, and of how many.
    """
    parts = {split: config.load(split) for split in SPLITS}
    train = parts["train"]
    used = min(len(train), config.length or len(train))
    if not isinstance(train, FolderDataset):
        classes = {"all": {split: len(part) for split, part in parts.items()}}
        kind = f"{len(train.classes)} classes" * (len(train.classes) > 1)
        return Card(config.data, config.framing, kind or "no classes", classes, used)
    known = look_at(train, progress)
    folders = {s: part for s, part in parts.items() if isinstance(part, FolderDataset)}
    classes = {name: dict.fromkeys(SPLITS, 0) for name in train.classes}
    for split, part in folders.items():
        for label, n in Counter(part.source.labels).items():
            classes[train.classes[label]][split] = n
    found = Card(
        config.data,
        config.framing,
        train.layout.kind,
        classes,
        used,
        train.held_out,
        left_out=train.found.left_out,
        bad=known.bad if not config.skip_bad else {},
        decoded=known.decoded,
    )
    if known.decoded:
        of_split = {
            path: split for split, part in folders.items() for path in part.source.paths
        }
        add_facts(found, known, of_split)
    return found


def add_facts(found: Card, known: Look, of_split: dict[str, str]) -> None:
    """What decoding has shown of the images that are used."""
    facts = {p: known.facts[p] for p in of_split if not known.facts[p].reason}
    if not facts:
        return
    found.formats = dict(Counter(f.format for f in facts.values()).most_common())
    sizes = [(f.width, f.height) for f in facts.values()]
    sizes.sort(key=lambda size: (size[0] * size[1], size))
    found.smallest, found.median, found.largest = (
        sizes[i] for i in (0, len(sizes) // 2, -1)
    )
    side = min if found.framing.fit == "crop" else max
    found.enlarged = sum(side(size) < found.framing.size for size in sizes)
    found.transparent = sum(f.transparent for f in facts.values())
    groups: dict[str, list[str]] = {}
    for path, fact in facts.items():
        groups.setdefault(fact.digest, []).append(path)
    twins = [sorted(group) for group in groups.values() if len(group) > 1]
    found.twins = len(twins)
    if found.held_out:
        found.shared = [g for g in twins if len({of_split[p] for p in g}) > 1]


def is_folder(config: DataConfig) -> bool:
    return config.data not in NAMES
