"""Data sets by name and by folder: one convention, one line for each mistake."""

import os
import pickle
import struct

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from ldm_tutorial.data import (
    NAMED,
    NAMES,
    SUFFIXES,
    load_dataset,
    load_folder,
    to_tensor,
)
from ldm_tutorial.landscapes.dataset import Landscapes
from ldm_tutorial.landscapes.factors import CLASS_NAMES

RED, BLUE = (200, 30, 40), (20, 60, 220)


def as_x(colour):
    return torch.tensor(colour) / 127.5 - 1


def picture(path, colour=RED, shape=(40, 40), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", shape, colour).save(path, **options)


def only_image(folder, size=32):
    data = load_dataset(folder, size)
    assert len(data) == 1
    return data[0][0]


def files_of(data):
    return [data.source.files[i][0] for i in data.indices]


# --- landscapes -----------------------------------------------------------------------


@pytest.mark.parametrize(("split", "length"), [("train", 50_000), ("test", 2_000)])
def test_landscapes_by_name(split, length):
    data = load_dataset("landscapes", 32, split, seed=3)
    assert len(data) == length
    assert data.classes == CLASS_NAMES
    x, label = data[7]
    expected = Landscapes(split, seed=3, size=32)[7]
    assert_close(x, expected[0])
    assert label == expected[1]
    assert len(load_dataset("landscapes", length=10**9)) == 10**9


# --- every kind of file becomes RGB ---------------------------------------------------


@pytest.mark.parametrize("suffix", [s.upper() if s == ".jpg" else s for s in SUFFIXES])
def test_every_format_is_read(tmp_path, suffix):
    options = {"quality": 95} if suffix.lower() in (".jpg", ".jpeg", ".webp") else {}
    picture(tmp_path / f"a{suffix}", **options)
    x = only_image(tmp_path)
    assert x.shape == (3, 32, 32)
    assert x.dtype == torch.float32
    assert_close(x.mean((1, 2)), as_x(RED), rtol=0, atol=0.05)


HALF = 128 / 255  # opacity


@pytest.mark.parametrize(
    ("name", "make", "colour"),
    [
        ("L.png", lambda: Image.new("L", (9, 9), 77), (77, 77, 77)),
        ("1.png", lambda: Image.new("1", (9, 9), 1), (255, 255, 255)),
        (
            "RGBA.png",
            lambda: Image.new("RGBA", (9, 9), (*BLUE, 128)),
            tuple(HALF * part + (1 - HALF) * 255 for part in BLUE),
        ),
        ("LA.png", lambda: Image.new("LA", (9, 9), (50, 0)), (255, 255, 255)),
        ("P.png", lambda: Image.new("RGB", (9, 9), BLUE).quantize(), BLUE),
        (
            "P.gif",
            lambda: Image.new("RGBA", (9, 9), (0, 0, 0, 0)),
            (255, 255, 255),
        ),
        ("CMYK.jpg", lambda: Image.new("CMYK", (9, 9), (0, 255, 255, 0)), (255, 0, 0)),
        (
            "CMYK.tif",
            lambda: Image.new("CMYK", (9, 9), (255, 0, 255, 0)),
            (0, 255, 0),
        ),
        (
            "16-bit.png",
            lambda: Image.fromarray(np.full((9, 9), 200 * 257, np.uint16)),
            (200, 200, 200),
        ),
        (
            "32-bit.tif",
            lambda: Image.fromarray(np.full((9, 9), 40 * 257, np.int32)),
            (40, 40, 40),
        ),
    ],
)
def test_every_mode_becomes_rgb(tmp_path, name, make, colour):
    make().save(tmp_path / name)
    x = only_image(tmp_path)
    expected = as_x(colour)[:, None, None].expand_as(x)
    assert_close(x, expected, rtol=0, atol=0.03)


def test_photographs_are_turned_upright(tmp_path):
    image = Image.new("RGB", (40, 40), BLUE)
    image.paste(RED, (0, 0, 40, 20))  # red above
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn right to see it upright"
    image.save(tmp_path / "a.png", exif=exif)
    x = only_image(tmp_path)
    assert_close(x[:, :, 20:].mean((1, 2)), as_x(RED), rtol=0, atol=0.05)
    assert_close(x[:, :, :12].mean((1, 2)), as_x(BLUE), rtol=0, atol=0.05)


@pytest.mark.parametrize("shape", [(300, 100), (100, 300), (7, 21), (64, 64), (1, 3)])
def test_the_central_square_is_kept(shape):
    image = Image.new("RGB", shape, BLUE)
    wide, high = shape
    side = min(shape)
    left, top = (wide - side) // 2, (high - side) // 2
    image.paste(RED, (left, top, left + side, top + side))
    x = to_tensor(image, 64)
    assert x.shape == (3, 64, 64)
    margin = min(
        31, 3 + 2 * 64 // side
    )  # where bicubic weights reach beyond the square
    x = x[:, margin:-margin, margin:-margin]
    assert_close(x, as_x(RED)[:, None, None].expand_as(x), rtol=0, atol=0.02)


def test_shrinking_does_not_alias():
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255
    x = to_tensor(Image.fromarray(stripes), 64)
    assert_close(x[:, :, 4:-4], torch.zeros(3, 64, 56), rtol=0, atol=0.02)


# --- folders and their splits ---------------------------------------------------------


def test_subfolders_are_classes(tmp_path):
    for i in range(10):
        picture(tmp_path / "boat" / f"deep{i % 2}" / f"{i}.png", RED)
        picture(tmp_path / "anchor" / f"{i}.png", BLUE)
    data = load_dataset(tmp_path, 16)
    assert data.classes == ["anchor", "boat"]
    labels = [label for _, label in data]
    assert len(labels) == 16
    assert sorted(labels) != labels, "the order should mix the classes"
    for x, label in data:
        assert_close(x.mean((1, 2)), as_x([BLUE, RED][label]), rtol=0, atol=0.02)


def test_a_flat_folder_is_one_class(tmp_path):
    picture(tmp_path / "holiday" / "a.png")
    data = load_dataset(str(tmp_path / "holiday"), 16)
    assert data.classes == ["holiday"]
    assert data[0][1] == 0


def test_hidden_files_and_other_kinds_are_left_out(tmp_path):
    picture(tmp_path / "cat" / "a.png")
    for name in (".hidden.png", ".git/b.png", "cat/.c.png", "__MACOSX/cat/._a.png"):
        picture(tmp_path / name)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "readme.txt").write_text("no image")
    (tmp_path / "Thumbs.db").write_bytes(b"no image")
    data = load_dataset(tmp_path, 16)
    assert data.classes == ["cat"]
    assert len(data) == 1


