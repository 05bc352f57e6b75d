"""The look at all files before a training, what it keeps, and the card."""

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from ldm_tutorial.data import DataConfig, Framing, find_files, load_dataset, look
from ldm_tutorial.data import look as look_module_function
from ldm_tutorial.data.card import card, printable
from ldm_tutorial.data.ends import what_is_wrong

look_module = __import__(look_module_function.__module__, fromlist=["look"])
FRAMING = Framing(8)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Thirty pictures of two classes; what is remembered of them has its own place."""
    monkeypatch.setenv("LDM_TUTORIAL_DATA", str(tmp_path / "kept"))
    for i in range(30):
        path = tmp_path / "photos" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 255, (20, 24, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    return tmp_path / "photos"


def look_at(folder, **options):
    return look(folder, find_files(folder).images, FRAMING, **options)


def decoded_files(monkeypatch):
    """A list that grows with every file that is decoded."""
    seen, decode = [], look_module.decode

    def counted(path, *rest):
        seen.append(path.name)
        return decode(path, *rest)

    monkeypatch.setattr(look_module, "decode", counted)
    return seen


def spoil(path):
    path.write_bytes(path.read_bytes()[:60])


def test_all_that_cannot_be_read_is_named_at_once(photos):
    for name in ("a/0.png", "b/7.png"):
        spoil(photos / name)
    (photos / "a" / "x.jpg").write_text("<html>")
    with pytest.raises(ValueError, match=r"^3 of 31 images .*--skip_bad\)$") as caught:
        DataConfig(str(photos), size=8).training_set()
    for name in ("a/0.png (", "b/7.png (", "a/x.jpg (it is text"):
        assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_training_without_the_bad_is_that_after_they_are_gone(photos):
    for name in ("a/0.png", "b/7.png"):
        spoil(photos / name)
    skipping = DataConfig(str(photos), size=8, skip_bad=True).training_set()
    for name in ("a/0.png", "b/7.png"):
        (photos / name).unlink()
    after = DataConfig(str(photos), size=8).training_set()
    assert skipping.source.files == after.source.files
    assert all(
        torch.equal(x, y) for (x, _), (y, _) in zip(skipping, after, strict=True)
    )


def test_progress_is_told_to_the_end(photos):
    told = []
    look_at(photos, progress=lambda done, total: told.append((done, total)))
    assert told == [(16, 30), (30, 30)]


def test_what_was_decoded_is_not_decoded_again(photos, monkeypatch):
    plain = [x for x, _ in load_dataset(photos, 8)]
    seen = decoded_files(monkeypatch)
    look_at(photos)
    assert len(seen) == 30
    data = load_dataset(photos, 8)
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("decoded again"))
    assert all(torch.equal(x, y) for x, (y, _) in zip(plain, data, strict=True))
    look_at(photos)
    assert len(seen) == 30


def test_a_file_that_changed_is_read_anew(photos, monkeypatch):
    look_at(photos)
    data = load_dataset(photos, 8)
    path = data.source.files[0][0]
    Image.new("RGB", (9, 9), "white").save(path)
    os.utime(path, ns=(1, 1))
    assert torch.equal(data[0][0], torch.ones(3, 8, 8))
    seen = decoded_files(monkeypatch)
    look_at(photos)
    assert seen == [path.name]
    assert torch.equal(load_dataset(photos, 8)[0][0], torch.ones(3, 8, 8))


def test_one_file_more_or_less_is_all_that_is_decoded(photos, monkeypatch):
    before = [x for x, _ in load_dataset(photos, 8)]
    look_at(photos)
    seen = decoded_files(monkeypatch)
    (photos / "a" / "0.png").rename(photos / "a" / "new.png")
    known = look_at(photos)
    assert seen == ["new.png"] and len(known.facts) == 30
    for path in ("a/2.png", "b/29.png"):  # their rows moved along
        assert known.pixels(path) is not None
    again = {tuple(x.flatten().tolist()) for x, _ in load_dataset(photos, 8)}
    assert len(again & {tuple(x.flatten().tolist()) for x in before}) >= 20


@pytest.mark.parametrize("damage", ["facts.json", "pixels", "folder"])
def test_what_is_kept_may_be_damaged_or_missing(photos, damage):
    plain = [x for x, _ in load_dataset(photos, 8)]
    known = look_at(photos)
    if damage == "facts.json":
        known.store.with_name("facts.json").write_text("{")
    elif damage == "pixels":
        known.store.write_bytes(b"")
    else:
        known.store.unlink()
    data = load_dataset(photos, 8)
    assert all(torch.equal(x, y) for x, (y, _) in zip(plain, data, strict=True))
    assert not look_at(photos).bad


def test_without_a_place_to_keep_it_is_only_slower(photos, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("LDM_TUTORIAL_DATA", str(tmp_path / "file"))
    assert len(look_at(photos).facts) == 30
    assert len(DataConfig(str(photos), size=8).training_set()) == 24


def test_pixels_that_nothing_refers_to_are_removed(photos):
    first = look_at(photos).store
    Image.new("RGB", (9, 9)).save(photos / "a" / "new.png")
    second = look_at(photos).store
    assert not first.exists() and second.exists()


def test_of_many_files_only_the_ends_are_read(photos, monkeypatch):
    monkeypatch.setattr(look_module, "MOST", 10)
    spoil(photos / "a" / "4.png")
    seen = decoded_files(monkeypatch)
    known = look_at(photos)
    assert not seen and not known.decoded and list(known.bad) == ["a/4.png"]
    assert card(DataConfig(str(photos), size=8)).bad == known.bad


@pytest.mark.parametrize("kind", ["jpg", "png", "gif", "webp", "bmp", "tif"])
def test_the_ends_show_what_is_cut_off(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    assert what_is_wrong(path) == ""
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0" * 500)  # some cameras put something behind
    assert what_is_wrong(path) == ""
    path.write_bytes(whole[: len(whole) // 2])
    assert what_is_wrong(path)


def test_the_card_tells_everything(photos):
    Image.new("LA", (4, 30)).save(photos / "a" / "clear.png")
    (photos / "a" / "twin.png").write_bytes((photos / "a" / "0.png").read_bytes())
    (photos / "a" / "note.txt").touch()
    (photos / "b" / "\x1b[31mbad.png").touch()
    found = card(DataConfig(str(photos), size=8, background="black", length=10))
    assert found.classes["a"] == {"train": 13, "validation": 2, "test": 2}
    assert found.splits == {"train": 27, "validation": 3, "test": 3}
    assert found.formats == {"PNG": 32} and found.used == 10
    assert (found.smallest, found.largest) == ((4, 30), (24, 20))
    assert (found.enlarged, found.transparent, found.twins) == (1, 1, 1)
    assert found.bad == {"b/\x1b[31mbad.png": "it is empty"}
    line = found.line()
    assert "33 images; 2 classes; 10 of 27 to train, 3 to validate, 3 to test" in line
    assert "PNG, 4x30 to 24x20 (median 24x20)" in line
    assert "1 on black" in line and "2 left out" in line
    text = "\n".join(found.lines())
    assert "\x1b" not in text + line and r"b/\x1b[31mbad.png: it is empty" in text
    assert "left out: 1 *.txt (a/note.txt)" in text
    assert json.loads(json.dumps(found.to_dict()))["splits"] == found.splits


def test_a_class_that_no_model_learns_is_named(photos):
    for split, names in {"train": "ab", "test": "abc"}.items():
        for name in names:
            place = photos.parent / "split" / split / name
            place.mkdir(parents=True)
            Image.new("RGB", (9, 9)).save(place / "1.png")
    found = card(DataConfig(str(photos.parent / "split"), size=8))
    assert found.untrained == ["c"]
    assert "1 without an image to train on" in found.line()
    assert "  without an image to train on: c" in list(found.lines())


def test_a_folder_that_did_not_change_is_not_read_again(photos, monkeypatch):
    def age(seconds):
        for place in (photos, photos / "a", photos / "b"):
            os.utime(place, times=(1, seconds))

    age(10)
    first = load_dataset(photos, 8)
    seen, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: seen.append(path) or scandir(path))
    assert load_dataset(photos, 8, "test").layout is first.layout and not seen
    Image.new("RGB", (9, 9)).save(photos / "a" / "new.png")
    assert len(load_dataset(photos, 8).found.images) == 31 and seen
    (photos / "a" / "new.png").unlink()  # under the same time as before, perhaps
    assert len(load_dataset(photos, 8).found.images) == 30
    age(20)
    assert len(load_dataset(photos, 8).found.images) == 30


def test_bad_files_are_left_out_of_a_folder_that_did_not_change(photos):
    for place in (photos, photos / "a", photos / "b"):
        os.utime(place, times=(1, 10))
    spoil(photos / "a" / "4.png")
    config = DataConfig(str(photos), size=8)
    assert card(config).bad and not card(DataConfig(str(photos), 8, skip_bad=True)).bad
    assert len(load_dataset(photos, 8).found.images) == 30
    assert len(load_dataset(photos, 8, skip_bad=True).found.images) == 29


def test_ends_that_did_not_change_are_not_read_again(photos, monkeypatch):
    monkeypatch.setattr(look_module, "MOST", 10)
    spoil(photos / "a" / "4.png")
    first, seen = look_at(photos), []
    true = look_module.what_is_wrong
    monkeypatch.setattr(
        look_module, "what_is_wrong", lambda path: seen.append(path) or true(path)
    )
    assert look_at(photos).facts == first.facts and not seen
    spoil(photos / "b" / "5.png")
    told = []
    known = look_at(photos, progress=lambda *count: told.append(count))
    assert list(known.bad) == ["a/4.png", "b/5.png"]
    assert len(seen) == 15 and all("/b/" in str(path) for path in seen)
    assert told[-1] == (30, 30)
    (place,) = (photos.parent / "kept").rglob("ends.json")
    for text in ("{", "[]", '{"version": 1, "groups": {"a": 5}}'):
        place.write_text(text)
        assert len(look_at(photos).bad) == 2


def test_a_pipe_is_no_image_and_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    assert what_is_wrong(tmp_path / "a.png") == "it is no regular file"


def test_copies_in_several_splits_are_named(photos):
    test = load_dataset(photos, 8, "test").source.files[0][0]
    train = load_dataset(photos, 8).source.files[0][0]
    train.write_bytes(test.read_bytes())
    found = card(DataConfig(str(photos), size=8))
    names = sorted(str(path.relative_to(photos)) for path in (test, train))
    assert found.shared == [names]
    assert f"in several splits: {' = '.join(names)}" in "\n".join(found.lines())


def test_nothing_steers_a_terminal():
    assert (
        printable("a\x1b]0;b\x07\n\u202ec\udcffä") == r"a\x1b]0;b\x07\n\u202ec\udcffä"
    )


def test_mirror_images_come_after_all_images(photos):
    config = DataConfig(str(photos), size=8, flip=True, length=5)
    data = config.training_set()
    assert len(data) == 10 and data.classes == ["a", "b"]
    for i in range(5):
        assert torch.equal(data[i][0], config.load("train", 5)[i][0])
        assert torch.equal(data[5 + i][0], data[i][0].flip(-1))
        assert data[5 + i][1] == data[i][1]
    assert len(config.load("test")) == 3
