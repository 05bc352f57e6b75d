"""Live panels: the picture follows the knobs; a page without a kernel has one too."""

import re
import sys
import types

import pytest
import torch

from ldm_tutorial import LatentDiffusion, landscapes
from ldm_tutorial.codec import PixelCodec
from ldm_tutorial.schedule import NoiseSchedule
from ldm_tutorial.teach import widgets
from ldm_tutorial.teach.flipbook import picture_html
from ldm_tutorial.teach.widgets import (
    WIDGET_VIEW,
    Knob,
    guidance,
    latent_walk,
    noise_level,
    play_with_factors,
)
from ldm_tutorial.unet import UNet, UNetConfig


@pytest.fixture
def shown(monkeypatch):
    """What was displayed."""
    calls = []
    display = lambda data, raw=False: calls.append(data)  # noqa: E731
    monkeypatch.setattr("IPython.display.display", display)
    return calls


@pytest.fixture
def panels(monkeypatch):
    """The live panels that were made."""
    made, live = [], widgets.live
    monkeypatch.setattr(widgets, "live", lambda *a: made.append(live(*a)) or made[-1])
    return made


def controls(panel):
    """Label -> control, and the picture below them."""
    row, picture = panel.children
    return {one.description: one for one in row.children}, picture


def tiny_model(classes=("a", "b")):
    config = UNetConfig(
        in_channels=3,
        channels=(8,),
        num_res_blocks=1,
        attention_levels=(),
        num_classes=len(classes),
    )
    torch.manual_seed(0)
    model = LatentDiffusion(PixelCodec(), UNet(config), image_size=16, classes=classes)
    for p in model.unet.parameters():  # a new UNet predicts zero, whatever the class
        torch.nn.init.normal_(p, std=0.2)
    return model.eval()


def image(seed):
    factors = landscapes.sample_factors(1, torch.Generator().manual_seed(seed))
    return landscapes.render(factors, 16)[0]


def noise_panel():
    noise_level(PixelCodec(), image(0)[None])


EVERY = {
    "factors": play_with_factors,
    "walk": lambda: latent_walk(PixelCodec(), image(0), image(1)),
    "noise": noise_panel,
    "guidance": lambda: guidance(tiny_model(), steps=2, n=1),
}


@pytest.mark.parametrize("name", EVERY)
def test_a_panel_comes_with_a_flipbook_for_pages_without_a_kernel(name, shown, panels):
    EVERY[name]()
    (bundle,), (panel,) = shown, panels
    assert bundle[WIDGET_VIEW]["model_id"] == panel.model_id
    first, *_ = controls(panel)[0]
    assert f'aria-label="Flipbook: {first}"' in bundle["text/html"]
    assert bundle["text/plain"].startswith("Sliders, where a kernel runs: " + first)
    assert panel.model_id not in bundle["text/html"] + bundle["text/plain"]


@pytest.mark.parametrize("name", EVERY)
def test_the_flipbook_is_the_same_each_time(name, shown):
    """Only the name of the widget changes, and `make notebooks` leaves that out."""
    for _ in range(2):
        EVERY[name]()
    first, second = (bundle["text/html"] for bundle in shown)
    assert first == second


@pytest.mark.parametrize("name", EVERY)
def test_each_knob_changes_the_picture(name, shown, panels):
    EVERY[name]()
    knobs, picture = controls(panels[0])
    house = knobs.get("house")
    if house is not None:
        house.value = 1  # else its place would change nothing
    for label, knob in knobs.items():
        old, before = knob.value, picture.value
        ends = [knob.min, knob.max] if hasattr(knob, "min") else [0, 1]
        knob.value = ends[0] if old != ends[0] else ends[1]
        after = picture.value
        knob.value = old
        assert picture.value == before
        assert before.split("src=")[1] != after.split("src=")[1], label
        assert re.search(rf'alt="[^"]*{re.escape(label)}: ', after)