def test_a_folder_without_splits_is_split_80_10_10(tmp_path):
    for i in range(60):
        picture(tmp_path / f"{i}.bmp", shape=(8, 8))
    splits = ("train", "validation", "test")
    parts = [files_of(load_dataset(tmp_path, 8, split)) for split in splits]
    assert [len(part) for part in parts] == [48, 6, 6]
    assert len(set().union(*parts)) == 60
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    again = [files_of(load_dataset(moved, 8, split)) for split in splits]
    assert [[f.name for f in p] for p in again] == [[f.name for f in p] for p in parts]


@pytest.mark.parametrize("validation", ["val", "valid", "validation", "Val"])
def test_split_folders_are_used(tmp_path, validation):
    for place in ("train", validation, "test"):
        for name in ("cat", "dog"):
            picture(tmp_path / place / name / f"{place}.png")
    picture(tmp_path / "test" / "emu" / "test.png")  # a class that train lacks
    for split, place in (("train", "train"), ("validation", validation)):
        data = load_dataset(tmp_path, 8, split)
        assert data.classes == ["cat", "dog", "emu"]
        assert {file.stem for file in files_of(data)} == {place}
        assert sorted(label for _, label in data) == [0, 1]
    assert len(load_dataset(tmp_path, 8, "test")) == 3


