"""The diagrams of the book, drawn from the configurations of the models they show."""

from itertools import pairwise

from ldm_tutorial.teach.svg import BLUE, GREEN, ORANGE, RED, VIOLET, YELLOW, Sketch
from ldm_tutorial.unet import UNetConfig
from ldm_tutorial.vae_config import VAEConfig

# What a chapter is about: parts of the pipeline, and what is done with them.
HERE: dict[int, tuple[tuple[str, ...], str]] = {
    1: (("x", "encoder", "z", "decoder", "out"), "the autoencoder"),
    2: (("encoder", "z"), "the shape of the latent space"),
    3: (("noise", "z_t", "unet", "eps", "z_T", "sampler", "z_0"), "diffusion"),
    4: (("out", "judge"), "which samples are good, and which model to choose"),
    5: (("encoder", "unet", "sampler", "decoder"), "what each part costs"),
    6: (("encoder", "z_t", "unet", "sampler"), "what has changed since"),
}


def pipeline(chapter: int | None = None) -> Sketch:
    """Training above, sampling below, with the shapes that pass along.

    Args:
        chapter: 1 to 6, whose parts are set off; None for all alike.

    Raises:
        ValueError: for a chapter that is none.
    """
    if chapter is not None and chapter not in HERE:
        raise ValueError(
            f"chapter {chapter!r} is not on the map; choose from {[*HERE]}"
        )
    here, about = ((), "") if chapter is None else HERE[chapter]
    title = f"You are here: {about}" if here else "Latent diffusion"
    sketch = Sketch(
        236 + 22 * bool(here),
        title,
        "Training: an image of 3×64×64 values goes through the encoder to a latent of "
        "4×8×8, gets noise, and the UNet predicts the noise. Sampling: from noise of "
        "4×8×8 the sampler asks the UNet many times, and the decoder turns the latent "
        "into an image, which is judged.",
    )
    down = 22 if here else 0
    if here:
        sketch.text(8, 12, title, bold=True, anchor="start")

    def part(name, x, y, w, *lines, colour=None):
        active = name in here
        dim = bool(here) and not active
        sketch.box(x, y, w, 52, *lines, colour=colour, dim=dim, strong=active)

    def flow(y, *places):
        for a, b in pairwise(places):
            sketch.arrow((a[1] + 2, y), (b[0] - 2, y), dim=bool(here))

    y = 30 + down
    sketch.text(8, y - 15, "training", small=True, anchor="start", dim=True)
    part("x", 8, y, 76, "image x", "3×64×64")
    part("encoder", 104, y, 84, "encoder", "frozen", colour=BLUE)
    part("z", 208, y, 76, "latent z", "4×8×8", colour=GREEN)
    part("noise", 304, y, 76, "+ noise", "time t", colour=YELLOW)
    part("z_t", 400, y, 76, "zₜ", "4×8×8", colour=GREEN)
    part("unet", 496, y, 76, "UNet", "t, class y", colour=ORANGE)
    part("eps", 592, y, 80, "guess", "of the noise")
    places = [(8, 84), (104, 188), (208, 284), (304, 380), (400, 476), (496, 572)]
    flow(y + 26, *places, (592, 672))
    y = 150 + down
    sketch.text(8, y - 15, "sampling", small=True, anchor="start", dim=True)
    part("z_T", 8, y, 76, "noise", "4×8×8", colour=YELLOW)
    part(
        "sampler", 104, y, 180, "sampler", "asks the UNet 10 to 50 times", colour=ORANGE
    )
    part("z_0", 304, y, 76, "latent z₀", "4×8×8", colour=GREEN)
    part("decoder", 400, y, 76, "decoder", "once", colour=BLUE)
    part("out", 496, y, 76, "image", "3×64×64")
    part("judge", 592, y, 80, "judge", "good?", colour=VIOLET)
    flow(y + 26, (8, 84), (104, 284), (304, 380), (400, 476), (496, 572), (592, 672))
    sketch.arrow((534, 84 + down), (534, 116 + down), (194, 116 + down),
                 (194, 148 + down), dashed=True, dim=bool(here))  # fmt: skip
    return sketch


