"""How each thing in a landscape is drawn, from the sky to the trees.

Positions are fractions of the image: x from 0 (left) to 1 (right), y from 0 (top) to 1
(bottom). Colours are RGB in [0, 1].
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ldm_tutorial.landscapes.canvas import Canvas
from ldm_tutorial.landscapes.factors import (
    DESERT,
    DUSK,
    LAYERS,
    NIGHT,
    OCTAVES,
    SEA,
    SNOW,
    TREES,
    Factors,
    _uniform,
)


def _rgb(codes: str) -> Tensor:
    """Hexadecimal colours 'rrggbb rrggbb ...' as a (count, 3) tensor in [0, 1]."""
    parts = [[code[0:2], code[2:4], code[4:6]] for code in codes.split()]
    return torch.tensor([[int(part, 16) / 255 for part in code] for code in parts])


# Rows: dawn, day, dusk, night.
SKY = _rgb(  # columns: zenith, middle, horizon
    """7f8fcb e3b4cf ffdcb8
       3f86d8 86bff0 dcedf8
       352e72 c0587f ffab5c
       080e28 12214d 324e82"""
).view(4, 3, 3)
DISC = _rgb("fff3d6 fffbe6 ffd88a f1f3ff")  # the sun, or the moon
GLOW = _rgb("ffcfa0 fff4d2 ff9a4a 7f9fdc")  # the air around it
HAZE = _rgb("efc9c6 c9deee b4627a 2a4575")  # what distance fades to
LIGHT = _rgb("f6d3cc fffdf4 c68a90 43588f")  # what multiplies colours of the ground
CLOUD = _rgb("ffe0d6 ffffff f08a72 364c78")

# Rows: forest, desert, snow, sea. Columns: far, middle and near ridge.
GROUND = _rgb(
    """5d8078 44714f 46743a
       b07a68 d0905f e6b273
       9fb0cc d3deef e8eef8
       6f8796 5f7f72 d9c08c"""
).view(4, 3, 3)
LEAVES = _rgb("285a38 4f7a45 2f5a4c 3f7a3f")
BARK = _rgb("5f4434 4a7040 54423a 7a5b3d")
WATER, GLASS, LAMP = _rgb("1f5f86 5d7488 ffd873").view(3, 1, 3, 1, 1)
WALL = _rgb("b0564c dca862 ede4d0 7898b4")  # around the colour circle of the houses
ROOF = _rgb("4b4a58 7c4638 8c5340 5b4640")

# The ridges by biome and layer: mean height of the line, size of its waves (fractions
# of the image), sharpness of the crests, contrast of light and shade.
LEVEL = torch.tensor(
    [[0.50, 0.60, 0.75], [0.53, 0.62, 0.74], [0.49, 0.60, 0.76], [0.53, 0.55, 0.84]]
)
SWING = torch.tensor(
    [[0.07, 0.06, 0.04], [0.04, 0.05, 0.05], [0.13, 0.08, 0.03], [0.05, 0.04, 0.02]]
)
SHARP = torch.tensor(
    [[0.3, 0.4, 0.2], [0.5, 0.9, 0.9], [0.85, 0.7, 0.1], [0.6, 0.5, 0.2]]
)
RELIEF = torch.tensor(
    [[0.14, 0.14, 0.10], [0.12, 0.18, 0.12], [0.30, 0.16, 0.06], [0.12, 0.12, 0.08]]
)
GAIN = torch.tensor([0.50, 0.22, 0.47, 0.45])  # amplitude from octave to octave
FREQUENCY = (1.3, 1.0, 0.7)  # waves per image width in the first octave, by layer
VEIL = (0.62, 0.36, 0.06)  # how much haze lies before each layer


def light(c: Canvas) -> Tensor:
    """Colour of the light on the ground, (N, 3, 1, 1)."""
    tint = torch.tensor([0.05, 0.0, -0.05], device=c.x.device).view(1, 3, 1, 1)
    return c.by(c.time, LIGHT) * (1 + tint * c.warmth)


def sky_colour(c: Canvas, y: Tensor) -> Tensor:
    """The clear sky at heights y, (1, 1, H, 1): a Bezier curve down to the horizon."""
    t = (y / 0.56).clamp(0, 1)
    zenith, middle, horizon = (c.by(c.time, SKY[:, stop]) for stop in range(3))
    return (1 - t) ** 2 * zenith + 2 * t * (1 - t) * middle + t**2 * horizon


def draw_sky(c: Canvas) -> None:
    c.paint(sky_colour(c, c.y), torch.ones_like(c.image[:, :1]), "sky")


def draw_stars(c: Canvas, cells: int = 12) -> None:
    """At most one star in each cell of a grid, sharp, of its own brightness."""
    drawn = _uniform(c.factors.star_seed, 4 * cells**2).view(-1, 4, cells, cells)
    row, column = (c.y * cells).long().flatten(), (c.x * cells).long().flatten()
    u, v, luck, bright = drawn[:, :, row][:, :, :, column].split(1, 1)
    dx = c.x * cells % 1 - (0.2 + 0.6 * u)
    dy = c.y * cells % 1 - (0.2 + 0.6 * v)
    width = 0.0085 * cells  # a little over half a pixel of a 64-pixel image
    star = torch.exp(-(dx**2 + dy**2) / width**2)
    star = star * (0.2 + 0.8 * bright**2) * (luck < 0.5)
    star = star * (1 - c.y**3 / 0.2).clamp(min=0)  # fainter near the horizon
    c.tint(c.by(c.time, DISC), star)
    c.mark("stars", star)


def draw_sun_or_moon(c: Canvas, fine: Tensor) -> None:
    """The glow of the air, then the disc; the moon has darker plains."""
    r = ((c.x - c.sun_x) ** 2 + (c.y - c.sun_y) ** 2).sqrt()
    glow = torch.exp(-(r - c.sun_radius).clamp(min=0) / 0.13)
    c.tint(c.by(c.time, GLOW), glow * (0.75 - 0.25 * (c.time == NIGHT)))
    disc = c.by(c.time, DISC) + 0.13 * fine.clamp(-1, 0) * (c.time == NIGHT)
    c.paint(disc, c.inside(c.sun_radius - r))


def draw_clouds(c: Canvas) -> None:
    """Thin, drawn-out clouds that let half of the sky through."""
    noise = c.noise(c.factors.cloud_seed, 12, 4)
    noise = noise + 0.4 * c.noise(c.factors.cloud_seed + 1, 24, 9)
    cover = 0.5 * (noise + 1.1 * c.cloud_cover - 0.75).clamp(0, 1.2)
    cover = cover * (1 - (c.y - 0.35).abs() / 0.4).clamp(0, 1)
    c.tint(c.by(c.time, CLOUD), cover)
    if c.seen:
        c.seen["stars"] *= 1 - cover


def _waves(c: Canvas, layer: int, x: Tensor, octaves: int) -> tuple[Tensor, ...]:
    """Half the phase, amplitude, frequency and sharpness of the waves of a ridge."""
    octave = torch.arange(octaves, device=x.device).view(1, -1, 1, 1)
    frequency = FREQUENCY[layer] * 2.1**octave
    turns = frequency * x + c.factors.ridge_phase[:, layer, :octaves, None, None]
    amplitude = c.by(c.biome, GAIN) ** octave
    return math.pi * turns, amplitude, frequency, c.by(c.biome, SHARP[:, layer])


def ridge_line(c: Canvas, layer: int, x: Tensor) -> Tensor:
    """y of a ridge at x, (N or 1, 1, 1, W); the near ridge of the sea is a shore.

    A sum of waves that get shorter and flatter, each a blend of a rounded wave, cos(a),
    and a sharp crest, 1 - 2 |sin(a / 2)|.
    """
    half, amplitude, _, sharp = _waves(c, layer, x, OCTAVES)
    wave = (1 - sharp) * (2 * half).cos() + sharp * (1 - 2 * half.sin().abs())
    height = (amplitude * wave).sum(1, keepdim=True) * c.by(c.biome, SWING[:, layer])
    line = c.by(c.biome, LEVEL[:, layer]) - c.ridge_lift[..., layer, None]
    line = line - height * c.ridge_swing[..., layer, None]
    if layer == LAYERS - 1:
        away = ((0.5 + 0.5 * c.shore_side - x).abs() - 0.1).clamp(min=0)
        line = line + (c.biome == SEA) * 0.9 * away**1.5
    return line


def ridge_slope(c: Canvas, layer: int, x: Tensor) -> Tensor:
    """How steeply the long waves of a ridge rise at x, (N, 1, H, W); crests jump."""
    half, amplitude, frequency, sharp = _waves(c, layer, x, octaves=2)
    sine = half.sin()
    rise = half.cos() * ((1 - sharp) * 2 * sine + sharp * sine.sign())
    return -(amplitude * frequency * rise).sum(1, keepdim=True)


def draw_ridge(c: Canvas, layer: int, coarse: Tensor, fine: Tensor) -> None:
    """Ground lit from the sun's side, textured, in mist at its foot; a soft edge."""
    line = ridge_line(c, layer, c.x)
    steep = (ridge_line(c, layer, c.x + 0.5 * c.pixel) - line) / (0.5 * c.pixel)
    c = c.below(line.min() - 0.05)
    coarse, fine = coarse[:, :, -c.height :], fine[:, :, -c.height :]
    depth = c.y - line
    down = depth.clamp(min=0)
    if layer == LAYERS - 1:
        c.only(c.biome == SEA, draw_surf, layer)

    # The light and shade of the crest runs down the slope and wavers on its way.
    slope = ridge_slope(c, layer, c.x + down * (0.5 + 0.5 * coarse))
    facing = 2 * slope * ((c.x - c.sun_x) * 4).tanh()
    facing = facing / (1 + facing.abs()) * torch.exp(-down / 0.16)
    near_sun = torch.exp(-((c.x - c.sun_x) ** 2) / 0.09)
    rim = 0.14 * near_sun * torch.exp(-down / 0.02)
    shade = 1 + c.by(c.biome, RELIEF[:, layer]) * facing + 0.05 * fine + rim

    haze = torch.lerp(c.by(c.time, HAZE), c.by(c.time, GLOW), 0.5 * near_sun)
    mist = (0.06 if layer == LAYERS - 1 else 0.3) * (0.4 + 0.9 * c.haze)
    veil = VEIL[layer] * (0.7 + 0.6 * c.haze) + mist * (down / 0.16).clamp(max=1)
    colour = c.by(c.biome, GROUND[:, layer]) * light(c) * shade
    colour = colour.lerp_(haze, veil.clamp(max=0.9))
    c.paint(colour, c.inside(depth / (1 + steep**2).sqrt()), "texture")
    c.mark("ridge edges", c.inside(1.25 * c.pixel - depth.abs()))