def test_a_missing_split_is_carved_from_train(tmp_path):
    for i in range(20):
        picture(tmp_path / "train" / f"{i}.png", shape=(8, 8))
    picture(tmp_path / "test" / "last.png", shape=(8, 8))
    train = set(files_of(load_dataset(tmp_path, 8, "train")))
    validation = set(files_of(load_dataset(tmp_path, 8, "validation")))
    assert (len(train), len(validation)) == (18, 2)
    assert not train & validation
    assert [f.stem for f in files_of(load_dataset(tmp_path, 8, "test"))] == ["last"]


def test_a_class_may_be_called_train(tmp_path):
    for name in ("train", "ship"):
        for i in range(10):
            picture(tmp_path / name / f"{i}.png", shape=(8, 8))
    assert load_dataset(tmp_path, 8).classes == ["ship", "train"]


def test_length_takes_at_most_that_many(tmp_path):
    for i in range(20):
        picture(tmp_path / "ab"[i % 2] / f"{i}.png", shape=(8, 8))
    some = files_of(load_dataset(tmp_path, 8, length=6))
    assert len(set(some)) == 6
    assert some == files_of(load_dataset(tmp_path, 8, length=6))
    assert some != files_of(load_dataset(tmp_path, 8, length=6, seed=1))
    assert len({file.parent.name for file in some}) == 2
    assert len(load_dataset(tmp_path, 8, length=999)) == 16


# --- mistakes -------------------------------------------------------------------------


def broken_folder(folder, kind):
    """Make a folder, or its like, with one thing wrong; return what to load."""
    if kind == "empty":
        (folder / "only").mkdir()
    elif kind == "no images":
        (folder / "readme.txt").write_text("hello")
    elif kind == "archive":
        (folder / "photos.zip").write_bytes(b"PK")
        return folder / "photos.zip"
    elif kind == "file":
        picture(folder / "a.png")
        return folder / "a.png"
    elif kind == "not an image":
        (folder / "a.jpg").write_text("hello")
    elif kind == "no bytes":
        (folder / "a.png").write_bytes(b"")
    elif kind == "truncated":
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(folder / "a.jpg")
        whole = (folder / "a.jpg").read_bytes()
        (folder / "a.jpg").write_bytes(whole[: len(whole) // 2])
    elif kind == "floats":
        Image.fromarray(np.ones((9, 9), np.float32)).save(folder / "a.tif")
    elif kind == "loose":
        picture(folder / "a.png")
        picture(folder / "cat" / "b.png")
    elif kind == "no train":
        picture(folder / "test" / "a.png")
    return folder


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("empty", r"no images in folder .*\*\.jpg"),
        ("no images", "no images in folder"),
        ("archive", r"photos\.zip is an archive: unpack it"),
        ("file", r"a\.png is a file: give the folder"),
        ("not an image", r"cannot read image .*a\.jpg: .*; replace or remove"),
        ("no bytes", r"cannot read image .*a\.png: .*; replace or remove"),
        ("truncated", r"cannot read image .*a\.jpg: .*truncated.*; replace or remove"),
        ("floats", r"cannot read image .*a\.tif: .*floats"),
        ("loose", r"both class folders \(cat\) and images .*\(a\.png\): move"),
        ("no train", r"no images for the train split .*train"),
    ],
)
def test_a_bad_folder_is_named_in_one_line(tmp_path, kind, words):
    path = broken_folder(tmp_path, kind)
    with pytest.raises(ValueError, match=words) as caught:
        load_dataset(path)[0]
    assert "\n" not in str(caught.value)


def test_a_missing_folder_or_name_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"'cifar': give a folder .*cifar10"):
        load_dataset("cifar")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_dataset(tmp_path / "nowhere")


def test_a_file_that_vanished_is_named(tmp_path):
    picture(tmp_path / "a.png")
    data = load_dataset(tmp_path, 8)
    (tmp_path / "a.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.png: was it moved"):
        data[0]


