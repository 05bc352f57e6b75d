"""Exercises of chapter 4: operations, memory, and when compression pays.

The references count by hand; the tests hold them against the library's counters.
"""

from ldm_tutorial.cost import efficiency
from ldm_tutorial.teach.task import Case, Exercise


def conv_flops(in_channels: int, out_channels: int, side: int, kernel: int) -> int:
    """Operations of a convolution that puts out side x side positions; a
    multiply-add counts as two, the bias as none."""
    return 2 * kernel**2 * in_channels * out_channels * side**2


CONV_FLOPS = Exercise(
    name="conv_flops",
    chapter=4,
    minutes=4,
    title="the operations of a convolution",
    prompt=(
        "Count the floating-point operations of a convolution with windows of `kernel` "
        "× `kernel`, from `in_channels` to `out_channels`, that puts out `side` × "
        "`side` positions. A multiplication followed by an addition counts as two; "
        "leave the bias out."
    ),
    reference=conv_flops,
    cases=(
        Case(lambda: (1, 1, 1, 1), expected=2.0),
        Case(lambda: (3, 32, 64, 3), expected=7077888.0),
        Case(lambda: (128, 256, 16, 3), expected=150994944.0),
        Case(lambda: (64, 64, 8, 1), expected=524288.0),
    ),
    hints=(
        "One output value is a sum over a window of kernel² positions in all "
        "in_channels.",
        "There are out_channels of such values at each of side² positions, and every "
        "product is also added: a factor of 2.",
        "2 * kernel**2 * in_channels * out_channels * side**2",
    ),
    misconceptions={
        "multiply-adds": (
            lambda i, o, s, k: k**2 * i * o * s**2,
            "these are multiply-adds; each of them counts as two operations",
        ),
        "parameters": (
            lambda i, o, s, k: k**2 * i * o,
            "this is the number of parameters; each of them works at every position",
        ),
        "side not squared": (
            lambda i, o, s, k: 2 * k**2 * i * o * s,
            "there are side² positions, not side",
        ),
        "kernel not squared": (
            lambda i, o, s, k: 2 * k * i * o * s**2,
            "the window has kernel² places, not kernel",
        ),
        "input channels forgotten": (
            lambda i, o, s, k: 2 * k**2 * o * s**2,
            "every output value sums over all in_channels",
        ),
        "output channels forgotten": (
            lambda i, o, s, k: 2 * k**2 * i * s**2,
            "the count is of one output channel; there are out_channels of them",
        ),
        "channels added": (
            lambda i, o, s, k: 2 * k**2 * (i + o) * s**2,
            "the channels were added; every output channel looks at every input "
            "channel",
        ),
        "windows of 3": (
            lambda i, o, s, k: 2 * 9 * i * o * s**2,
            "9 is the window of a kernel of 3; the kernel is an argument",
        ),
        "bias counted": (
            lambda i, o, s, k: 2 * k**2 * i * o * s**2 + o * s**2,
            "the bias was counted; leave it out",
        ),
        "one addition less": (
            lambda i, o, s, k: (2 * k**2 * i - 1) * o * s**2,
            "n products need only n - 1 additions, but by custom every product counts "
            "with one",
        ),
        "kernel forgotten": (
            lambda i, o, s, k: 2 * i * o * s**2,
            "the window is forgotten: kernel² products for each pair of channels",
        ),
    },
    source=(conv_flops,),
)


def attention_flops(channels: int, positions: int) -> int:
    """Operations of self-attention: four linear maps, the comparison of all pairs and
    the weighted average."""
    return 8 * positions * channels**2 + 4 * positions**2 * channels


ATTENTION_FLOPS = Exercise(
    name="attention_flops",
    chapter=4,
    minutes=6,
    title="the operations of attention",
    prompt=(
        "Count the operations of self-attention over `positions` vectors of `channels` "
        "numbers: four linear maps (queries, keys, values, output) from `channels` to "
        "`channels`, the scalar products of all pairs of positions, and the weighted "
        "averages of the values. The softmax and the biases are left out."
    ),
    reference=attention_flops,
    lines="1-3 lines",
    cases=(
        Case(lambda: (1, 1), expected=12.0),
        Case(lambda: (64, 64), expected=3145728.0),
        Case(lambda: (64, 256), expected=25165824.0),
        Case(lambda: (32, 4096)),
    ),
    hints=(
        "A linear map from C to C numbers costs 2 C² operations at each position. "
        "There are four.",
        "Every position meets every other: N² scalar products of C numbers each, 2 C "
        "operations.",
        "The averages cost the same again: 8 * N * C**2 + 4 * N**2 * C.",
    ),
    misconceptions={
        "multiply-adds": (
            lambda C, N: 4 * N * C**2 + 2 * N**2 * C,
            "these are multiply-adds; each of them counts as two operations",
        ),
        "linear maps alone": (
            lambda C, N: 8 * N * C**2,
            "only the linear maps are counted; comparing all pairs is what grows with "
            "the square",
        ),
        "pairs alone": (
            lambda C, N: 4 * N**2 * C,
            "the four linear maps are missing",
        ),
        "three maps": (
            lambda C, N: 6 * N * C**2 + 4 * N**2 * C,
            "only three linear maps are counted; the output has one too",
        ),
        "one map": (
            lambda C, N: 2 * N * C**2 + 4 * N**2 * C,
            "only one linear map is counted; there are four",
        ),
        "averages forgotten": (
            lambda C, N: 8 * N * C**2 + 2 * N**2 * C,
            "the weighted averages of the values are missing; they cost as much as the "
            "comparisons",
        ),
        "roles exchanged": (
            lambda C, N: 8 * C * N**2 + 4 * C**2 * N,
            "channels and positions are exchanged",
        ),
        "linear in positions": (
            lambda C, N: 8 * N * C**2 + 4 * N * C,
            "the comparisons are of all pairs: the positions have to be squared there",
        ),
    },
    source=(attention_flops,),
)


