"""Which files count as images: every real file once, whatever leads to it."""

import os
import socket
import sys

import pytest
from PIL import Image

from ldm_tutorial.data import find_files, find_images, load_dataset


def picture(path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16), (200, 30, 40)).save(path, **options)


def test_a_link_to_a_parent_multiplies_nothing(tmp_path):
    for i in range(4):
        picture(tmp_path / "photos" / "a" / f"{i}.png")
    os.symlink("..", tmp_path / "photos" / "a" / "up")
    os.symlink(tmp_path, tmp_path / "photos" / "above")
    os.symlink("a", tmp_path / "photos" / "again")
    found = find_files(tmp_path / "photos")
    assert found.images == [f"a/{i}.png" for i in range(4)]
    assert found.left_out["links to folders that are read already"][0] == 3


def test_two_links_to_each_other_end(tmp_path):
    for name, other in (("a", "b"), ("b", "a")):
        picture(tmp_path / name / "x.png")
        os.symlink(tmp_path / other, tmp_path / name / "other")
    assert find_files(tmp_path).images == ["a/x.png", "b/x.png"]


def test_a_file_counts_once_by_its_own_path(tmp_path):
    """The link comes first by name; the file itself is what counts."""
    picture(tmp_path / "z" / "real.png")
    picture(tmp_path / "z" / "twin.png")
    os.remove(tmp_path / "z" / "twin.png")
    os.link(tmp_path / "z" / "real.png", tmp_path / "z" / "twin.png")
    (tmp_path / "a").mkdir()
    os.symlink("../z/real.png", tmp_path / "a" / "link.png")
    found = find_files(tmp_path)
    assert found.images == ["z/real.png"]
    assert found.left_out["links to images that count already"][0] == 2


def test_links_to_what_lies_elsewhere_are_followed(tmp_path):
    picture(tmp_path / "store" / "1.png")
    picture(tmp_path / "more" / "2.png")
    (tmp_path / "set" / "cat").mkdir(parents=True)
    os.symlink(tmp_path / "store" / "1.png", tmp_path / "set" / "cat" / "x.png")
    os.symlink(tmp_path / "more", tmp_path / "set" / "dog")
    os.symlink(tmp_path / "nowhere", tmp_path / "set" / "dead.png")
    found = find_files(tmp_path / "set")
    assert found.images == ["cat/x.png", "dog/2.png"]
    assert found.left_out["links to nothing"] == (1, "dead.png")


def test_what_is_no_regular_file_is_never_opened(tmp_path, monkeypatch):
    picture(tmp_path / "a.png")
    os.mkfifo(tmp_path / "fifo.png")
    os.symlink("/dev/zero", tmp_path / "device.png")
    place = socket.socket(socket.AF_UNIX)
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    place.bind("socket.png")
    found = find_files(tmp_path)
    place.close()
    assert found.images == ["a.png"]
    assert found.left_out["no regular files"][0] == 3


SUFFIXES = [".jfif", ".jpe", ".avif", ".jp2", ".ppm", ".pgm", ".tga", ".apng", ".dib"]


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".qoi", ".pcx", ".sgi", ".ICO", ".dds"])
def test_every_raster_format_counts_by_its_name(tmp_path, suffix):
    picture(tmp_path / f"a{suffix}")
    assert find_images(tmp_path) == [(f"a{suffix}",)]
    assert load_dataset(tmp_path, 8)[0][0].shape == (3, 8, 8)


@pytest.mark.parametrize("name", ["noname", "a.image", "a.jpg_large", "b.jpg.1"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "AVIF", "TIFF"])
def test_unknown_names_count_by_their_content(tmp_path, name, kind):
    picture(tmp_path / name, format=kind)
    assert find_files(tmp_path).images == [name]
    assert len(load_dataset(tmp_path, 8)) == 1


def test_what_is_left_out_is_counted_with_an_example(tmp_path):
    picture(tmp_path / "a.png")
    for name in ("b.eps", "c.svg", "d.txt", "e.txt", "f", "g.png.part", "h.nef"):
        (tmp_path / name).write_bytes(b"\xff\xd8\xff half of a picture")
    (tmp_path / "f").write_text("no picture")
    picture(tmp_path / ".thumbs" / "t.png")
    picture(tmp_path / "@eaDir" / "t.png")
    found = find_files(tmp_path)
    assert found.images == ["a.png"]
    assert found.left_out == {
        "*.eps": (1, "b.eps"),
        "*.svg": (1, "c.svg"),
        "*.txt": (2, "d.txt"),
        "*.part": (1, "g.png.part"),
        "*.nef": (1, "h.nef"),
        "files without a suffix": (1, "f"),
        "hidden files and folders": (2, ".thumbs"),
    }


def test_the_order_is_that_of_the_names(tmp_path, monkeypatch):
    for name in ("b", "a", "c"):
        picture(tmp_path / f"{name}.png")
    scandir, seen = os.scandir, []

    class Backwards:
        def __init__(self, path):
            with scandir(path) as scan:
                self.entries = sorted(scan, key=lambda e: e.name, reverse=True)
            seen.append(path)

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(os, "scandir", Backwards)
    assert find_files(tmp_path).images == ["a.png", "b.png", "c.png"]
    assert seen


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes are Linux's")
def test_names_may_be_any_bytes(tmp_path):
    picture(tmp_path / "ok.png")
    os.rename(tmp_path / "ok.png", os.fsencode(tmp_path) + b"/\xff\xfe.png")
    data = load_dataset(tmp_path, 8)
    assert len(data) == 1 and data[0][0].shape == (3, 8, 8)
