"""Cards of the capstone, for tests."""

from ldm_tutorial.evaluation.capstone import BUDGET, IMAGES, VERSION
from ldm_tutorial.records import fingerprint


def a_card(name="Ada", frechet=4.0, width=0.5, weights=None, **changes):
    samples = {"n": IMAGES, "steps": 50, "sampler": "ddim", "frechet": frechet}
    samples |= {"frechet_ci95": width, "frechet_real": 0.3, "class_agreement": 0.9}
    card = {"version": VERSION, "name": name, "budget": BUDGET, "samples": samples}
    card |= {"weights": weights or name, "cpu_seconds": 321.5, "parameters": 1_234_567}
    card |= {"runs": {"denoiser": {"cpu_seconds": 321.5}}}
    card |= {"factors": {"tv_tree_count": 0.1, "tv_tree_count_real": 0.02}} | changes
    return card | {"digest": fingerprint(card)}
