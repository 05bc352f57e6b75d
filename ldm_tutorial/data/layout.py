"""What the folders of a folder mean: splits, classes, or nothing but a wrapping.

Understood are: images side by side; a folder for each class; folders for splits under
any of their usual names, flat or with a folder for each class; a folder for each class
with folders for splits inside; and any of these with other folders around.
"""

import re
import unicodedata
from dataclasses import dataclass, field

from ldm_tutorial.data.files import Found
from ldm_tutorial.data.splits import SPLITS, by_hash, carve

NAMES_OF_SPLITS = {
    "train": ("train", "training", "trn"),
    "validation": ("validation", "val", "valid", "dev", "eval", "evaluation"),
    "test": ("test", "testing", "tst", "holdout", "heldout"),
}
SPLIT_OF = {name: split for split, names in NAMES_OF_SPLITS.items() for name in names}
# What stands beside the name of a split without meaning anything.
NO_MEANING = (
    "set sets data dataset image images img imgs picture pictures photo photos "
    "pic pics jpg jpeg png jpegs pngs split folder dir raw clean full all new resized"
)
AROUND = frozenset(NO_MEANING.split())
UNUSED = {"pred", "predict", "prediction", "unlabeled", "unlabelled", "extra"}

Pairs = list[tuple[tuple[str, ...], tuple[str, ...]]]  # a path, and what of it is left


@dataclass
class Layout:
    """What was understood.

    Attributes:
        kind: in words.
        classes: names, in the order of their labels; one if there are no classes.
        images: for each split the (relative path, label) of its images.
        held_out: false where all images are for training, because there are too few.
    """

    kind: str
    classes: list[str]
    images: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    held_out: bool = True


def understand(folder: str, name: str, found: Found) -> Layout:
    """The splits and classes of the images of a folder.

    Args:
        folder: for messages.
        name: of the only class, where there are no class folders.
        found: its files; what is left out is added to it.

    Raises:
        ValueError: if there are images beside class folders, or none for training.
    """
    parts = [tuple(path.split("/")) for path in found.images]
    paths, around = unwrap(list(zip(parts, parts, strict=True)))
    tops = {rest[0] for _, rest in paths if len(rest) > 1}
    of_split: dict[str, Pairs] = {}
    if splits := splits_among(tops):
        kind = "a folder for each split"
        inside: dict[str, Pairs] = {}
        for path, rest in paths:
            if len(rest) == 1:
                found.leave("images beside the folders of the splits", "/".join(path))
            elif rest[0] not in splits:
                found.leave(f"images in {rest[0]}, beside the splits", "/".join(path))
            else:
                inside.setdefault(rest[0], []).append((path, rest[1:]))
        for top in sorted(inside):
            of_split.setdefault(splits[top], []).extend(unwrap(inside[top], True)[0])
    elif splits_inside(paths):
        kind = "a folder for each class with folders for splits"
        for path, (top, second, *deeper) in paths:
            split = SPLIT_OF[second.lower()]
            of_split.setdefault(split, []).append((path, (top, *deeper)))
    else:
        kind, of_split = "", {"train": paths}
    layout = labelled(folder, name, of_split)
    layout.kind = (kind or layout.kind) + (f", in {around}" if around else "")
    return layout


def labelled(folder: str, name: str, of_split: dict[str, Pairs]) -> Layout:
    """Classes and splits of images whose places in the splits are known."""
    used = [item for group in of_split.values() for item in group]
    classes = sorted({same_everywhere(rest[0]) for _, rest in used if len(rest) > 1})
    loose = [path for path, rest in used if len(rest) == 1]
    if classes and loose:
        raise ValueError(
            f"{folder} holds both class folders ({classes[0]}) and images beside them "
            f"({'/'.join(loose[0])}): move those into the folder of their class"
        )
    if not of_split.get("train"):
        raise ValueError(
            f"no images for the train split in folder {folder}: add some to "
            f"{folder}/train, or give all images without split folders"
        )
    label = {name: i for i, name in enumerate(classes)}
    groups = {
        split: by_hash(
            [
                ("/".join(path), label[same_everywhere(rest[0])] if classes else 0)
                for path, rest in group
            ],
            ["/".join(map(same_everywhere, rest)) for _, rest in group],
        )
        for split, group in of_split.items()
    }
    missing = [split for split in SPLITS[1:] if not groups.get(split)]
    labels = [label for _, label in groups["train"]]
    groups |= carve(groups["train"], missing, labels)
    kind = "a folder for each class" if classes else "one folder of images"
    names = classes or [same_everywhere(name)]
    held_out = all(groups.get(split) for split in SPLITS)
    return Layout(kind, names, groups, held_out)


def unwrap(paths: Pairs, plain: bool = False) -> tuple[Pairs, str]:
    """Take off folders that hold nothing but one folder, so long as folders are left
    inside; ``plain``: also the last one, if its name says no more than "images".

    Returns:
        The pairs of path and rest, and the names of the folders that were taken off.
    """
    off = []
    while paths and all(len(rest) > 1 for _, rest in paths):
        top = paths[0][1][0]
        if any(rest[0] != top for _, rest in paths) or (not plain and split_of(top)):
            break
        deeper = any(len(rest) > 2 for _, rest in paths)
        if not deeper and not (plain and top.lower() in AROUND):
            break
        paths = [(path, rest[1:]) for path, rest in paths]
        off.append(top)
    return paths, "/".join(off)


def split_of(name: str) -> str | None:
    return SPLIT_OF.get(name.lower())


def splits_among(tops: set[str]) -> dict[str, str]:
    """The split that each of these folders stands for; {} if they are classes.

    Plain names count if there are no other folders, or if training and another split
    are among them. Names with something around them, as in seg_train or TestImages,
    count if it means nothing or is the same for all: "train station" beside "test tube"
    are classes.
    """
    plain = {top: split for top in tops if (split := split_of(top))}
    several = "train" in plain.values() and len(set(plain.values())) > 1
    if plain and (several or len(plain) == len(tops)):
        return plain
    may = [top for top in tops if not UNUSED & set(words(top))]
    named = {top: found for top in may if (found := parse(top))}
    if not named or len(named) < len(may):
        return {}
    splits = {top: split for top, (split, _) in named.items()}
    rests = {rest for _, rest in named.values()}
    alike = len(rests) == 1 or all(set(rest) <= AROUND for rest in rests)
    several = "train" in splits.values() and len(set(splits.values())) > 1
    return splits if alike and several else {}


def words(name: str) -> list[str]:
    """The words of a name: at changes of case, and without digits and signs."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return re.findall(r"[^\W\d_]+", spaced.lower())


def parse(name: str) -> tuple[str, tuple[str, ...]] | None:
    """The split in a name, and the words around it; trainset counts as train set."""
    apart: list[str] = []
    for word in words(name):
        start = next(
            (s for s in SPLIT_OF if word.startswith(s) and word[len(s) :] in AROUND), ""
        )
        apart += [start, word[len(start) :]] if start else [word]
    found = [word for word in apart if word in SPLIT_OF]
    if len(found) != 1:
        return None
    return SPLIT_OF[found[0]], tuple(word for word in apart if word not in SPLIT_OF)


def splits_inside(paths: Pairs) -> bool:
    """Whether every class folder holds nothing but folders for splits."""
    seconds = {rest[1] if len(rest) > 2 else "" for _, rest in paths}
    splits = {split_of(name) for name in seconds}
    return None not in splits and "train" in splits and len(splits) > 1


def same_everywhere(name: str) -> str:
    """A name as the same characters on every file system: some take accents apart."""
    return unicodedata.normalize("NFC", name)
