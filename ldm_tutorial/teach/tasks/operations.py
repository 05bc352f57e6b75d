"""Exercises on operations and memory.

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
    chapter=5,
    difficulty=1,
    trains="counting before measuring",
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
        "Multiply: the window, both numbers of channels, the positions, and the "
        "factor of 2. Which of them are squared?",
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
        "window and places added": (
            lambda i, o, s, k: 2 * (k**2 + s**2) * i * o,
            "the window and the positions were added; the window is gone through at "
            "every position",
        ),
        "input side": (
            lambda i, o, s, k: 2 * k**2 * i * o * (s - k + 1) ** 2,
            "the kernel was taken off the side; side² is the number of positions that "
            "come out",
        ),
        "window and side not squared": (
            lambda i, o, s, k: 2 * k * i * o * s,
            "window and positions are squares: kernel² and side²",
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
    chapter=5,
    difficulty=2,
    trains="which part of a count grows with the square",
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
        "The averages of the values cost the same again. Add up the three parts.",
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
        "pairs twice": (
            lambda C, N: 8 * N * C**2 + 8 * N**2 * C,
            "the pairs count twice as much as they should: 2 C operations for each "
            "scalar product, and as many for the averages",
        ),
        "channels missing": (
            lambda C, N: 8 * N * C**2 + 4 * N**2,
            "a scalar product of two vectors has C products, not one",
        ),
        "maps at one position": (
            lambda C, N: 8 * C**2 + 4 * N**2 * C,
            "the linear maps were counted at a single position; every position has "
            "them",
        ),
        "maps linear": (
            lambda C, N: 8 * N * C + 4 * N**2 * C,
            "a linear map from C to C numbers has C² products, not C",
        ),
        "multiply-adds in the maps": (
            lambda C, N: 4 * N * C**2 + 4 * N**2 * C,
            "the linear maps are counted in multiply-adds; each of them counts as two "
            "operations",
        ),
        "maps twice": (
            lambda C, N: 16 * N * C**2 + 4 * N**2 * C,
            "the linear maps count twice as much as they should",
        ),
        "softmax counted": (
            lambda C, N: 8 * N * C**2 + 4 * N**2 * C + 3 * N**2,
            "the softmax was counted; leave it out",
        ),
        "biases counted": (
            lambda C, N: 8 * N * C**2 + 4 * N**2 * C + 4 * N * C,
            "the biases were counted; leave them out",
        ),
        "half of the pairs": (
            lambda C, N: 8 * N * C**2 + 2 * N * (N - 1) * C,
            "pairs were counted once; each position looks at every one, itself "
            "included: N²",
        ),
        "parts multiplied": (
            lambda C, N: 8 * N * C**2 * 4 * N**2 * C,
            "the parts were multiplied; they come one after the other and add up",
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
    chapter=5,
    difficulty=1,
    trains="what training keeps in memory, counted",
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
        "Multiply the count by the number of layers and by the bytes of a number.",
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
        "parameters added": (
            lambda b, c, s, n, k: (b * c * s**2 + 9 * c**2) * n * k,
            "the weights were added; only the inputs that are kept are asked for",
        ),
    },
    source=(activation_bytes, efficiency.activation_bytes),
)