def test_an_unreadable_folder_is_named(tmp_path, monkeypatch):
    picture(tmp_path / "a.png")
    scandir = os.scandir

    def refuse(path):
        if str(path) == str(tmp_path):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ValueError, match=r"cannot read folder .*Permission denied"):
        load_dataset(tmp_path)


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_images_are_all_for_training_and_nothing_is_held_out(tmp_path, n):
    for i in range(n):
        picture(tmp_path / f"{i}.png")
    train, test = load_dataset(tmp_path, 8), load_dataset(tmp_path, 8, "test")
    assert len(train) == len(test) == n
    assert not train.held_out and not test.held_out


def test_three_images_give_one_to_each_split(tmp_path):
    for i in range(3):
        picture(tmp_path / f"{i}.png")
    parts = [load_dataset(tmp_path, 8, s) for s in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [1, 1, 1]
    assert len({file for part in parts for file in files_of(part)}) == 3
    assert parts[0].held_out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"size": 60}, "multiple of 8, such as 64, not 60"),
        ({"size": 0}, "not 0"),
        ({"size": -8}, "not -8"),
        ({"size": 64.0}, r"not 64\.0"),
        ({"size": "64"}, "not '64'"),
        ({"size": True}, "not True"),
        ({"split": "val"}, "train, validation, test, not 'val'"),
        ({"length": 0}, "length=0; give 1 or more"),
    ],
)
@pytest.mark.parametrize("name", ["landscapes", "cifar10", "some/folder"])
def test_bad_arguments_are_named(name, arguments, words):
    with pytest.raises(ValueError, match=words):
        load_dataset(name, **arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"length": 1.5}, r"length=1\.5; give a whole number"),
        ({"length": float("nan")}, "length=nan; give a whole number"),
        ({"length": True}, "length=True; give a whole number"),
        ({"length": "3"}, "length='3'; give a whole number"),
        ({"seed": None}, "seed=None; give a whole number"),
        ({"seed": "x"}, "seed='x'; give a whole number"),
        ({"channels": True}, "channels=True; give a whole number"),
        ({"channels": 3.0}, r"channels=3\.0; give a whole number"),
    ],
)
@pytest.mark.parametrize("name", ["landscapes", "cifar10", "some/folder"])
def test_arguments_of_another_type_are_named(name, arguments, words):
    with pytest.raises(TypeError, match=words):
        load_dataset(name, **arguments)


def test_a_folder_has_no_other_splits_and_its_name_may_be_bytes(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="train, validation, test, not 'bogus'"):
        load_folder(tmp_path, 8, "bogus")
    assert len(load_dataset(os.fsencode(tmp_path), 8)) == 1


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("download", [False, True])
def test_a_set_that_is_not_there(tmp_path, name, download):
    """Without the network a download fails, too: `conftest.py` refuses it."""
    words = f"cannot download .*{name}" if download else rf"{name} .*download=True"
    with pytest.raises(FileNotFoundError, match=words) as caught:
        load_dataset(name, root=tmp_path, download=download)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


# --- named sets, read by torchvision from small files in its layout -------------------


def write_cifar10(root, monkeypatch):
    from torchvision.datasets import CIFAR10

    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    for name in ("data_batch_1", "test_batch"):
        data = np.zeros((20, 3, 1024), np.uint8)
        data[:, 0] = np.arange(20)[:, None] + (100 if name == "test_batch" else 0)
        batch = {"data": data.reshape(20, -1), "labels": [i % 10 for i in range(20)]}
        (folder / name).write_bytes(pickle.dumps(batch))
    names = {"label_names": [f"class {i}" for i in range(10)]}
    (folder / "batches.meta").write_bytes(pickle.dumps(names))
    monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", None]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", None]])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": None})