def draw_surf(c: Canvas, layer: int) -> None:
    """A white line of foam before the shore."""
    depth = c.y - ridge_line(c, layer, c.x)
    foam = 0.8 * torch.exp(-(((depth + 0.012) / 0.012) ** 2))
    c.paint(0.97 * light(c), foam, "waves")


def draw_water(c: Canvas, horizon: float = 0.56) -> None:
    """The sky mirrored, wave lines that grow towards us, the glitter below the sun."""
    c = c.below(horizon - 0.02)
    depth = (c.y - horizon).clamp(min=0)
    sky, deep = sky_colour(c, 0.52 - 0.9 * depth), WATER.to(c.y.device) * light(c)
    broken = c.noise(c.factors.texture_seed + 2, 32, 9)
    water = torch.lerp(sky, deep, 0.25 + 0.9 * depth) * (1 + 0.05 * broken)

    swell = c.noise(c.factors.texture_seed + 3, 12, 5)
    turns = 9 * (depth + 0.01).log() + swell + 0.4 * (c.x - c.sun_x)
    resolved = (1 - 13 * c.pixel / (depth + 0.01)).clamp(0, 1)  # finer lines blur away
    crest = ((math.tau * turns).cos() - 0.35).clamp(min=0) / 0.65 * resolved
    crest = crest * (0.6 + broken).clamp(0, 1)
    spread = 1.35 * c.sun_radius + 0.16 * depth
    path = torch.exp(-(((c.x - c.sun_x) / spread) ** 2))
    sparkle = c.noise(c.factors.texture_seed + 4, 48, 9) + 0.5 * crest
    glitter = path * (0.30 + 0.5 * sparkle).clamp(0, 1)
    water = torch.lerp(water, 0.5 * (c.by(c.time, HAZE) + light(c)), 0.35 * crest)
    water = torch.lerp(water, c.by(c.time, DISC), glitter)
    cover = c.inside(c.y - horizon)
    c.paint(water, cover.expand_as(crest))
    c.mark("waves", cover * torch.maximum(crest, glitter))


