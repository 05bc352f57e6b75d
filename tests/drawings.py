"""What the library draws for settings of the playground, as an address holds them."""

from urllib.parse import parse_qs

import torch

from ldm_tutorial import LatentDiffusion
from ldm_tutorial.records import to_bytes

CASES = [
    "class=15&seed=7&steps=12&sampler=dpm-solver%2B%2B&guidance=3",
    "class=2&seed=0&steps=20&sampler=ddim&eta=0&guidance=1",
    "class=9&seed=4294967295&steps=10&sampler=ddim&eta=0.5&guidance=2",
    "class=4&seed=11&steps=16&sampler=ddpm&guidance=0",
    "class=11&seed=3&steps=10&sampler=ddim&eta=0&guidance=6&rescale=0.7",
]


def image_of(settings, model="ldm-f8-sharp"):
    """The library's image for settings, as bytes (size, size, 3)."""
    given = {name: values[0] for name, values in parse_qs(settings).items()}
    x = LatentDiffusion.load(model).sample(
        1,
        y=int(given["class"]) if "class" in given else None,
        steps=int(given["steps"]),
        sampler=given["sampler"],
        eta=float(given.get("eta", 0)),
        guidance_scale=float(given.get("guidance", 1)),
        guidance_rescale=float(given.get("rescale", 0)),
        generator=torch.Generator().manual_seed(int(given["seed"])),
    )
    return to_bytes(x[0].permute(1, 2, 0)).int()


def assert_same(drawn, settings, model="ldm-f8-sharp"):
    """Numbers that a page has drawn are the library's within 2 of 255 in the mean."""
    wanted = image_of(settings, model)
    difference = (torch.tensor(drawn).view(wanted.shape) - wanted).abs().float()
    assert wanted.float().std() > 10  # a picture, not a plain colour
    assert difference.mean() < 2
