"""What folders mean: splits, classes or a wrapping; and splits that stay."""

import shutil
import unicodedata
from collections import Counter
from itertools import chain

import pytest
from PIL import Image

from ldm_tutorial.data import load_dataset
from ldm_tutorial.data.splits import by_hash, carve, shares

SPLITS = ("train", "validation", "test")


def fill(folder, *places, n=6):
    for place in places:
        for i in range(n):
            path = folder / place / f"{place.replace('/', '-')}-{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8)).save(path)


def read(folder):
    """Classes; and for each split the folders that its images lie in."""
    parts = {split: load_dataset(folder, 8, split) for split in SPLITS}
    places = {
        split: {str(file.parent.relative_to(folder)) for file, _ in part.source.files}
        for split, part in parts.items()
    }
    return parts["train"].classes, places


TRAIN = ["train", "Training", "TRAIN", "trn"]
OTHER = [("val", "test"), ("Valid", "Testing"), ("dev", "tst"), ("eval", "holdout")]


@pytest.mark.parametrize("around", ["", "PetImages/", "a/b/"])
@pytest.mark.parametrize("train", TRAIN)
@pytest.mark.parametrize(("validation", "test"), OTHER)
def test_splits_under_any_usual_name(tmp_path, around, train, validation, test):
    names = [around + name for name in (train, validation, test)]
    fill(tmp_path, *(f"{name}/{c}" for name in names for c in ("cat", "dog")), n=1)
    classes, places = read(tmp_path)
    assert classes == ["cat", "dog"]
    for split, name in zip(SPLITS, names, strict=True):
        assert places[split] == {f"{name}/cat", f"{name}/dog"}


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("train_images", "test_images"),
        ("TrainSet", "TestSet"),
        ("trainset", "testset"),
        ("train2017", "test2017"),
        ("flowers-train", "flowers-test"),
        ("images/train", "images/test"),
        ("train/images", "test/images"),
    ],
)
def test_splits_with_something_around_their_names(tmp_path, train, test):
    fill(tmp_path, *(f"{name}/{c}" for name in (train, test) for c in ("cat", "dog")))
    fill(tmp_path, "seg_pred/seg_pred") if "seg" in train else None
    classes, places = read(tmp_path)
    assert classes == ["cat", "dog"]
    assert places["test"] == {f"{test}/cat", f"{test}/dog"}
    assert places["train"] == {f"{train}/cat", f"{train}/dog"}
    assert places["validation"] < places["train"]


@pytest.mark.parametrize(
    "names",
    [
        ("Cat", "Dog"),
        ("train", "ship"),
        ("train station", "test tube"),
        ("test", "ship"),
        ("valid_plate", "fake_plate"),
    ],
)
@pytest.mark.parametrize("around", ["", "PetImages/", "data/pets/"])
def test_classes_with_and_without_folders_around(tmp_path, names, around):
    fill(tmp_path, *(around + name for name in names))
    classes, places = read(tmp_path)
    assert classes == sorted(names)
    assert places["train"] == {around + name for name in names}


def test_splits_inside_of_classes(tmp_path):
    fill(tmp_path, "cat/train", "cat/test", "dog/Train", "dog/Test")
    classes, places = read(tmp_path)
    assert classes == ["cat", "dog"]
    assert places["test"] == {"cat/test", "dog/Test"}
    assert places["train"] == {"cat/train", "dog/Train"}
    assert places["validation"] < places["train"]


def test_what_lies_beside_the_splits_is_left_out_and_said(tmp_path):
    fill(tmp_path, "train/cat", "test/cat", "sketches")
    Image.new("RGB", (8, 8)).save(tmp_path / "montage.png")
    data = load_dataset(tmp_path, 8)
    assert data.classes == ["cat"] and len(data) == 5
    left = data.found.left_out
    assert left["images in sketches, beside the splits"][0] == 6
    assert left["images beside the folders of the splits"] == (1, "montage.png")


def test_only_a_test_folder_cannot_be_trained_on(tmp_path):
    fill(tmp_path, "Testing/cat")
    with pytest.raises(ValueError, match="no images for the train split"):
        load_dataset(tmp_path, 8)


def test_every_class_has_an_image_to_train_on(tmp_path):
    fill(tmp_path, "cat", n=30)
    fill(tmp_path, *(f"dog{i}" for i in range(8)), n=1)
    data = load_dataset(tmp_path, 8)
    assert {label for _, label in data.source.files} == set(range(9))
    assert [len(load_dataset(tmp_path, 8, s)) for s in SPLITS] == [30, 4, 4]


def test_classes_are_split_alike(tmp_path):
    fill(tmp_path, "a", n=40)
    fill(tmp_path, "b", n=20)
    for split, wanted in (
        ("train", (32, 16)),
        ("validation", (4, 2)),
        ("test", (4, 2)),
    ):
        labels = Counter(y for _, y in load_dataset(tmp_path, 8, split).source.files)
        assert (labels[0], labels[1]) == wanted


def names_of(folder, split):
    return [file.name for file, _ in load_dataset(folder, 8, split).source.files]


def test_a_split_depends_on_names_alone(tmp_path):
    """Neither on where the folder lies, nor on one around it, nor on how a file system
    spells an accent."""
    fill(tmp_path / "here", "caf\u00e9", "dog", n=20)
    shutil.copytree(tmp_path / "here", tmp_path / "there" / "moved" / "around")
    moved = tmp_path / "there" / "moved"
    apart = unicodedata.normalize("NFD", "caf\u00e9")
    (moved / "around" / "caf\u00e9").rename(moved / "around" / apart)
    for file in (moved / "around" / apart).iterdir():
        file.rename(file.with_name(unicodedata.normalize("NFD", file.name)))
    for split in SPLITS:
        here = names_of(tmp_path / "here", split)
        there = names_of(moved, split)
        assert [unicodedata.normalize("NFC", name) for name in there] == here
    assert load_dataset(moved, 8).classes == ["caf\u00e9", "dog"]


def test_one_more_image_moves_hardly_any_other(tmp_path):
    fill(tmp_path, "a", n=95)
    before = {split: set(names_of(tmp_path, split)) for split in SPLITS}
    fill(tmp_path, "a", n=105)
    after = {split: set(names_of(tmp_path, split)) for split in SPLITS}
    assert not before["test"] & after["validation"]
    assert not before["validation"] & after["test"]
    assert len(before["train"] & (after["test"] | after["validation"])) <= 3


def test_the_order_of_hashes_is_fixed():
    assert by_hash([0, 1, 2, 3], ["a", "b", "\u00e9", "\udcff"]) == [1, 2, 3, 0]


def test_shares_are_in_proportion_and_within_bounds():
    assert shares(10, {0: 60, 1: 30, 2: 10}, {0: 99, 1: 99, 2: 99}) == {
        0: 6,
        1: 3,
        2: 1,
    }
    assert shares(3, {0: 10, 1: 10}, {0: 1, 1: 9}) == {0: 1, 1: 2}
    assert shares(5, {0: 1, 1: 1}, {0: 0, 1: 0}) == {0: 0, 1: 0}


@pytest.mark.parametrize("sizes", [(1,), (2,), (3,), (1, 1, 1), (5, 1, 40), (200, 3)])
def test_carving_keeps_all_and_shares_none(sizes):
    labels = [k for k, n in enumerate(sizes) for _ in range(n)]
    parts = carve(range(len(labels)), SPLITS[1:], labels)
    assert sorted(chain(*parts.values())) == list(range(len(labels)))
    assert {labels[i] for i in parts["train"]} == set(range(len(sizes)))
