"""The exercise on reading the log of a training."""

from torch import Tensor

from ldm_tutorial.teach.small_runs import curves
from ldm_tutorial.teach.task import Case, Exercise

# How each of them shows in a log.
SIGNS = {
    "healthy": "the diffusion loss falls and stays down, the KL says that latents hold "
    "something, and their spread stays what it was",
    "collapsed": "the KL is next to nothing: the latents are noise and hold no image; "
    "noise is easy to denoise, so the diffusion loss looks as good as any",
    "rate too high": "the diffusion loss leaps up and does not come to rest below 1, "
    "which is what a guess of zero costs",
    "wrong reason": "the diffusion loss falls the furthest of all, and the spread of "
    "the latents falls with it: they have become easy, not the denoiser good",
}


def read_curves(log: dict[str, Tensor]) -> str:
    """What became of a training, from its curves."""
    loss, spread = log["diffusion"], log["latent_std"]
    if log["kl"][-5:].mean() < 0.1:
        return "collapsed"
    if loss[5:].max() > 2:
        return "rate too high"
    if spread[-5:].mean() < 0.6 * spread[:3].mean():
        return "wrong reason"
    return "healthy"


def unseen(way: str, seed: int) -> Case:
    return Case(
        lambda: ({name: curve.clone() for name, curve in curves(way, seed).items()},),
        expected=way,
        note=f"the log of a training you have not seen ({seed})",
        reasons={other: SIGNS[way] for other in SIGNS if other != way},
    )


def reads_only(name: str):
    """A reader who looks at the diffusion loss alone."""

    def f(log):
        if log["diffusion"][5:].max() > 2:
            return "rate too high"
        return name

    return f


def taken_for(way: str, instead: str):
    def f(log):
        found = read_curves(log)
        return instead if found == way else found

    return f


READ_CURVES = Exercise(
    name="read_curves",
    chapter=4,
    difficulty=3,
    trains="reading a log: which curve may be believed, and which one gives it the lie",
    title="what became of a training",
    prompt=(
        "`log` holds the curves of a training, tensors of 25 values each, every fourth "
        'step: `log["diffusion"]`, the loss of the denoiser; `log["kl"]`, in nats per '
        'latent element; `log["latent_std"]`, the spread of what the denoiser is '
        'trained on; `log["reconstruction"]`, the error of the autoencoder. Study the '
        "four runs above, decide what became of each, and write the rules by which you "
        'told: return `"healthy"`, `"collapsed"` (the latents hold nothing), `"rate '
        'too high"`, or `"wrong reason"` (the loss falls because the latents become '
        "easy). You are judged on runs that you have not seen; numbers wander, so ask "
        "for clear differences only."
    ),
    reference=read_curves,
    lines="7-9 lines",
    cases=tuple(unseen(way, seed) for seed in (2, 3) for way in SIGNS),
    hints=(
        "Begin with what cannot be healthy whatever the others say: a loss that leaps, "
        "a KL of next to nothing. One `if` each.",
        "The lowest diffusion loss of the four is no good sign. Which other curve "
        "moves together with it?",
        "Compare means, not single values: log[...][-5:].mean() for the end, [:3] for "
        "the beginning. Whatever none of your three rules catches is healthy.",
    ),
    misconceptions={
        "loss believed": (
            reads_only("healthy"),
            "only the diffusion loss was read, and it falls in three of the four; "
            "the KL and the spread of the latents tell them apart",
        ),
        "wrong reason not seen": (
            taken_for("wrong reason", "healthy"),
            "a loss that falls while the spread of the latents falls, too, was taken "
            "for a good one",
        ),
        "collapse not seen": (
            taken_for("collapsed", "healthy"),
            "a KL of next to nothing was overlooked: such latents hold no image",
        ),
        "rate not seen": (
            taken_for("rate too high", "healthy"),
            "a loss that leaps up was taken for a healthy one",
        ),
    },
)
