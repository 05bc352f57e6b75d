"""What the opening page and the README say of the shipped models."""

from claims.claim import Claim, Row

# All runs that made ldm-f8-sharp, in order, with what a loss needs, and what each of
# them began with.
CHAIN = {
    "vae-f8": None,
    "scenenet": None,
    "vae-f8-sharp-start": "vae-f8",
    "vae-f8-sharp": "runs/vae-f8-sharp-start",
    "ldm-f8-sharp": None,
}


def hours(*runs: Row) -> float:
    return sum(run["seconds"] for run in runs) / 3600


def on_one_core(*runs: Row) -> bool:
    """All on one core of a CPU, and no run is missing."""
    inits = [run["recipe"].get("init") for run in runs]
    cpu = all("CPU" in run["device"] and run["threads"] == 1 for run in runs)
    return cpu and inits == [*CHAIN.values()]


OPENING = [
    Claim(
        page,
        sentence,
        tuple(CHAIN),
        on_one_core,
        numbers={"3.2": hours},
        differ=None,
    )
    for page, sentence in (
        (
            "index",
            "after 3.2 hours of training on one CPU core, every run and every network "
            "counted",
        ),
        (
            "README",
            "`ldm-f8-sharp`, which drew the picture above, is the end of five runs "
            "that took 3.2 hours together on one CPU core: three for its autoencoder, "
            "one for the network in that one's loss, and one for the diffusion model.",
        ),
    )
]
