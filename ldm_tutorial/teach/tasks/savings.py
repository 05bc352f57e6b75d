"""Exercises on when compression pays, and how much."""

from ldm_tutorial.teach.task import Case, Exercise


def break_even(
    autoencoder: float, encode: float, images: int, pixel: float, latent: float
) -> float:
    """Training images after which the latent model has paid for its autoencoder."""
    return (autoencoder + encode * images) / (pixel - latent)


BREAK_EVEN = Exercise(
    name="break_even",
    chapter=5,
    difficulty=2,
    trains="an investment, and when it has paid for itself",
    title="when the autoencoder has paid for itself",
    prompt=(
        "Training costs `pixel` seconds an image on pixels and `latent` seconds on "
        "latents. But the latent model first pays for its `autoencoder`, in seconds, "
        "and encodes each of `images` different images once, at `encode` seconds each. "
        "After how many training images, repetitions counted, have both spent the "
        "same? The number need not be whole."
    ),
    reference=break_even,
    cases=(
        Case(lambda: (100.0, 0.5, 200, 3.0, 1.0), expected=100.0),
        Case(lambda: (3600.0, 0.0, 1000, 0.02, 0.002), expected=200000.0, rtol=1e-3),
        Case(lambda: (7.0, 0.01, 100, 0.5, 0.2)),
    ),
    hints=(
        "Write down what each has spent after N images: one is a line through zero, "
        "the other starts higher and rises more slowly.",
        "pixel · N = autoencoder + encode · images + latent · N. Solve for N.",
        "Bring what depends on N to one side. What multiplies N is what a single "
        "image wins back.",
    ),
    misconceptions={
        "saving forgotten": (
            lambda E, e, D, x, z: (E + e * D) / x,
            "divided by the whole cost on pixels; what an image wins back is the "
            "difference, pixel - latent",
        ),
        "divided by latent": (
            lambda E, e, D, x, z: (E + e * D) / z,
            "divided by the cost of a latent step; what an image wins back is the "
            "difference, pixel - latent",
        ),
        "encoding forgotten": (
            lambda E, e, D, x, z: E / (x - z),
            "the bill for encoding the images is missing",
        ),
        "encoding in every step": (
            lambda E, e, D, x, z: E / (x - z - e),
            "this encodes every image in every step; each is encoded once",
        ),
        "autoencoder for each image": (
            lambda E, e, D, x, z: (E + e) * D / (x - z),
            "the autoencoder was paid for with every image; it is trained once",
        ),
        "encoding once in all": (
            lambda E, e, D, x, z: (E + e) / (x - z),
            "this encodes a single image; there are `images` of them",
        ),
        "difference turned": (
            lambda E, e, D, x, z: (E + e * D) / (z - x),
            "the difference is turned: the cost on pixels is the larger one",
        ),
        "autoencoder forgotten": (
            lambda E, e, D, x, z: e * D / (x - z),
            "the training of the autoencoder, the largest bill, is missing",
        ),
        "brackets missing": (
            lambda E, e, D, x, z: E + e * D / (x - z),
            "only the encoding was divided: brackets are missing",
        ),
        "ratio": (
            lambda E, e, D, x, z: (E + e * D) * x / z,
            "the costs were divided by one another; break-even asks for their "
            "difference",
        ),
        "multiplied": (
            lambda E, e, D, x, z: (E + e * D) * (x - z),
            "the bill was multiplied by what an image wins back; divide",
        ),
        "sum of costs": (
            lambda E, e, D, x, z: (E + e * D) / (x + z),
            "the costs of an image were added; what an image wins back is their "
            "difference",
        ),
    },
    source=(break_even,),
)


def sampling_speedup(steps: int, pixel: float, latent: float, decode: float) -> float:
    """How many times faster a sample is in latent space, decoding included."""
    return steps * pixel / (steps * latent + decode)