def write_fashion_mnist(root, monkeypatch):
    folder = root / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for start, name in ((0, "train"), (100, "t10k")):
        grey = (start + np.arange(20, dtype=np.uint8))[:, None, None]
        images = np.broadcast_to(grey, (20, 28, 28)).tobytes()
        header = struct.pack(">IIII", 0x803, 20, 28, 28)
        (folder / f"{name}-images-idx3-ubyte").write_bytes(header + images)
        labels = bytes(i % 10 for i in range(20))
        header = struct.pack(">II", 0x801, 20)
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(header + labels)


def write_eurosat(root, monkeypatch):
    for i in range(20):
        name = ["AnnualCrop", "Forest"][i % 2]
        folder = root / "eurosat" / "2750" / name
        picture(folder / f"{name}_{i}.jpg", (i, i, i), quality=95)


def write_flowers102(root, monkeypatch):
    from scipy.io import savemat
    from torchvision.datasets import Flowers102

    folder = root / "flowers-102"
    for i in range(1, 31):
        path = folder / "jpg" / f"image_{i:05d}.jpg"
        picture(path, (i - 1, i - 1, i - 1), (30, 20), quality=95)
    savemat(folder / "imagelabels.mat", {"labels": np.arange(30) % 10 + 1})
    thirds = np.arange(1, 31).reshape(3, 10)
    ids = dict(zip(("trnid", "valid", "tstid"), thirds, strict=True))
    savemat(folder / "setid.mat", ids)
    names = {"label": ("imagelabels.mat", None), "setid": ("setid.mat", None)}
    monkeypatch.setattr(Flowers102, "_file_dict", names)


def write_celeba(root, monkeypatch):
    from torchvision.datasets import CelebA

    folder, names = root / "celeba", [f"{i:06d}.jpg" for i in range(30)]
    for i, name in enumerate(names):
        picture(folder / "img_align_celeba" / name, (i, i, i), (17, 21), quality=95)
    rows = {
        "list_eval_partition.txt": [
            f"{name} {i // 10}" for i, name in enumerate(names)
        ],
        "identity_CelebA.txt": [f"{name} 1" for name in names],
        "list_bbox_celeba.txt": ["30", "x"] + [f"{name} 1" for name in names],
        "list_landmarks_align_celeba.txt": ["30", "x"] + [f"{n} 1" for n in names],
        "list_attr_celeba.txt": ["30", "x"] + [f"{name} 1" for name in names],
    }
    for file, lines in rows.items():
        (folder / file).write_text("\n".join(lines))
    monkeypatch.setattr(CelebA, "file_list", [(None, None, file) for file in rows])


WRITERS = {
    "cifar10": (write_cifar10, 10, (18, 2, 20)),
    "fashion_mnist": (write_fashion_mnist, 10, (18, 2, 20)),
    "eurosat": (write_eurosat, 2, (16, 2, 2)),
    "flowers102": (write_flowers102, 102, (10, 10, 10)),
    "celeba": (write_celeba, 1, (10, 10, 10)),
}


@pytest.mark.parametrize("name", NAMED)
def test_named_sets_keep_the_convention(tmp_path, monkeypatch, name):
    write, classes, sizes = WRITERS[name]
    write(tmp_path, monkeypatch)
    monkeypatch.setenv("LDM_TUTORIAL_DATA", str(tmp_path))
    seen = []
    for split, size in zip(("train", "validation", "test"), sizes, strict=True):
        data = load_dataset(name, 32, split)
        assert len(data) == size
        assert len(data.classes) == classes
        assert all(isinstance(name, str) for name in data.classes)
        for x, label in data:
            assert x.shape == (3, 32, 32)
            assert x.dtype == torch.float32
            value = round((x[0].mean().item() + 1) * 127.5)  # every image has its own
            assert label == value % 10 % classes
            seen.append(value)
    assert len(set(seen)) == len(seen) == sum(sizes), "splits must not share an image"
    some = load_dataset(name, 32, root=tmp_path, length=5)
    assert len(some) == 5


def test_every_name_is_known_to_these_tests():
    assert set(NAMES) == {"landscapes", *WRITERS}
