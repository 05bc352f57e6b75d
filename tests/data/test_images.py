"""One image file: formats, depths, orientation, transparency, and what is refused."""

import os
import shutil
import struct
import subprocess
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from ldm_tutorial.data import Framing, load_dataset, read_image, to_tensor
from ldm_tutorial.data.images import RASTER

BLUE = (20, 60, 220)


def grey_of(path):
    """The grey of an image of one colour, 0 to 255."""
    pixels = np.array(read_image(path))
    assert pixels.shape[2] == 3 and np.ptp(pixels) <= 1
    return int(pixels[0, 0, 0])


def png(depth, kind, row, transparent):
    """A PNG of one row, with the colour that stands for nothing."""

    def chunk(name, data):
        crc = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc)

    n = len(row) * 8 // depth // (3 if kind == 2 else 1)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", n, 1, depth, kind, 0, 0, 0))
    rest = chunk(b"tRNS", transparent) + chunk(b"IDAT", zlib.compress(b"\0" + row))
    return b"\x89PNG\r\n\x1a\n" + head + rest + chunk(b"IEND", b"")


def tiff(bits, values, sample_format=1, white_is_zero=False):
    """A grey TIFF of one row."""
    tags = [(256, len(values)), (257, 1), (258, bits), (259, 1)]
    tags += [(262, 0 if white_is_zero else 1), (273, 0), (277, 1), (278, 1)]
    if bits == 12:
        both = "".join(f"{v:012b}" for v in values)
        data = int(both, 2).to_bytes(len(both) // 8, "big")
    else:
        data = np.array(
            values, f"<i{bits // 8}" if sample_format == 2 else f"<u{bits // 8}"
        ).tobytes()
    tags += [(279, len(data)), (339, sample_format)]
    start = 8 + 2 + 12 * len(tags) + 4
    entries = [(tag, start if tag == 273 else value) for tag, value in tags]
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags))
    return head + table + struct.pack("<I", 0) + data


