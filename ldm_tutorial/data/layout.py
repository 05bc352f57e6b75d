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

Parts = tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """A folder that holds images.

    Attributes:
        path: the parts of its relative path.
        rest: those that may still mean a split or a class.
        names: of its images.
    """

    path: Parts
    rest: Parts
    names: list[str] = field(repr=False)

    def inside(self, rest: Parts) -> "Place":
        """The same where less is left to be understood."""
        return Place(self.path, rest, self.names)

    @property
    def example(self) -> str:
        """The path of its first image."""
        return "/".join((*self.path, self.names[0]))


Places = list[Place]


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
    places, around = unwrap(places_of(found.images))
    tops = {place.rest[0] for place in places if place.rest}
    of_split: dict[str, Places] = {}
    if splits := splits_among(tops):
        kind = "a folder for each split"
        inside: dict[str, Places] = {}
        for place in places:
            top, n = (*place.rest, "")[0], len(place.names)
            if not top:
                what = "images beside the folders of the splits"
                found.leave(what, place.example, n)
            elif top not in splits:
                found.leave(f"images in {top}, beside the splits", place.example, n)
            else:
                inside.setdefault(top, []).append(place.inside(place.rest[1:]))
        for top in sorted(inside):
            of_split.setdefault(splits[top], []).extend(unwrap(inside[top], True)[0])
    elif splits_inside(places):
        kind = "a folder for each class with folders for splits"
        for place in places:
            top, second, *deeper = place.rest
            split = SPLIT_OF[second.lower()]
            of_split.setdefault(split, []).append(place.inside((top, *deeper)))
    else:
        kind, of_split = "", {"train": places}
    layout = labelled(folder, name, of_split)
    layout.kind = (kind or layout.kind) + (f", in {around}" if around else "")
    return layout


def places_of(images: list[str]) -> Places:
    """The folders that images lie in, in the order of the first image of each."""
    names: dict[str, list[str]] = {}
    for path in images:
        folder, _, name = path.rpartition("/")
        names.setdefault(folder, []).append(name)
    parts = {folder: tuple(folder.split("/")) if folder else () for folder in names}
    return [Place(parts[f], parts[f], inside) for f, inside in names.items()]


def labelled(folder: str, name: str, of_split: dict[str, Places]) -> Layout:
    """Classes and splits of images whose places in the splits are known."""
    used = [place for group in of_split.values() for place in group]
    classes = sorted({same_everywhere(place.rest[0]) for place in used if place.rest})
    loose = [place.example for place in used if not place.rest]
    if classes and loose:
        raise ValueError(
            f"{folder} holds both class folders ({classes[0]}) and images beside them "
            f"({loose[0]}): move those into the folder of their class"
        )
    if not of_split.get("train"):
        raise ValueError(
            f"no images for the train split in folder {folder}: add some to "
            f"{folder}/train, or give all images without split folders"
        )
    label = {name: i for i, name in enumerate(classes)}
    groups = {split: in_order(group, label) for split, group in of_split.items()}
    missing = [split for split in SPLITS[1:] if not groups.get(split)]
    labels = [label for _, label in groups["train"]]
    groups |= carve(groups["train"], missing, labels)
    kind = "a folder for each class" if classes else "one folder of images"
    names = classes or [same_everywhere(name)]
    held_out = all(groups.get(split) for split in SPLITS)
    return Layout(kind, names, groups, held_out)


def in_order(places: Places, label: dict[str, int]) -> list[tuple[str, int]]:
    """The (relative path, label) of images, by a hash of what is left of their paths;
    without labels all are of class 0."""
    items, keys = [], []
    for place in places:
        number = label[same_everywhere(place.rest[0])] if label else 0
        path, rest = (
            "".join(f"{part}/" for part in p) for p in (place.path, place.rest)
        )
        rest = same_everywhere(rest)
        items += [(path + name, number) for name in place.names]
        keys += [rest + same_everywhere(name) for name in place.names]
    return by_hash(items, keys)


def unwrap(places: Places, plain: bool = False) -> tuple[Places, str]:
    """Take off folders that hold nothing but one folder, so long as folders are left
    inside; ``plain``: also the last one, if its name says no more than "images".

    Returns:
        The places, and the names of the folders that were taken off.
    """
    off = []
    while places and all(place.rest for place in places):
        top = places[0].rest[0]
        if any(p.rest[0] != top for p in places) or (not plain and split_of(top)):
            break
        deeper = any(len(place.rest) > 1 for place in places)
        if not deeper and not (plain and top.lower() in AROUND):
            break
        places = [place.inside(place.rest[1:]) for place in places]
        off.append(top)
    return places, "/".join(off)


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


def splits_inside(places: Places) -> bool:
    """Whether every class folder holds nothing but folders for splits."""
    seconds = {place.rest[1] if len(place.rest) > 1 else "" for place in places}
    splits = {split_of(name) for name in seconds}
    return None not in splits and "train" in splits and len(splits) > 1


def same_everywhere(name: str) -> str:
    """A name as the same characters on every file system: some take accents apart."""
    return unicodedata.normalize("NFC", name)
