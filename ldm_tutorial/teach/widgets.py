"""Sliders that draw live, in a notebook whose kernel runs.

Each function shows a panel: a few knobs and the picture they belong to. Where no kernel
runs, on the pages of the book or in a notebook just opened, the same cell shows a
flipbook instead, turned by the first of the knobs. ipywidgets 7.7 is enough.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ldm_tutorial.codec import Codec
from ldm_tutorial.diffusion import add_noise
from ldm_tutorial.evaluation.batched import device_of
from ldm_tutorial.evaluation.latents import slerp
from ldm_tutorial.landscapes.dataset import render
from ldm_tutorial.landscapes.factors import BIOMES, TIMES, Factors, sample_factors
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.schedule import NoiseSchedule
from ldm_tutorial.teach.flipbook import Frame, flipbook_html, picture_html

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
NO_WIDGETS = (
    "The sliders need the package ipywidgets (pip install ipywidgets); "
    "without it, here is one of them as a flipbook."
)


@dataclass(frozen=True)
class Knob:
    """Something to turn.

    Attributes:
        name: what the drawing function calls it.
        label: what the reader sees.
        value: where it stands at first.
        span: (lowest, highest, step) of a slider; whole numbers stay whole.
        choices: of a menu, in place of a slider: their number is the value.
    """

    name: str
    label: str
    value: float | int
    span: tuple[float, float, float] | None = None
    choices: Sequence[str] = ()

    def say(self, value: float | int) -> str:
        if self.choices:
            return str(self.choices[int(value)])
        return str(value) if isinstance(value, int) else f"{value:.2g}"


# --- the panels -----------------------------------------------------------------------


def play_with_factors(
    factors: Factors | None = None, codec: Codec | None = None, first: str = "sun_x"
) -> None:
    """Turn the causes of a landscape and see it drawn anew.

    Args:
        factors: where to begin, those of one image; by default a desert at dusk.
        codec: if given, the landscape is also shown through it and back.
        first: the factor that the flipbook turns, one that has a slider.

    Raises:
        ValueError: if the factors are not those of one image, or ``first`` is none.
    """
    if factors is None:
        factors = sample_factors(1, seeded(1), label=9)
    if len(factors) != 1:
        raise ValueError(f"got the factors of {len(factors)} images; give those of one")

    def draw(**values: float) -> Frame:
        x = render(factors.replace(**values))
        if codec is None:
            return x
        return torch.cat([x, codec.decode(encoded(codec, x)).cpu()])

    knobs = factor_knobs(factors)
    if first not in [knob.name for knob in knobs if knob.span]:
        names = ", ".join(knob.name for knob in knobs if knob.span)
        raise ValueError(f"no slider for {first!r}; choose one of {names}")
    knobs.sort(key=lambda knob: knob.name != first)
    assert knobs[0].span is not None
    low, high, step = knobs[0].span
    places = torch.linspace(low, high, 9).tolist()
    if isinstance(step, int):
        places = list(range(int(low), int(high) + 1, step))
    titles = () if codec is None else ("drawn", "decoded")
    middle = len(places) // 2
    show(draw, knobs, places, "A landscape", titles, start=middle, size=192)


def factor_knobs(factors: Factors) -> list[Knob]:
    """Knobs for some of the factors, which stand where they are."""
    sliders = {
        "sun_x": ("sun or moon, across", 0.1, 0.9, 0.05),
        "sun_y": ("sun or moon, down", 0.1, 0.5, 0.02),
        "warmth": ("warmth of the light", -1.0, 1.0, 0.1),
        "haze": ("haze", 0.0, 1.0, 0.05),
        "cloud_cover": ("clouds", 0.0, 1.0, 0.05),
        "tree_count": ("trees", 0, 4, 1),
        "house": ("house", 0, 1, 1),
        "house_x": ("house, across", 0.1, 0.9, 0.05),
        "house_size": ("house, width", 0.1, 0.4, 0.02),
    }
    knobs = []
    for name, (label, low, high, step) in sliders.items():
        value = getattr(factors, name).item()
        value = int(value) if isinstance(step, int) else round(value, 2)
        value = min(max(value, low), high)
        knobs.append(Knob(name, label, value, span=(low, high, step)))
    menus = {"time": TIMES, "biome": BIOMES}
    for name, choices in menus.items():
        value = int(getattr(factors, name))
        knobs.append(Knob(name, name, value, choices=choices))
    return knobs


def latent_walk(codec: Codec, a: Tensor, b: Tensor) -> None:
    """Walk from image ``a`` to image ``b``, both (3, H, W) in [-1, 1], on three roads.

    A cross-fade of pixels, and the straight line and the arc between the two latents.
    """
    check_images(a[None], b[None])
    z_a, z_b = encoded(codec, torch.stack([a, b]))

    def draw(t: float) -> Frame:
        between = torch.stack([(1 - t) * z_a + t * z_b, slerp(z_a, z_b, t)])
        fade = (1 - t) * a + t * b
        return torch.cat([fade[None].cpu(), codec.decode(between).cpu()])

    knob = Knob("t", "from the first to the second", 0.5, span=(0.0, 1.0, 0.02))
    roads = ("pixels", "latent, straight", "latent, arc")
    places = [p / 8 for p in range(9)]
    show(draw, [knob], places, "Between two landscapes", roads, start=4)


def noise_level(codec: Codec, x: Tensor, schedule: NoiseSchedule | None = None) -> None:
    """Add the noise of time t to images (B, 3, H, W) and to their latents.

    Args:
        codec: what makes the latents.
        x: one to three images.
        schedule: by default the linear one of 1000 steps.
    """
    check_images(x)
    schedule = schedule or NoiseSchedule.linear()
    x, z_0 = x.cpu(), encoded(codec, x)
    eps_x = torch.randn(x.shape, generator=seeded(0))
    eps_z = torch.randn(z_0.shape, generator=seeded(1))

    def draw(t: int) -> Frame:
        alpha_bar_t = schedule.alpha_bar[t].cpu()
        z_t = add_noise(z_0, eps_z.to(z_0.device), alpha_bar_t.to(z_0.device))
        noisy = add_noise(x, eps_x, alpha_bar_t)
        return {"image": noisy, "latent, decoded": codec.decode(z_t).cpu()}

    last = len(schedule) - 1
    places = [round(last * p) for p in (0, 0.05, 0.1, 0.2, 0.4, 0.6, 1)]
    start = 3  # where the two begin to differ
    knob = Knob("t", "time t", places[start], span=(0, last, 1))
    show(draw, [knob], places, "Noise on landscapes and on their latents", start=start)


def guidance(model: LatentDiffusion, y: int = 0, n: int = 3, steps: int = 20) -> None:
    """Draw ``n`` samples of a class at a guidance scale, from the same noise.

    Args:
        model: one with classes.
        y: the class to begin with.
        steps: of DDIM; fewer are faster.

    Raises:
        ValueError: if the model knows no classes.
    """
    if not model.classes:
        raise ValueError(
            "the model is unconditional, so nothing can guide it; "
            "give one with classes, such as ldm-f8"
        )

    def draw(scale: float, y: int, seed: int) -> Frame:
        dice = seeded(seed)
        drawn = model.sample(n, y=y, steps=steps, guidance_scale=scale, generator=dice)
        return drawn.cpu()

    knobs = [
        Knob("scale", "guidance scale", 1.0, span=(0.0, 8.0, 0.5)),
        Knob("y", "class", y, choices=model.classes),
        Knob("seed", "seed of the noise", 0, span=(0, 20, 1)),
    ]
    places = [0.0, 1.0, 2.0, 4.0, 8.0]
    show(draw, knobs, places, "Samples of one class", start=1, slow=True)


# --- how they are shown ---------------------------------------------------------------


def show(
    draw: Callable[..., Frame],
    knobs: Sequence[Knob],
    places: Sequence[float | int],
    what: str,
    titles: Sequence[str] = (),
    start: int = 0,
    size: int = 128,
    slow: bool = False,
) -> None:
    """Show a panel, and for pages without a kernel a flipbook over its first knob.

    Args:
        draw: values of all knobs, by name, to a frame of a flipbook.
        places: values of the first knob in the flipbook.
        what: what the pictures show, in words.
        titles, start, size: as in ``flipbook``.
        slow: draw when a slider is let go, not while it moves.
    """
    from IPython.display import display

    first, values = knobs[0], {knob.name: knob.value for knob in knobs}
    labels = [first.say(place) for place in places]
    still = flipbook_html(
        [draw(**values | {first.name: place}) for place in places],
        labels,
        [f"{what}; {first.label}: {label}" for label in labels],
        knob=first.label,
        titles=titles,
        start=start,
        size=size,
    )
    plain = f"Sliders, where a kernel runs: {', '.join(k.label for k in knobs)}"
    bundle: dict[str, Any] = {"text/html": still, "text/plain": plain}
    try:
        panel = live(draw, knobs, what, titles, size, slow)
    except ModuleNotFoundError:
        print(NO_WIDGETS)
    else:
        if "google.colab" in sys.modules:  # chooses one of several kinds by itself
            display(panel)
            return
        view = {"version_major": 2, "version_minor": 0, "model_id": panel.model_id}
        bundle[WIDGET_VIEW] = view
    display(bundle, raw=True)


def live(
    draw: Callable[..., Frame],
    knobs: Sequence[Knob],
    what: str,
    titles: Sequence[str],
    size: int,
    slow: bool,
) -> Any:
    """The panel as a widget: its knobs above one picture that follows them."""
    import ipywidgets

    controls = {knob.name: control(knob, slow) for knob in knobs}
    picture = ipywidgets.HTML()

    def follow(change: object = None) -> None:
        values = {name: one.value for name, one in controls.items()}
        told = ", ".join(f"{k.label}: {k.say(values[k.name])}" for k in knobs)
        page = draw(**values)
        picture.value = picture_html(page, f"{what}; {told}", titles, size)

    for one in controls.values():
        one.observe(follow, names="value")
    follow()
    row = ipywidgets.Box(
        list(controls.values()), layout=ipywidgets.Layout(flex_flow="row wrap")
    )
    return ipywidgets.VBox([row, picture])


def control(knob: Knob, slow: bool = False) -> Any:
    """A menu, or a slider for whole or for real numbers."""
    import ipywidgets

    look = {
        "description": knob.label,
        "style": {"description_width": "initial"},
        "layout": ipywidgets.Layout(width="20rem"),
    }
    if knob.choices:
        options = [(str(name), i) for i, name in enumerate(knob.choices)]
        return ipywidgets.Dropdown(options=options, value=knob.value, **look)
    assert knob.span is not None
    low, high, step = knob.span
    whole = all(isinstance(number, int) for number in knob.span)
    kind = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
    return kind(
        value=knob.value,
        min=low,
        max=high,
        step=step,
        continuous_update=not slow,
        **look,
    )


def check_images(*images: Tensor) -> None:
    for x in images:
        if x.ndim != 4 or x.shape[1] != 3 or not 1 <= len(x) <= 3:
            raise ValueError(
                f"got images of shape {tuple(x.shape)}; give one to three of "
                "(3, H, W) in [-1, 1]"
            )


def encoded(codec: Codec, x: Tensor) -> Tensor:
    """Latents of images, where the codec is, and the same at every call."""
    return codec.encode(x.to(device_of(codec)), seeded(0))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