def activation_bytes(
    batch: int, channels: int, side: int, layers: int, bytes_per_value: int
) -> int:
    """What a plain chain of convolutions keeps for its backward pass: the input of
    each, (batch, channels, side, side)."""
    return batch * channels * side**2 * layers * bytes_per_value


ACTIVATIONS = Exercise(
    name="activations",
    chapter=4,
    minutes=3,
    title="what training keeps in memory",
    prompt=(
        "For its backward pass a convolution keeps its input. How many bytes does a "
        "chain of `layers` convolutions keep, each with an input of shape (`batch`, "
        "`channels`, `side`, `side`) and `bytes_per_value` bytes a number?"
    ),
    reference=activation_bytes,
    cases=(
        Case(lambda: (1, 1, 1, 1, 4), expected=4.0),
        Case(lambda: (16, 64, 64, 10, 4), expected=167772160.0),
        Case(lambda: (16, 64, 8, 10, 2), expected=1310720.0),
    ),
    hints=(
        "Count the numbers in one input first.",
        "batch · channels · side² numbers, for each of the layers.",
        "batch * channels * side**2 * layers * bytes_per_value",
    ),
    misconceptions={
        "side not squared": (
            lambda b, c, s, n, k: b * c * s * n * k,
            "an input has side² positions, not side",
        ),
        "values": (
            lambda b, c, s, n, k: b * c * s**2 * n,
            "these are numbers; each takes bytes_per_value bytes",
        ),
        "bits": (
            lambda b, c, s, n, k: 8 * b * c * s**2 * n * k,
            "these are bits; bytes are asked for",
        ),
        "batch forgotten": (
            lambda b, c, s, n, k: c * s**2 * n * k,
            "the batch is forgotten: every image has activations of its own",
        ),
        "one layer": (
            lambda b, c, s, n, k: b * c * s**2 * k,
            "this is one layer; the inputs of all layers are kept at once",
        ),
        "one more": (
            lambda b, c, s, n, k: b * c * s**2 * (n + 1) * k,
            "one array too many: the output of the last layer is not the input of any",
        ),
        "one less": (
            lambda b, c, s, n, k: b * c * s**2 * (n - 1) * k,
            "one array is missing: every layer keeps its input, the first one too",
        ),
        "parameters": (
            lambda b, c, s, n, k: 9 * c**2 * n * k,
            "these are the parameters of 3×3 convolutions; activations depend on the "
            "batch and the side",
        ),
    },
    source=(activation_bytes, efficiency.activation_bytes),
)


def break_even(
    autoencoder: float, encode: float, images: int, pixel: float, latent: float
) -> float:
    """Training images after which the latent model has paid for its autoencoder."""
    return (autoencoder + encode * images) / (pixel - latent)


BREAK_EVEN = Exercise(
    name="break_even",
    chapter=4,
    minutes=8,
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
        "(autoencoder + encode * images) / (pixel - latent)",
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
    },
    source=(break_even,),
)


def sampling_speedup(steps: int, pixel: float, latent: float, decode: float) -> float:
    """How many times faster a sample is in latent space, decoding included."""
    return steps * pixel / (steps * latent + decode)


SPEEDUP = Exercise(
    name="speedup",
    chapter=4,
    minutes=5,
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
        "steps * pixel / (steps * latent + decode)",
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
    },
    source=(sampling_speedup,),
)


def amdahl(decode_share: float, factor: float) -> float:
    """Speed-up of a whole sample if all but the decoder is ``factor`` times faster."""
    return 1 / (decode_share + (1 - decode_share) / factor)


AMDAHL = Exercise(
    name="amdahl",
    chapter=4,
    minutes=6,
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
        "1 / (decode_share + (1 - decode_share) / factor)",
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
        "limit": (
            lambda p, s: 1 / p,
            "this is the limit for an infinite factor",
        ),
        "rest forgotten": (
            lambda p, s: 1 / (p + 1 / s),
            "the rest is 1 - decode_share of the time, not all of it",
        ),
    },
    source=(amdahl,),
)

EXERCISES = (
    CONV_FLOPS,
    ATTENTION_FLOPS,
    ACTIVATIONS,
    BREAK_EVEN,
    SPEEDUP,
    AMDAHL,
)
