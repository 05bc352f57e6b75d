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
from PIL import Image

from ldm_tutorial import LatentDiffusion, PixelCodec, UNet, UNetConfig, landscapes
from ldm_tutorial.cli.main import main
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
    "class=11&seed=3&steps=10&sampler=ddim&eta=0&guidance=6&rescale=0.7",
]
# Settings to draw a model of one's own with.
OWN = {
    "pixels": "class=1&seed=5&steps=6&sampler=dpm-solver%2B%2B&guidance=2",
    "flow": "class=0&seed=3&steps=6&sampler=heun&guidance=2",
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Two exported models by name: a new one on pixels, and one that the commands have
    made of a folder of images, an autoencoder and a transformer that learned a flow."""
    place = tmp_path_factory.mktemp("exported")
    unet = UNet(UNetConfig(3, (32,), 1, (), patch_size=4, num_classes=2))
    for weight in unet.parameters():
        weight.data += 0.05 * torch.randn(weight.shape)
    model = LatentDiffusion(PixelCodec(), unet, image_size=16, classes=("cat", "dog"))
    onnx.export_onnx(model, place / "pixels")
    (place / "images").mkdir()
    x = landscapes.render(landscapes.sample_factors(24, torch.Generator()))
    for i, pixels in enumerate(to_bytes(x.permute(0, 2, 3, 1)).byte().numpy()):
        Image.fromarray(pixels).save(place / "images" / f"{i}.png")
    common = ["--preset", "smoke", "--data", str(place / "images"), "--size", "32"]
    vae, ldm, flow = (str(place / name) for name in ("vae", "ldm", "flow"))
    main(["train-vae", *common, "--out", vae])
    shape = ["--denoiser", "dit", "--dit.width", "32", "--dit.depth", "2"]
    way = ["--prediction_type", "flow"]
    main(["train-ldm", *common, "--vae", vae, *shape, *way, "--out", ldm])
    main(["export", "--model", ldm, "--format", "onnx", "--out", flow])
    return {name: place / name for name in OWN}


@pytest.fixture(scope="module")
def report(exported):
    """What `playground_page.js` has seen."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    script = ROOT / "tests" / "book" / "playground_page.js"
    own = json.dumps({str(exported[name]): OWN[name] for name in OWN})
    done = subprocess.run(
        ["node", script, BOOK, PICTURES, own, json.dumps(CASES)],
        env={**os.environ, "NODE_PATH": str(MODULES)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def library(settings, model="ldm-f8"):
    """The image that the library draws for settings of the page, as bytes."""
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


DIFFUSION = ["ddim", "dpm-solver++", "ddpm"]


@pytest.mark.parametrize(
    ("name", "classes", "samplers"),
    [("pixels", ["cat", "dog"], DIFFUSION), ("flow", ["images"], ["euler", "heun"])],
)
def test_a_model_of_ones_own_opens(report, exported, name, classes, samplers):
    found = report["own"][str(exported[name])]
    assert found["status"] == "Your model is open."
    assert (found["classes"], found["samplers"]) == (classes, samplers)
    wanted = library(OWN[name], exported[name])
    drawn = torch.tensor(found["picture"]).view(wanted.shape)
    assert wanted.float().std() > 10
    assert (drawn - wanted).abs().float().mean() < 2


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
