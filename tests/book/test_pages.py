"""The built book in a real browser: `make pages`.

Every page from the disk, in both themes, at the width of a desk and of a phone, and
over http: no request that leaves the book, no error, no formula that fails, nothing
that scrolls sideways or shifts, nothing serious for axe, and every slider moves.
"""

import json
import os
import shutil
import subprocess

import pytest
from browser import BOOK, MODULES, PICTURES, ROOT, missing

MAX_BYTES = 1_500_000  # of a page with its pictures
MAX_IMAGE = 150_000
MAX_BOOK = 60_000_000  # of all that is built

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=missing() or "all is there"),
]


@pytest.fixture(scope="module")
def looks():
    """What was seen: a dictionary for each page, width, theme and protocol."""
    shutil.rmtree(PICTURES, ignore_errors=True)
    PICTURES.mkdir(parents=True)
    done = subprocess.run(  # its trail on stderr is shown if a test fails
        ["node", ROOT / "tests" / "book" / "pages.js", BOOK, PICTURES],
        env={**os.environ, "NODE_PATH": str(MODULES)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 0, "see the trail below"
    return json.loads(done.stdout)["pages"]


def test_every_page_is_looked_at_in_every_way(looks):
    pages = {path.name for path in BOOK.glob("*.html")} - {
        "genindex.html",
        "search.html",
    }
    ways = {(1280, "light", "http")}
    ways |= {(w, t, "file") for w in (1280, 390) for t in ("light", "dark")}
    seen = {(one["page"], one["width"], one["theme"], one["over"]) for one in looks}
    assert seen == {(page, *way) for page in pages for way in ways}


def test_no_page_has_a_problem(looks):
    found = [
        f"{one['page']} {one['width']} {one['theme']} {one['over']}: {problem}"
        for one in looks
        for problem in one["problems"]
    ]
    assert not found, "\n" + "\n".join(found)


def test_the_book_is_light():
    files = [path for path in BOOK.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MAX_BOOK


def test_pages_and_pictures_are_light():
    """What the book itself adds; the theme and the maths are loaded once for all."""
    for path in BOOK.glob("*.html"):
        text = path.read_text("utf8")
        named = {
            image.name for image in (BOOK / "_images").iterdir() if image.name in text
        }
        sizes = {name: (BOOK / "_images" / name).stat().st_size for name in named}
        heavy = {name: size for name, size in sizes.items() if size > MAX_IMAGE}
        assert not heavy, f"{path.name}: {heavy}"
        assert len(text.encode()) + sum(sizes.values()) <= MAX_BYTES, path.name