@pytest.mark.parametrize(
    ("file", "grey"),
    [
        (tiff(16, [0x8080] * 4), 128),
        (tiff(12, [0xFFF // 3] * 4), 85),
        (tiff(16, [65535 - 0x4040] * 4, white_is_zero=True), 64),
        (tiff(32, [0x8080] * 4), 128),
        (b"P5 4 1 1023\n" + struct.pack(">4H", *[341] * 4), 85),
        (b"P5 4 1 65535\n" + struct.pack(">4H", *[200] * 4), 1),
        (b"P2 2 1 15\n5 5\n", 85),
        (png(16, 0, struct.pack(">4H", *[0x4040] * 4), b"\0\1"), 64),
        (png(2, 0, b"\x55", b"\0\0"), 85),
    ],
)
def test_depths_of_known_range_are_scaled(tmp_path, file, grey):
    (tmp_path / "a.png").write_bytes(file)  # what it is, its first bytes say
    assert grey_of(tmp_path / "a.png") == grey


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (tiff(32, [70_000] * 4), "integers from 70000 to 70000"),
        (tiff(32, [200] * 4), "reach only to 200"),
        (tiff(32, [-5 & 0xFFFFFFFF] * 4), "integers from -5"),
        (tiff(16, [-5] * 4, sample_format=2), "signed"),
        (tiff(8, [-5] * 4, sample_format=2), "signed"),
        (b"Pf 2 1 -1.0\n" + struct.pack("<2f", 0.5, 0.5), "floats"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
        (b"%PDF-1.7\n", "PDF"),
        (b"<!DOCTYPE html><html>404</html>", "web page"),
        (b"", "empty"),
        (b"no picture at all", "no image of a known raster format"),
    ],
)
def test_others_are_refused_in_one_line(tmp_path, file, words):
    (tmp_path / "a.png").write_bytes(file)
    with pytest.raises(ValueError, match=words) as caught:
        read_image(tmp_path / "a.png")
    assert "\n" not in str(caught.value) and "a.png" in str(caught.value)


def test_no_interpreter_is_ever_started(tmp_path, monkeypatch):
    """Not even where PostScript and metafiles have the names of pictures."""
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("started"))
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert not {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"} & set(RASTER)
    for name in ("a.png", "a.jpg", "a.eps", "a.ps"):
        (tmp_path / name).write_bytes(
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1"
        )
        with pytest.raises(ValueError, match="PostScript"):
            read_image(tmp_path / name)


def test_a_fifo_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(ValueError, match="no regular file"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("file", "opaque"),
    [
        (png(2, 0, b"\x1b", struct.pack(">H", 2)), [0, 85, None, 255]),
        (png(4, 0, b"\x05\x0a", struct.pack(">H", 5)), [0, None, 0, 170]),
        (png(8, 0, b"\x05\x0a", struct.pack(">H", 5)), [None, 10]),
        (png(16, 0, b"\x40\x40\x80\x80", struct.pack(">H", 0x8080)), [64, None]),
        (
            png(
                16,
                2,
                struct.pack(">6H", *[0x1234] * 3, *[0x4040] * 3),
                struct.pack(">3H", *[0x1234] * 3),
            ),
            [None, 64],
        ),
    ],
)
def test_the_colour_that_stands_for_nothing_is_found_at_any_depth(
    tmp_path, file, opaque
):
    (tmp_path / "a.png").write_bytes(file)
    pixels = np.array(read_image(tmp_path / "a.png", background="#0000ff"))[0]
    wanted = [(0, 0, 255) if grey is None else (grey,) * 3 for grey in opaque]
    assert [tuple(map(int, pixel)) for pixel in pixels] == wanted


def corners(image):
    """Red at the top left of a picture that is wider than high."""
    pixels = np.array(image.convert("RGB"))
    return (
        image.size,
        tuple(map(int, pixels[0, 0] // 128)),
        int(pixels[-1, -1].max()) // 128,
    )


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_all_eight_orientations_are_undone(tmp_path, orientation, kind):
    upright = Image.new("RGB", (48, 32))
    upright.paste((255, 0, 0), (0, 0, 24, 16))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # what the camera did: inverses
    stored = upright if orientation == 1 else upright.transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a", format=kind, exif=exif)
    assert corners(read_image(tmp_path / "a")) == corners(upright)


@pytest.mark.parametrize("value", [0, 9, 77])
def test_an_orientation_that_is_none_is_ignored(tmp_path, value):
    exif = Image.Exif()
    exif[0x0112] = value
    Image.new("RGB", (20, 10)).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").size == (20, 10)


@pytest.mark.parametrize(
    "block", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff", b"Exif\0\0xx"]
)
def test_broken_exif_does_no_harm_at_any_look(tmp_path, block):
    Image.new("RGB", (16, 16), BLUE).save(tmp_path / "a.jpg", exif=block + b"\7" * 9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = read_image(tmp_path / "a.jpg")
    assert image.info == {}
    assert to_tensor(image, 8).shape == (3, 8, 8)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "PA", "RGBa", "La"])
def test_what_is_transparent_shows_the_background(tmp_path, mode):
    image = Image.new("RGBA", (8, 8), (*BLUE, 0)).convert(
        "LA" if "L" in mode else "RGBA"
    )
    image = image.convert(mode)
    colour = torch.tensor([0, 128, 0]) / 127.5 - 1
    x = to_tensor(image, 8, background="green")
    assert_close(x, colour[:, None, None].expand_as(x))


def test_a_transparent_edge_does_not_bleed():
    """Colours under what is transparent do not show after shrinking."""
    image = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    image.paste((0, 0, 0, 255), (16, 16, 48, 48))
    x = to_tensor(image, 8, background="black")
    assert_close(x, -torch.ones(3, 8, 8))


@pytest.mark.parametrize("shape", [(60, 20), (20, 60), (500, 1), (32, 32)])
def test_padding_keeps_the_whole_image(shape):
    x = to_tensor(Image.new("RGB", shape, "white"), 32, "pad", background="black")
    wide, high = (max(1, round(32 * side / max(shape))) for side in shape)
    top, left = (32 - high) // 2, (32 - wide) // 2
    expected = -torch.ones(3, 32, 32)
    expected[:, top : top + high, left : left + wide] = 1
    assert_close(x, expected)


def test_one_channel_is_the_luminance():
    x = to_tensor(Image.new("RGB", (9, 9), (255, 0, 0)), 8, channels=1)
    assert_close(x, torch.full((1, 8, 8), 76 / 127.5 - 1))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fit": "stretch"}, "crop or pad"),
        ({"channels": 2}, "3 .* or 1"),
        ({"background": "blau"}, "'blau' is no colour"),
        ({"background": ""}, "is no colour"),
        ({"background": "rgb(300,0,0)"}, "is no colour"),
        ({"background": "#00000000"}, "is no colour"),
    ],
)
def test_bad_framings_are_named(tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        Framing(8, **options)
    with pytest.raises(ValueError, match=words):
        load_dataset(tmp_path, 8, **options)


@pytest.mark.parametrize("size", [0, -8])
def test_a_square_has_a_side(size):
    with pytest.raises(ValueError, match=f"size={size}; give 1 or more"):
        Framing(size)
    assert type(Framing(np.int64(8)).size) is int  # as what is remembered needs it


def test_a_large_jpeg_is_decoded_small_and_looks_the_same(tmp_path):
    y, x = np.mgrid[:1024, :1536] / 1024
    smooth = np.stack([x / 1.5, y, 1 - y], -1) * 255
    Image.fromarray(smooth.astype("uint8")).save(tmp_path / "a.jpg", quality=95)
    small = read_image(tmp_path / "a.jpg", 64)
    assert 128 <= min(small.size) <= 256
    full = to_tensor(read_image(tmp_path / "a.jpg"), 64)
    assert_close(to_tensor(small, 64), full, rtol=0, atol=0.03)


def test_too_many_pixels_are_refused(tmp_path):
    Image.new("1", (10_000, 10_000)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="100 million pixels"):
        read_image(tmp_path / "a.png")