def autoencoder(config: VAEConfig | None = None, side: int = 64) -> Sketch:
    """Encoder and decoder: one block for each resolution, as high as its side."""
    config = config or VAEConfig()

    def half(patch):
        sides = [(side, config.in_channels, "image")]
        for level in config.levels(patch):
            s = side >> level
            sides.append((s, config.width(level), "blocks"))
        return sides

    down = half(config.encoder_patch)
    latent = (down[-1][0], config.latent_channels, "latent")
    up = half(config.decoder_patch)[::-1]
    stages = [*down, latent, *up]
    told = ", ".join(f"{c}×{s}×{s}" for s, c, _ in stages)
    sketch = Sketch(
        196,
        "The autoencoder by resolution",
        f"From the image to the latent and back, channels×height×width: {told}.",
    )
    width = 56
    gap = min(24, (664 - len(stages) * width) / (len(stages) - 1))
    left = (680 - len(stages) * (width + gap) + gap) / 2
    for i, (s, channels, kind) in enumerate(stages):
        x, high = left + i * (width + gap), 24 + 86 * (s / side)
        colour = {"image": None, "blocks": BLUE, "latent": GREEN}[kind]
        sketch.box(x, 84 - high / 2, width, high, kind if s == side else f"{s}×{s}",
                   colour=colour, strong=kind == "latent")  # fmt: skip
        sketch.text(x + width / 2, 146, f"{channels}×{s}×{s}", small=True)
        if i:
            sketch.arrow((x - gap + 1, 84), (x - 1, 84))
    middle = left + len(down) * (width + gap) + width / 2
    sketch.text(middle, 166, "the latent z", bold=True)
    folded = f"patches of {config.encoder_patch} fold into channels"
    sketch.text(left, 186, f"encoder: {folded}", small=True, anchor="start")
    back = f"patches of {config.decoder_patch} unfold"
    sketch.text(680 - left, 186, f"decoder: {back}", small=True, anchor="end")
    return sketch


def unet(config: UNetConfig | None = None, side: int = 8) -> Sketch:
    """The way down, the middle, the way up, and the skips across."""
    config = config or UNetConfig(channels=(96, 128), num_res_blocks=1, num_classes=16)
    levels = list(enumerate(config.channels))
    attention = set(config.attention_levels)
    shapes = [f"{c}×{side >> i}×{side >> i}" for i, c in levels]
    sketch = Sketch(
        120 + 84 * len(levels),
        "The UNet",
        f"On the way down the shapes are {', then '.join(shapes)}; the way up returns "
        f"to {shapes[0]}. What each block of the way down puts out is laid beside the "
        "input of one on the way up, at the same resolution. Time and class become one "
        "vector, which scales and shifts the features of every residual block.",
    )
    p = config.patch_size
    C = config.in_channels
    whole = f"{C}×{side * p}×{side * p}"
    step = min(56, 112 / max(1, len(levels) - 1))

    def content(level):
        return "ResBlock" + (" + attention" if level in attention else "")

    w, bottom = 164, 56 + 84 * len(levels)
    for i, c in levels:
        y, x = 52 + 84 * i, 84 + i * step
        shape = f"{c}×{side >> i}×{side >> i}"
        sketch.box(x, y, w, 46, content(i), shape, colour=BLUE)
        sketch.box(680 - x - w, y, w, 46, content(i), shape, colour=BLUE)
        sketch.arrow((x + w + 3, y + 23), (680 - x - w - 3, y + 23), dashed=True)
        sketch.text(340, y + 12, "skip", small=True, dim=True)
        if i:
            above = 84 + (i - 1) * step + w / 2
            sketch.arrow((above, y - 38), (above, y - 2))
            sketch.text(above - 6, y - 19, "halve", small=True, anchor="end")
            sketch.arrow((680 - above, y - 2), (680 - above, y - 36))
            sketch.text(680 - above + 6, y - 19, "double", small=True, anchor="start")
    x = 84 + len(levels[1:]) * step
    sketch.box(340 - w / 2, bottom, w, 46, content(len(levels) - 1), "middle",
               colour=ORANGE)  # fmt: skip
    sketch.arrow((x + w / 2, bottom - 40), (x + w / 2, bottom + 23),
                 (340 - w / 2 - 3, bottom + 23))  # fmt: skip
    sketch.arrow((340 + w / 2, bottom + 23), (680 - x - w / 2, bottom + 23),
                 (680 - x - w / 2, bottom - 38))  # fmt: skip
    sketch.arrow((42, 75), (81, 75))
    sketch.text(38, 58, "zₜ", bold=True)
    sketch.text(38, 92, whole, small=True)
    sketch.arrow((599, 75), (636, 75))
    sketch.text(640, 58, "guess", bold=True)
    sketch.text(640, 92, whole, small=True)
    said = "time t → waves → 2 linear layers" + (
        "   +   class y → a row of a table" if config.num_classes else ""
    )
    sketch.box(84, 4, 512, 26, said, colour=YELLOW)
    sketch.text(340, 40, "scale and shift in every ResBlock", small=True, dim=True)
    return sketch


