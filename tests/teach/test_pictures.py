"""Rows of pictures: every image once, in its place, with names and a text."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from ldm_tutorial.teach import pictures


def read(html):
    """The picture inside as (H, W, 3) in [0, 1]."""
    (data,) = re.findall(r"base64,([A-Za-z0-9+/=]+)", html)
    picture = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
    return torch.from_numpy(np.array(picture)) / 255


def middle(picture, row, column, high, side):
    """The colour in the middle of a tile, which has an edge of one pixel around it."""
    return picture[row * (high + 2) + high // 2, column * (side + 2) + side // 2]


def test_every_image_stands_once_in_its_place():
    shades = torch.linspace(-1, 1, 5)
    x = shades.view(5, 1, 1, 1).expand(5, 3, 6, 8)
    html = pictures.rows_html([(None, x[:3]), (None, x[3:])], 0, "abc")
    picture = read(html)
    assert picture.shape == (2 * 8, 3 * 10, 3)
    for k in range(5):
        colour = middle(picture, k // 3, k % 3, 6, 8)
        assert_close(colour, ((shades[k] + 1) / 2).expand(3), atol=0.02, rtol=0)
    spare = middle(picture, 1, 2, 6, 8)  # the second row is shorter
    assert_close(spare, torch.full((3,), 0.5), atol=0.02, rtol=0)
    assert all(f"<span>{title}</span>" in html for title in "abc")


def test_rows_have_names_and_one_channel_is_drawn_from_blue_to_red():
    z = torch.tensor([-3.0, 3.0]).view(2, 1, 1, 1).expand(2, 1, 4, 4)
    html = pictures.rows_html(
        [("image\n<1>", torch.zeros(2, 3, 8, 8)), ("z", z)], 0, ()
    )
    assert "<span>image &lt;1&gt;</span><span>z</span>" in html
    blue, red = (middle(read(html), 1, k, 8, 8) for k in (0, 1))
    assert blue[2] > blue[0] + 0.2 and red[0] > red[2] + 0.2


@pytest.mark.parametrize(
    ("columns", "name", "size", "width"),
    [(6, None, 0, 684), (6, "a", 0, 588), (2, None, 0, 288), (9, "a", 0, 588),
     (4, None, 0.2, 256), (4, None, 1.0, 360), (4, None, 100, 400)],
)  # fmt: skip
def test_pictures_fill_the_column_and_are_never_small(columns, name, size, width):
    rows = [(name, torch.zeros(columns, 3, 4, 4))]
    found = int(
        re.search(r"minmax\(0, (\d+)px\)", pictures.rows_html(rows, size, ()))[1]
    )
    assert found == width


def test_a_picture_has_a_text_that_the_book_may_better():
    html = pictures.rows_html([("one", torch.zeros(1, 3, 4, 4))], 0, ())
    (tag,) = re.findall(r"<img[^>]*>", html)
    assert 'data-alt="cell"' in tag and 'alt="one"' in tag


def test_images_that_need_a_gradient_or_leave_the_range_are_drawn():
    x = torch.full((1, 3, 4, 4), 7.0, requires_grad=True)
    assert float(read(pictures.rows_html([(None, x)], 0, ())).min()) > 0.97


def test_a_row_may_mix_pictures_and_maps():
    """Maps of one channel stand beside pictures, and are brought to their size."""
    from ldm_tutorial.teach.pictures import even

    row = even([torch.ones(3, 8, 8), torch.zeros(1, 4, 4)], 3, 8, 8)
    assert row.shape == (3, 3, 8, 8)
    assert bool((row[0] == 1).all()) and bool((row[2] == 0).all())


def test_a_picture_is_as_light_as_a_phone_wants_it():
    """Noise, which no format makes small, loses quality before it gets heavy."""
    from ldm_tutorial.teach.pictures import HEAVIEST, light_url

    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(256, (260, 520, 3), generator=generator, dtype=torch.uint8)
    assert len(light_url(noise)) <= HEAVIEST
    calm = torch.full((64, 64, 3), 99, dtype=torch.uint8)
    assert len(light_url(calm)) < 1000
