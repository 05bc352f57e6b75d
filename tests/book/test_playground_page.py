"""The playground in a real browser: `make pages`.

Over http and from a disk it draws what the library draws from the same noise; every
control does what it says, by mouse and by keyboard; nothing is loaded before the click
or from elsewhere; a model of one's own opens; and axe finds nothing serious.
"""

import json
import os
import subprocess
from urllib.parse import parse_qs

import pytest
import torch
from browser import BOOK, MODULES, PICTURES, ROOT, missing

from ldm_tutorial import LatentDiffusion, PixelCodec, UNet, UNetConfig
from ldm_tutorial.interop import onnx
from ldm_tutorial.records import to_bytes

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=missing() or "all is there"),
]

CASES = [
    "class=15&seed=7&steps=12&sampler=dpm-solver%2B%2B&guidance=3",
    "class=2&seed=0&steps=20&sampler=ddim&eta=0&guidance=1",
    "class=9&seed=4294967295&steps=10&sampler=ddim&eta=0.5&guidance=2",
    "class=4&seed=11&steps=16&sampler=ddpm&guidance=0",
]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """What `playground_page.js` has seen."""
    exported = tmp_path_factory.mktemp("exported")
    unet = UNet(UNetConfig(3, (32,), 1, (), patch_size=4, num_classes=2))
    model = LatentDiffusion(PixelCodec(), unet, image_size=16, classes=("cat", "dog"))
    onnx.export_onnx(model, exported)
    PICTURES.mkdir(parents=True, exist_ok=True)
    script = ROOT / "tests" / "book" / "playground_page.js"
    done = subprocess.run(
        ["node", script, BOOK, PICTURES, exported, json.dumps(CASES)],
        env={**os.environ, "NODE_PATH": str(MODULES)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def library(settings):
    """The image that the library draws for settings of the page, as bytes."""
    given = {name: values[0] for name, values in parse_qs(settings).items()}
    x = LatentDiffusion.load("ldm-f8").sample(
        1,
        y=int(given["class"]),
        steps=int(given["steps"]),
        sampler=given["sampler"],
        eta=float(given.get("eta", 0)),
        guidance_scale=float(given["guidance"]),
        generator=torch.Generator().manual_seed(int(given["seed"])),
    )
    return to_bytes(x[0].permute(1, 2, 0)).int()


def test_the_page_has_no_problem(report):
    assert not report["problems"], "\n" + "\n".join(report["problems"])


@pytest.mark.parametrize("settings", CASES)
@pytest.mark.parametrize("over", ["file", "http"])
def test_the_page_draws_what_the_library_draws(report, over, settings):
    wanted = library(settings)
    drawn = torch.tensor(report["pictures"][over][settings]).view(wanted.shape)
    difference = (drawn - wanted).abs().float()
    assert wanted.float().std() > 10  # a picture, not a plain colour
    assert difference.mean() < 2


def test_a_model_of_ones_own_opens(report):
    assert report["own"] == {
        "status": "Your model is open.",
        "classes": ["cat", "dog"],
    }


def test_panels_in_other_pages_open(report):
    opened = report["embedded"]
    assert opened["index.html"] == ["sample"]
    assert opened["02_kl.html"] == ["latent"]
    assert opened["03_latent_ddpm.html"] == ["forward", "sample", "sample"]
    assert opened["05_efficiency.html"] == ["sample"]


def test_it_was_looked_at(report):
    taken = {path.name for path in PICTURES.glob("playground-*.png")}
    names = ("sample", "latent", "own", "forward")
    assert taken >= {
        f"playground-{n}-{w}.png" for n in names for w in ("1280-light", "390-dark")
    }