def test_factors_are_drawn_as_the_renderer_draws_them(shown, panels):
    factors = landscapes.sample_factors(1, torch.Generator().manual_seed(3), label=5)
    play_with_factors(factors)
    knobs, picture = controls(panels[0])
    for label, value in {"haze": 0.75, "trees": 2, "biome": 3}.items():
        knobs[label].value = value
    seen = {"sun_x": knobs["sun or moon, across"].value, "haze": 0.75}
    seen |= {"sun_y": knobs["sun or moon, down"].value, "tree_count": 2, "biome": 3}
    seen |= {"warmth": knobs["warmth of the light"].value, "house": factors.house}
    seen |= {"cloud_cover": knobs["clouds"].value}
    seen |= {"house_x": knobs["house, across"].value}
    seen |= {"house_size": knobs["house, width"].value}
    wanted = picture_html(landscapes.render(factors.replace(**seen)), "x", size=192)
    assert picture.value.split("src=")[1] == wanted.split("src=")[1]


@pytest.mark.parametrize(("first", "places"), [("haze", 9), ("tree_count", 5)])
def test_the_flipbook_turns_the_factor_asked_for(first, places, shown, panels):
    play_with_factors(first=first)
    label = next(iter(controls(panels[0])[0]))
    assert label == {"haze": "haze", "tree_count": "trees"}[first]
    assert f'aria-label="Flipbook: {label}"' in shown[0]["text/html"]
    pictures = re.findall(r'src="(.*?)"', shown[0]["text/html"])
    assert len(set(pictures)) == places


def test_a_walk_begins_and_ends_at_its_images(monkeypatch):
    draw = caught(monkeypatch)
    a, b = image(0), image(1)
    latent_walk(PixelCodec(), a, b)
    for t, end in ((0.0, a), (1.0, b)):
        torch.testing.assert_close(
            draw[0](t=t), end.expand(3, -1, -1, -1), atol=1e-5, rtol=0
        )


def test_noise_has_the_size_that_the_schedule_says(monkeypatch):
    draw = caught(monkeypatch)
    schedule, x = NoiseSchedule.cosine(), torch.zeros(1, 3, 64, 64)
    noise_level(PixelCodec(), x, schedule)
    for t in (0, 500, 999):
        sigma = float((1 - schedule.alpha_bar[t]).sqrt())
        for name, noisy in draw[0](t=t).items():
            assert abs(float(noisy.std()) - sigma) < 0.02, (t, name)


def test_guidance_draws_what_the_model_samples(monkeypatch):
    draw = caught(monkeypatch)
    model = tiny_model()
    guidance(model, y=1, n=2, steps=2)
    dice = torch.Generator().manual_seed(5)
    wanted = model.sample(2, y=1, steps=2, guidance_scale=3.0, generator=dice)
    torch.testing.assert_close(draw[0](scale=3.0, y=1, seed=5), wanted)


def caught(monkeypatch):
    """A list that gets the drawing function of the next panel."""
    found = []
    monkeypatch.setattr(widgets, "show", lambda draw, *a, **k: found.append(draw))
    return found


def test_without_ipywidgets_one_line_says_so(shown, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    noise_panel()
    assert capsys.readouterr().out == widgets.NO_WIDGETS + "\n"
    assert "\n" not in widgets.NO_WIDGETS and "pip install" in widgets.NO_WIDGETS
    (bundle,) = shown
    assert WIDGET_VIEW not in bundle and "Flipbook: time t" in bundle["text/html"]


def test_colab_gets_the_panel_alone(shown, panels, monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    noise_panel()
    assert shown == panels


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: play_with_factors(landscapes.sample_factors(2)),
            "got the factors of 2 images; give those of one",
        ),
        (
            lambda: play_with_factors(first="biome"),
            "no slider for 'biome'; choose one of sun_x, ",
        ),
        (
            lambda: noise_level(PixelCodec(), torch.zeros(4, 3, 16, 16)),
            r"got images of shape \(4, 3, 16, 16\); give one to three",
        ),
        (
            lambda: latent_walk(PixelCodec(), torch.zeros(1, 16, 16), image(0)),
            r"got images of shape \(1, 1, 16, 16\)",
        ),
        (lambda: guidance(tiny_model(classes=())), "the model is unconditional"),
    ],
)
def test_what_cannot_be_played_with_is_refused_in_one_line(make, message, shown):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value) and not shown


def test_knobs_speak_plainly():
    assert Knob("a", "a", 0.1 + 0.2).say(0.1 + 0.2) == "0.3"
    assert Knob("a", "a", 3).say(3) == "3"
    assert Knob("a", "a", 0, choices=("dawn", "day")).say(1) == "day"
