"""A map of the field: which part of a latent diffusion model which work changed."""

from ldm_tutorial.teach.svg import BLUE, GREEN, ORANGE, VIOLET, Sketch

YEARS = ("2022", "2023", "2024", "2025")
Work = tuple[str, ...]  # its name, and what it changed

# (part, what goes in and comes out, colour, the works of each year)
PARTS: list[tuple[str, str, str, list[list[Work]]]] = [
    (
        "codec",
        "x → z → x̂",
        BLUE,
        [
            [("LDM", "f = 8, C = 4")],
            [("SDXL", "larger batches")],
            [("SD 3", "C = 16"), ("DC-AE", "f = 32 to 128")],
            [
                ("SE, EQ-VAE", "half z is half x"),
                ("VA-VAE", "z near features"),
                ("RAE", "z = features"),
            ],
        ],
    ),
    (
        "objective",
        "z_t, target",
        ORANGE,
        [
            [("v", "and not ε alone")],
            [("flow matching", "z_t = (1−t) z_0 + t ε"), ("min-SNR", "weight of t")],
            [("SD 3", "t logit-normal,", "shifted")],
            [("REPA-E", "trains the encoder,", "by alignment")],
        ],
    ),
    (
        "denoiser",
        "z_t, t, y → ε, v, u",
        GREEN,
        [
            [("UNet", "attention to text")],
            [("DiT", "patches, adaLN-Zero")],
            [("MMDiT", "text and image in", "one attention")],
            [("REPA", "inner layers near", "features")],
        ],
    ),
    (
        "sampler",
        "z_T → z_0",
        VIOLET,
        [
            [("DPM-Solver++", "second order")],
            [("consistency", "one call")],
            [("Euler", "on shifted times")],
            [],
        ],
    ),
]


def field_map() -> Sketch:
    """A row for each part, a column for each year, a box for each work."""
    left, column, step = 122, 139, 60
    most = [max(len(works) for works in years) for *_, years in PARTS]
    sketch = Sketch(
        32 + sum(n * step + 16 for n in most),
        "What changed in latent diffusion, 2022 to 2025",
        "Four rows, the parts of a latent diffusion model, and four columns, the "
        "years. Each cell names the works that changed this part, and what they "
        "changed; the table below says it in words.",
    )
    for i, year in enumerate(YEARS):
        sketch.text(left + (i + 0.5) * column, 14, year, bold=True)
    y = 30
    for (part, symbols, colour, years), n in zip(PARTS, most, strict=True):
        height = n * step + 16
        sketch.arrow((0, y), (678, y), dim=True, head=False)
        sketch.text(2, y + height / 2 - 9, part, bold=True, anchor="start")
        sketch.text(2, y + height / 2 + 9, symbols, small=True, anchor="start")
        for i, works in enumerate(years):
            top = y + 8 + (n - len(works)) * step / 2
            for k, work in enumerate(works):
                place = left + i * column, top + k * step + 3
                sketch.box(*place, column - 5, step - 6, *work, colour=colour)
        y += height
    return sketch