def box(
    u: Tensor, v: Tensor, left: float, right: float, low: float, high: float
) -> Tensor:
    """Distance inside a rectangle at (u, v), v upwards."""
    across = torch.minimum(u - left, right - u)
    return torch.minimum(across, torch.minimum(v - low, high - v))


def stroke(u: Tensor, v: Tensor, a: tuple, b: tuple, radius: float) -> Tensor:
    """Distance inside a round-ended stroke from point a to point b."""
    du, dv = b[0] - a[0], b[1] - a[1]
    t = ((u - a[0]) * du + (v - a[1]) * dv) / (du**2 + dv**2)
    t = t.clamp(0, 1)
    return radius - torch.hypot(u - a[0] - t * du, v - a[1] - t * dv)


def conifer(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Distances inside trunk and crown; u to the right, v up, both in tree heights."""
    half_width = 0.30 * (1.04 - v) * (1.08 - 0.42 * (4.6 * v % 1))  # in tiers
    crown = torch.minimum(half_width - u.abs(), torch.minimum(v - 0.18, 1 - v))
    return box(u, v, -0.04, 0.04, 0, 0.3), crown


def cactus(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Distances inside stem and arms, as in `conifer`."""
    lines = [((-0.24, 0.44), (-0.24, 0.74)), ((0.24, 0.30), (0.24, 0.60))]
    lines += [((-0.24, 0.44), (0, 0.44)), ((0, 0.30), (0.24, 0.30))]
    arms = torch.stack([stroke(u, v, a, b, 0.055) for a, b in lines]).amax(0)
    return stroke(u, v, (0, 0), (0, 0.92), 0.08), arms


def palm(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Distances inside trunk and fronds, as in `conifer`."""
    trunk = box(u - 0.18 * v**2, v, -0.04, 0.04, 0, 0.9)
    u = u - 0.16
    v = v - 0.88 + 0.9 * u**2  # fronds droop
    fronds = 0.42 * (0.25 + 0.75 * (3.5 * torch.atan2(v, u)).cos().abs())
    return trunk, fronds - torch.hypot(u, v)


def draw_tree(c: Canvas, k: int, shape: Callable) -> None:
    """Tree k, rooted in the near ridge, lit from the sun's side."""
    x, height = c.tree_x[..., k, None], c.tree_height[..., k, None]
    root = ridge_line(c, LAYERS - 1, x) + c.tree_depth[..., k, None]
    c = c.below((root - 1.4 * height).min())
    u, v = (c.x - x) / height, (root - c.y) / height
    trunk, crown = shape(u, v)
    side = 1 + 0.22 * (6 * u * (c.sun_x - x).sign()).tanh()
    on_land = root < 1
    bark = c.by(c.biome, BARK) * light(c)
    c.paint(bark, c.inside(trunk * height) * on_land, "trunks")
    leaves = c.by(c.biome, LEAVES) * light(c) * side
    c.paint(leaves, c.inside(crown * height) * on_land)


def draw_trees(c: Canvas) -> None:
    """Up to four trees, of a kind that grows in the biome, the farthest first."""
    for k in range(TREES):
        grown = c.tree_count > k
        c.only(grown & (c.biome % 2 == 0), draw_tree, k, conifer)  # forest, snow
        c.only(grown & (c.biome == DESERT), draw_tree, k, cactus)
        c.only(grown & (c.biome == SEA), draw_tree, k, palm)


def draw_house(c: Canvas) -> None:
    """Wall, gable roof, chimney, door, and two windows, lit at dusk and at night."""
    ends = c.house_x + c.house_size * torch.tensor([-0.5, 0, 0.5], device=c.x.device)
    base = ridge_line(c, LAYERS - 1, ends).amax(-1, keepdim=True) + 0.02
    c = c.below((base - 3 * c.house_size).min())
    u, v = (c.x - c.house_x) / c.house_size, (base - c.y) / c.house_size

    quarter = torch.arange(4, device=u.device).view(1, 4, 1) / 4
    share = (math.tau * (c.house_hue[:, 0] - quarter)).cos().clamp(min=0) ** 2
    wall = (share * WALL.to(u.device)).sum(1)[..., None, None] * light(c)
    roof = (share * ROOF.to(u.device)).sum(1)[..., None, None] * light(c)

    def block(*edges: float) -> Tensor:
        return c.inside(box(u, v, *edges) * c.house_size)

    shadow = 0.35 * torch.exp(-((u / 0.6) ** 2) - (v / 0.07) ** 2)
    c.tint(torch.zeros_like(wall), shadow)
    c.paint(0.7 * roof, block(0.2, 0.32, 0.6, 1.02))
    sunny = 1 + 0.2 * u * (c.sun_x - c.house_x).sign()
    c.paint(wall * sunny, block(-0.5, 0.5, 0, 0.56))
    gable = torch.minimum(0.64 * (0.98 - v) / 0.45 - u.abs(), v - 0.53)
    c.paint(roof, c.inside(gable * c.house_size))
    snow = torch.minimum(gable + 0.03, v - 0.66) * c.house_size
    c.paint(0.93 * light(c), c.inside(snow) * (c.biome == SNOW))
    c.paint(0.45 * wall, block(-0.09, 0.09, 0, 0.33))
    lamp, dark = LAMP.to(u.device), GLASS.to(u.device) * light(c)
    glass = torch.where(c.time >= DUSK, lamp, dark)
    for left in (-0.39, 0.19):
        c.paint(glass, block(left, left + 0.20, 0.17, 0.40), "windows")
    glow = 0.1 * (c.time >= DUSK) + 0.12 * (c.time == NIGHT)
    c.tint(lamp, glow * torch.exp(-(u**2 + (v - 0.25) ** 2) / 0.5))


def draw_scene(factors: Factors, size: int, details: tuple[str, ...] = ()) -> Canvas:
    """The scene from back to front."""
    image = torch.zeros(len(factors), 3, size, size, device=factors.time.device)
    seen = {name: torch.zeros_like(image[:, :1]) for name in details}
    c = Canvas(factors, image, seen)
    coarse = c.noise(factors.texture_seed, 7, 7)
    fine = c.noise(factors.texture_seed + 1, 30, 20)
    draw_sky(c)
    c.only(c.time == NIGHT, draw_stars)
    draw_sun_or_moon(c, fine)
    draw_clouds(c)
    draw_ridge(c, 0, coarse, fine)
    draw_ridge(c, 1, coarse, fine)
    c.only(c.biome == SEA, draw_water)
    draw_ridge(c, 2, coarse, fine)
    c.only(c.house & (c.biome != SEA), draw_house)
    draw_trees(c)
    return c