def chain() -> Sketch:
    """The forward process and the walk back."""
    sketch = Sketch(
        150,
        "The chain forward and back",
        "From z₀ on the left to pure noise z_T on the right, q adds a little noise in "
        "each step. Back from right to left goes p, which has to guess z₀ from zₜ. An "
        "arc jumps from z₀ to zₜ at once.",
    )
    names = ["z₀", "…", "zₜ₋₁", "zₜ", "…", "z_T"]
    for i, name in enumerate(names):
        x = 24 + 112 * i
        if name == "…":
            sketch.text(x + 36, 82, name)
        else:
            sketch.box(x, 60, 72, 44, name, colour=GREEN if i < 5 else YELLOW)
        if i:
            sketch.arrow((x - 38, 74), (x - 2, 74))
            sketch.arrow((x - 2, 92), (x - 38, 92), colour=ORANGE, thick=True)
    sketch.arrow((60, 57), (60, 30), (396, 30), (396, 57), dashed=True)
    sketch.text(228, 18, "one jump: q(zₜ | z₀)", small=True)
    sketch.text(340, 122, "forward, →: q(zₜ | zₜ₋₁) shrinks and adds noise; "
                "nothing is learned", small=True)  # fmt: skip
    sketch.text(340, 140, "back, ←: p(zₜ₋₁ | zₜ) needs a guess of z₀; the network "
                "learns it", small=True, colour=ORANGE)  # fmt: skip
    return sketch


def gradients() -> Sketch:
    """How far the gradient of the diffusion loss goes: frozen, detached, joint."""
    sketch = Sketch(
        226,
        "Three ways of training",
        "Frozen: the gradient of the diffusion loss reaches the UNet only, and the "
        "autoencoder does not learn. Detached: the autoencoder learns from its own "
        "loss, and the diffusion loss stops at z. Joint: the diffusion loss goes "
        "through z into the encoder.",
    )
    rows = (("frozen", RED, None), ("detached", RED, BLUE), ("joint", ORANGE, BLUE))
    for i, (name, stop, own) in enumerate(rows):
        y = 12 + 72 * i
        sketch.text(8, y + 22, name, bold=True, anchor="start")
        for x, w, words, colour in (
            (84, 40, "x", None),
            (150, 84, "encoder", BLUE if own else None),
            (262, 44, "z", GREEN),
            (334, 44, "zₜ", GREEN),
            (406, 72, "UNet", ORANGE),
            (508, 164, "diffusion loss", None),
        ):
            sketch.box(x, y + 4, w, 34, words, colour=colour)
        for a, b in ((124, 150), (234, 262), (306, 334), (378, 406), (478, 508)):
            sketch.arrow((a + 1, y + 15), (b - 1, y + 15))
        sketch.arrow((508, y + 50), (410, y + 50), colour=ORANGE, thick=True)
        if name == "joint":
            sketch.arrow((410, y + 50), (152, y + 50), colour=ORANGE, thick=True)
        else:
            sketch.arrow((410, y + 50), (320, y + 50), colour=ORANGE, head=False)
            sketch.cross(312, y + 50, stop)
        if own:
            place = 62 if name == "joint" else 50
            sketch.arrow((84, y + place), (230, y + place), colour=BLUE, thick=True)
            sketch.text(80, y + place, "its own loss", small=True, anchor="end",
                        colour=BLUE)  # fmt: skip
        sketch.text(514, y + 52, "its gradient", small=True, anchor="start",
                    colour=ORANGE)  # fmt: skip
    return sketch


def scale() -> Sketch:
    """What changes from the model of the course to the size of Stable Diffusion 1.

    Sizes after Rombach et al. 2022 (arXiv:2112.10752) and the published configuration
    of Stable Diffusion 1: 4×64×64 latents of images of 512 pixels, UNet of four levels.
    """
    sketch = Sketch(
        232,
        "From this course to Stable Diffusion 1",
        "What stays: the latent of four channels at an eighth of the side, the loss, "
        "the samplers, guidance. What changes: images of 512 instead of 64 pixels, "
        "latents of 64 instead of 8 positions a side, four levels of the UNet instead "
        "of two, widths from 320 to 1280 instead of 96 and 128, and a text, read by "
        "cross-attention, instead of a class.",
    )
    rows = (
        ("", "this course", "Stable Diffusion 1"),
        ("image", "3×64×64", "3×512×512"),
        ("latent, f = 8", "4×8×8", "4×64×64"),
        ("UNet levels", "2: 96, 128 channels", "4: 320, 640, 1280, 1280"),
        ("asked for by", "one of 16 classes", "a text, by cross-attention"),
        ("forward process", "linear β, 1000 times", "scaled linear β, 1000 times"),
        ("objective", "noise, squared error", "noise, squared error"),
    )
    for i, (what, ours, theirs) in enumerate(rows):
        y = 8 + 32 * i
        same = ours == theirs
        if i:
            sketch.text(140, y + 14, what, small=True, anchor="end", dim=True)
        else:
            sketch.text(263, y + 14, ours, bold=True)
            sketch.text(549, y + 14, theirs, bold=True)
            continue
        sketch.box(156, y, 214, 27, ours, colour=BLUE)
        sketch.box(442, y, 214, 27, theirs, colour=BLUE if same else ORANGE)
        if same:
            sketch.text(406, y + 14, "=", bold=True)
        else:
            sketch.arrow((374, y + 14), (438, y + 14))
    return sketch