SPEEDUP = Exercise(
    name="speedup",
    chapter=5,
    difficulty=1,
    trains="a ratio of times with a fixed cost in it",
    title="the speed-up of sampling, decoder included",
    prompt=(
        "A sample takes `steps` calls of the network, `pixel` seconds each on pixels "
        "and `latent` on latents; the latent model decodes once at the end, in "
        "`decode` seconds. How many times faster is it?"
    ),
    reference=sampling_speedup,
    cases=(
        Case(lambda: (10, 8.0, 1.0, 0.0), expected=8.0),
        Case(lambda: (10, 8.0, 1.0, 6.0), expected=5.0),
        Case(lambda: (1, 8.0, 1.0, 7.0), expected=1.0),
        Case(lambda: (50, 0.03, 0.0021, 0.023)),
    ),
    hints=(
        "Add up the time of one sample on each side.",
        "On pixels steps · pixel, on latents steps · latent + decode.",
        "How many times faster is the first time over the second.",
    ),
    misconceptions={
        "decoder forgotten": (
            lambda n, x, z, d: x / z,
            "the decoder is forgotten: with few steps it takes a good part of the time",
        ),
        "decoded in every step": (
            lambda n, x, z, d: x / (z + d),
            "this decodes in every step; it is done once, at the end",
        ),
        "upside down": (
            lambda n, x, z, d: (n * z + d) / (n * x),
            "the fraction is upside down: this is the share of the time that is left",
        ),
        "time saved": (
            lambda n, x, z, d: n * x - n * z - d,
            "this is the time that is saved; a speed-up is a ratio",
        ),
        "share saved": (
            lambda n, x, z, d: 1 - (n * z + d) / (n * x),
            "this is the share of the time that is saved; a speed-up is a ratio",
        ),
        "decoder on both sides": (
            lambda n, x, z, d: (n * x + d) / (n * z + d),
            "the pixel model has no decoder to run",
        ),
        "decoder subtracted": (
            lambda n, x, z, d: x / z - d,
            "the decoder's time was subtracted from a ratio; add it to the latent side",
        ),
        "steps below missing": (
            lambda n, x, z, d: n * x / (z + d),
            "the latent model, too, takes `steps` calls: the factor is missing below",
        ),
    },
    source=(sampling_speedup,),
)


def amdahl(decode_share: float, factor: float) -> float:
    """Speed-up of a whole sample if all but the decoder is ``factor`` times faster."""
    return 1 / (decode_share + (1 - decode_share) / factor)


AMDAHL = Exercise(
    name="amdahl",
    chapter=5,
    difficulty=2,
    trains="what a faster part is worth to the whole",
    title="what a faster sampler is worth",
    prompt=(
        "The decoder takes the share `decode_share` of the time of a latent sample. "
        "Somebody makes the rest, the steps of the denoiser, `factor` times faster. "
        "How many times faster is the whole sample? (Amdahl's law: however large the "
        "factor, it stays below 1 / `decode_share`.)"
    ),
    reference=amdahl,
    cases=(
        Case(lambda: (0.5, 3.0), expected=1.5),
        Case(lambda: (1.0, 5.0), expected=1.0),
        Case(lambda: (0.5, 2.0), expected=4 / 3),
        Case(lambda: (0.2, 10.0)),
    ),
    properties=(
        (
            "With a factor of a million the speed-up should be all but 1 / "
            "decode_share.",
            lambda f: abs(f(0.25, 1e6) - 4) < 1e-3,
        ),
    ),
    hints=(
        "Let the sample take one unit of time: decode_share of it for the decoder and "
        "1 - decode_share for the steps.",
        "Afterwards it takes decode_share + (1 - decode_share) / factor.",
        "The speed-up is the time before over the time afterwards, and the time "
        "before was one.",
    ),
    misconceptions={
        "decoder faster": (
            lambda p, s: 1 / (p / s + 1 - p),
            "the decoder was made faster; it is the rest that is",
        ),
        "time left": (
            lambda p, s: p + (1 - p) / s,
            "this is the share of the time that is left; the speed-up is one over it",
        ),
        "average of factors": (
            lambda p, s: p + (1 - p) * s,
            "the factors were averaged; times add up, factors do not",
        ),
        "decoder forgotten": (
            lambda p, s: s,
            "the decoder is forgotten: it takes as long as before",
        ),
        "share of the factor": (
            lambda p, s: (1 - p) * s,
            "a share of the factor is no speed-up: add up the times that are left, "
            "and take one over their sum",
        ),
        "limit": (
            lambda p, s: 1 / p,
            "this is the limit for an infinite factor",
        ),
        "rest forgotten": (
            lambda p, s: 1 / (p + 1 / s),
            "the rest is 1 - decode_share of the time, not all of it",
        ),
        "brackets missing": (
            lambda p, s: 1 / p + (1 - p) / s,
            "brackets are missing: one over the whole sum, not over the first term",
        ),
        "share saved": (
            lambda p, s: (1 - p) * (1 - 1 / s),
            "this is the share of the time that is saved; a speed-up is a ratio",
        ),
        "one more": (
            lambda p, s: 1 / (p + (1 - p) / (s + 1)),
            "`factor` times faster is divided by factor, not by factor + 1",
        ),
    },
    source=(amdahl,),
)
