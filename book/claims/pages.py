"""What the opening page and the README say of the shipped models."""

from claims.claim import Claim, Row

# All runs that made ldm-f8-sharp, in order, with what a loss needs.
CHAIN = (
    "vae-f8",
    "scenenet",
    "vae-f8-perceptual-start",
    "vae-f8-perceptual",
    "vae-f8-sharp-start",
    "vae-f8-sharp",
    "ldm-f8-start",
    "ldm-f8-middle",
    "ldm-f8-long",
    "ldm-f8-late",
    "ldm-f8",
    "ldm-f8-sharp",
)


def hours(*runs: Row) -> float:
    return sum(run["seconds"] for run in runs) / 3600


def one_core_or_two(*runs: Row) -> bool:
    """All on a CPU; the one run that took two threads lasted half an hour."""
    two = [run["seconds"] / 60 for run in runs if run["threads"] == 2]
    rest = [run for run in runs if run["threads"] == 1]
    cpu = all("CPU" in run["device"] for run in runs)
    return cpu and len(rest) == 11 and len(two) == 1 and 25 < two[0] < 35


OPENING = [
    Claim(
        page,
        sentence,
        CHAIN,
        one_core_or_two,
        numbers={"10.2": hours},
        differ=None,
    )
    for page, sentence in (
        (
            "index",
            "after 10.2 hours of training on one CPU core (for half an hour of them, "
            "on two), every run and every network counted",
        ),
        (
            "README",
            "`ldm-f8-sharp`, which drew the picture above, is the end of twelve runs "
            "that took 10.2 hours together, eleven of them on one CPU core and one on "
            "two.",
        ),
    )
]
