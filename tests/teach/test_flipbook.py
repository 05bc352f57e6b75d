"""Flipbooks: HTML that says, shows and turns what it was given, wherever it stands."""

import base64
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
import torch
from PIL import Image

from ldm_tutorial.teach import flipbook
from ldm_tutorial.teach.flipbook import EDGE, flipbook_html, picture_html

VOID = {"img", "input"}


class Page(HTMLParser):
    """Elements as (tag, attributes, text), and whether the tags are balanced."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.elements, self.open = [], []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names)), f"<{tag}> has an attribute twice"
        self.elements.append([tag, dict(attributes), ""])
        if tag not in VOID:
            self.open.append(self.elements[-1])

    def handle_endtag(self, tag):
        assert self.open and self.open.pop()[0] == tag, f"</{tag}> closes another"

    def handle_data(self, data):
        if self.open:
            self.open[-1][2] += data

    def all(self, tag):
        return [
            (attributes, text)
            for name, attributes, text in self.elements
            if name == tag
        ]

    def inside(self, name):
        """Texts of the spans within the element of that class."""
        found, inside = [], False
        for tag, attributes, text in self.elements:
            if tag == "div":
                inside = attributes.get("class") == name
            elif inside and tag == "span":
                found.append(text)
        return found


def frames(count=3, columns=2, side=16):
    """Different frames of two rows."""
    dice = torch.Generator().manual_seed(0)
    x = 2 * torch.rand(count, 2, columns, 3, side, side, generator=dice) - 1
    return [{"above": a, "below": b} for a, b in x]


def book(pages=None, labels=None, alts=None, **options):
    pages = frames() if pages is None else pages
    n = len(pages)
    labels = [f"w = {i}" for i in range(n)] if labels is None else labels
    alts = [f"Pictures at {i}." for i in range(n)] if alts is None else alts
    return flipbook_html(pages, labels, alts, **{"knob": "weight", **options})


def pixels(attributes):
    """What an <img> shows, (H, W, 3) in [0, 1]."""
    data = base64.b64decode(attributes["src"].split(",", 1)[1])
    image = Image.open(io.BytesIO(data)).convert("RGB")
    assert image.size == (int(attributes["width"]), int(attributes["height"]))
    values = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return values.view(image.height, image.width, 3) / 255


def test_each_frame_has_its_picture_its_text_and_its_label():
    page = Page(book())
    images = [attributes for attributes, _ in page.all("img")]
    assert [one["alt"] for one in images] == [f"Pictures at {i}." for i in range(3)]
    assert page.inside("flipbook-labels") == ["w = 0", "w = 1", "w = 2"]
    assert len({one["src"] for one in images}) == 3
    ((slider, _),) = page.all("input")
    assert (slider["type"], slider["min"], slider["max"]) == ("range", "0", "2")


@pytest.mark.parametrize("start", [0, 2])
def test_without_a_script_the_first_frame_shows_and_no_other(start):
    page = Page(book(start=start))
    hidden = ["hidden" in attributes for attributes, _ in page.all("img")]
    assert hidden == [i != start for i in range(3)]
    ((slider, _),) = page.all("input")
    assert slider["value"] == str(start)
    assert slider["aria-valuetext"] == f"w = {start}"


def test_every_frame_takes_the_same_place():
    """Nothing moves on the page when the slider does."""
    sizes = {(a["width"], a["height"]) for a, _ in Page(book()).all("img")}
    side = 16 + 2 * EDGE
    assert sizes == {(str(2 * side), str(2 * side))}


def test_the_pictures_are_those_that_were_given():
    """Smooth ones, for which JPEG is near enough to compare."""
    ramp = torch.linspace(-1, 1, 32).expand(3, 32, 32)
    pages = [{"a": torch.stack([ramp, -ramp])}, {"a": torch.stack([-ramp, ramp])}]
    for page, (attributes, _) in zip(pages, Page(book(pages)).all("img"), strict=True):
        shown = pixels(attributes)
        for column, x in enumerate(page["a"]):
            left = EDGE + column * (32 + 2 * EDGE)
            part = shown[EDGE : EDGE + 32, left : left + 32]
            wanted = (x.permute(1, 2, 0) + 1) / 2
            torch.testing.assert_close(part, wanted, atol=0.03, rtol=0)


def test_one_channel_is_drawn_from_blue_to_red_and_enlarged():
    x = torch.zeros(1, 3, 16, 16)
    z = torch.tensor([[-3.0, 3.0, 0.0, 1.0], [-9.0, 9.0, 0.0, 2.0]]).view(2, 1, 1, 2, 2)
    images = Page(book([{"image": x, "latent": one} for one in z])).all("img")
    first, second = (
        [pixels(a)[16 + 2 * EDGE :][r, c] for r in (4, 12) for c in (4, 12)]
        for a, _ in images
    )
    blue, red, zero, pale = first
    assert blue[2] > blue[0] + 0.2 and red[0] > red[2] + 0.2
    assert zero.min() > 0.9
    assert zero[2] > pale[2] > second[3][2] > red[2]  # 0, 1, 2, 3
    for value, limit in zip(second[:2], first[:2], strict=True):
        torch.testing.assert_close(value, limit, atol=0.05, rtol=0)


def test_names_and_titles_are_text():
    page = Page(book(knob="a < b", titles=["left", "<right>"]))
    assert page.inside("flipbook-names") == ["above", "below"]
    assert page.inside("flipbook-titles") == ["left", "<right>"]
    assert page.all("div")[0][0]["aria-label"] == "Flipbook: a < b"
    bare = Page(book([x["above"] for x in frames()]))
    assert not bare.inside("flipbook-names") and not bare.inside("flipbook-titles")


def test_texts_cannot_break_out_of_their_place():
    evil = 'x"><script>alert(1)</script>'
    page = Page(book(labels=[evil] * 3, alts=[evil] * 3, knob=evil))
    assert not page.all("script")
    assert {a["alt"] for a, _ in page.all("img")} == {evil}
    assert page.all("input")[0][0]["aria-valuetext"] == evil


def test_it_is_the_same_each_time_and_needs_nothing_from_elsewhere():
    assert book() == book()
    assert not re.search(r"https?:|@import|url\(|<script|<link", book())


def test_no_bare_bracket_hides_in_an_attribute():
    """So that whoever looks for tags with a plain pattern finds them whole."""
    tags = re.findall(r"<[^>]+>", re.sub(r"<style>.*?</style>", "", book(), flags=re.S))
    assert all(tag.count('"') % 2 == 0 for tag in tags)


def test_two_on_one_page_share_no_id():
    """There are none: the slider finds its own pictures from where it stands."""
    page = Page(book() + book(frames(4)))
    names = [attributes for _, attributes, _ in page.elements]
    assert not any("id" in attributes or "for" in attributes for attributes in names)
    for slider, _ in page.all("input"):
        assert "this.closest('.flipbook')" in slider["oninput"]
        assert "document" not in slider["oninput"]


def test_quality_gives_way_before_the_limit_does():
    best = book()
    smaller = book(max_bytes=len(best) - 1)
    assert len(smaller) < len(best)
    assert len(Page(smaller).all("img")) == 3


def test_flipbook_displays_html_and_says_what_it_is(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    flipbook(frames(), ["0", "1", "2"], ["a", "b", "c"], knob="weight")
    (data,) = shown
    assert data["text/html"] == book(labels=["0", "1", "2"], alts=["a", "b", "c"])
    assert data["text/plain"] == "A flipbook of 3 frames, weight: 0, 1, 2"


def test_a_picture_alone_has_no_slider():
    page = Page(picture_html(frames()[0], "Two rows.", titles=["a", "b"]))
    ((image, _),) = page.all("img")
    assert image["alt"] == "Two rows." and "hidden" not in image
    assert not page.all("input")
    assert page.inside("flipbook-titles") == ["a", "b"]


x3 = torch.zeros(2, 3, 16, 16)
WRONG = {
    "no frames": ({"pages": []}, "a flipbook of 0 frames has nothing to turn"),
    "one frame": ({"pages": frames(1)}, "a flipbook of 1 frames has nothing to turn"),
    "labels": ({"labels": ["a"]}, "got 1 labels for 3 frames; give one for each"),
    "alts": ({"alts": ["a"] * 4}, "got 4 alts for 3 frames; give one for each"),
    "a word": ({"alts": "abc"}, "got 'abc' for 3 frames; give one for each"),
    "empty": ({"alts": ["a", " ", "c"]}, "one of the alts is empty"),
    "number": ({"labels": [1, 2, 3]}, "one of the labels is empty or no text"),
    "knob": ({"knob": " "}, "knob is empty; say what the slider changes"),
    "start": ({"start": 3}, "start=3 is no frame; give 0 to 2"),
    "titles": ({"titles": ["a"]}, "got 1 titles for 2 columns"),
    "layout": ({"pages": [x3, x3[:1]]}, "frame 1 holds .* lay all frames out alike"),
    "names": ({"pages": [{"a": x3}, {"b": x3}]}, "frame 1 holds .* and frame 0"),
    "rows": ({"pages": [{"a": x3, "b": x3[:1]}] * 2}, "each as many images"),
    "oblong": ({"pages": [x3[..., :8]] * 2}, "and square ones"),
    "channels": ({"pages": [torch.zeros(1, 4, 8, 8)] * 2}, "one channel at a time"),
    "nothing": ({"pages": [{}, {}]}, "no images to draw"),
    "large": ({"max_bytes": 3000}, r"would take \d+ kB and 3 kB are allowed; give"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_shown_is_refused_in_one_line(name):
    options, message = WRONG[name]
    with pytest.raises(ValueError, match=message) as caught:
        book(**options)
    assert "\n" not in str(caught.value)


# A browser turns the pages -----------------------------------------------------------

TURN = """<script>
const out = [];
for (const [k, book] of [...document.querySelectorAll('.flipbook')].entries()) {
  const slider = book.querySelector('input');
  slider.value = 2 - k;
  slider.dispatchEvent(new Event('input'));
  const seen = [...book.querySelectorAll('img')].map(one => one.checkVisibility());
  const said = [...book.querySelectorAll('.flipbook-labels span')].filter(
    one => getComputedStyle(one).visibility === 'visible').map(one => one.textContent);
  out.push([seen.join(), said.join(), slider.getAttribute('aria-valuetext')].join(';'));
}
document.title = out.join(' | ');
</script>"""


def test_a_browser_turns_each_of_two_by_itself(tmp_path):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        pytest.skip("needs Chromium")
    path = tmp_path / "page.html"
    html = f"<!doctype html><meta charset=utf-8>{book()}{book()}{TURN}"
    path.write_text(html, "utf8")
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path}", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    found = re.search(r"<title>(.*)</title>", done.stdout)
    assert found, done.stderr[-500:]
    first, second = found[1].split(" | ")
    assert first == "false,false,true;w = 2;w = 2"
    assert second == "false,true,false;w = 1;w = 1"
