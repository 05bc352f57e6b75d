"""The playground's equations give the library's numbers, and its files are all there.

What it looks like in a browser is the matter of `test_playground_page.py`.
"""

import gzip
import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path

import playground
import pytest
import torch

from ldm_tutorial import (
    AutoencoderKL,
    LatentCodec,
    LatentDiffusion,
    NoiseSchedule,
    ScheduleConfig,
    UNet,
    UNetConfig,
    VAEConfig,
)
from ldm_tutorial.diffusion import add_noise
from ldm_tutorial.evaluation.latents import slerp
from ldm_tutorial.flow import FlowMatching
from ldm_tutorial.guidance import guided
from ldm_tutorial.samplers import SAMPLERS

needs_node = pytest.mark.skipif(not shutil.which("node"), reason="node is missing")
NUMBERS = Path(__file__).parent / "playground_numbers.mjs"
CLOSE = {"rtol": 2e-4, "atol": 2e-4}  # one side has float64 coefficients


def in_page(*cases):
    """What the page's functions give for a list of cases (name, arguments ...)."""
    done = subprocess.run(
        ["node", NUMBERS], input=json.dumps(cases), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# --- equations ------------------------------------------------------------------------

SCHEDULES = [
    ScheduleConfig(),
    ScheduleConfig("scaled_linear", 500, 0.00085, 0.012),
    ScheduleConfig("cosine"),
    ScheduleConfig("linear", zero_terminal_snr=True),
]


@needs_node
def test_schedules_are_the_librarys():
    found = in_page(*(["alphaBar", asdict(config)] for config in SCHEDULES))
    for config, values in zip(SCHEDULES, found, strict=True):
        wanted = NoiseSchedule.from_config(config).alpha_bar
        values = torch.tensor(values)
        torch.testing.assert_close(values, wanted, rtol=2e-4, atol=1e-7)


@needs_node
def test_times_are_the_librarys():
    """Also where T steps / n ends in a half, which Python rounds to even."""
    schedule = NoiseSchedule.linear()
    counts = [1, 3, 7, 16, 20, 32, 50, 999, 1000]
    found = in_page(*(["timesteps", 1000, steps] for steps in counts))
    assert found == [schedule.timesteps(steps) for steps in counts]
    linear = asdict(ScheduleConfig())
    ((*late,),) = in_page(["startOf", linear, 20, 0.5])
    assert late == schedule.timesteps(20)[10:]
    assert in_page(["startOf", linear, 20, 0.0]) == [schedule.timesteps(20)[-1:]]


FLOWS = [FlowMatching(), FlowMatching(500, shift=3.0, last=0.01)]


def as_in_json(flow):
    """What model.json says of a flow."""
    names = ("num_train_timesteps", "shift", "last")
    return {"name": "flow"} | {name: getattr(flow, name) for name in names}


@needs_node
@pytest.mark.parametrize("flow", FLOWS)
def test_times_of_a_flow_are_the_librarys(flow):
    counts = [1, 2, 7, 20]
    found = in_page(*(["startOf", as_in_json(flow), n, 1] for n in counts))
    for n, values in zip(counts, found, strict=True):
        wanted = flow.num_train_timesteps * torch.tensor(flow.timesteps(n)[:-1])
        torch.testing.assert_close(torch.tensor(values).float(), wanted)


@needs_node
@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("name", ["euler", "heun"])
@pytest.mark.parametrize("flow", FLOWS)
def test_samplers_of_a_flow_take_the_librarys_steps(flow, name, clip):
    z = torch.randn(1, 1, 4, 8, generator=torch.Generator().manual_seed(1))
    given = [as_in_json(flow), "flow", clip, z.flatten().tolist(), 3]
    (found,) = in_page(["sample", *given, {"sampler": name, "steps": 6}])
    wanted = flow.samplers[name](toy, flow, z, steps=6, clip=clip)
    for step, one in zip(found, wanted, strict=True):
        torch.testing.assert_close(torch.tensor(step), one.flatten(), **CLOSE)


@needs_node
@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
def test_seeds_give_the_noise_of_pytorch(seed):
    """Call after call, in sizes that divide by 16 and in others."""
    sizes = [256, 16, 20, 4096, 37]
    (found,) = in_page(["dice", seed, sizes])
    generator = torch.Generator().manual_seed(seed)
    for n, values in zip(sizes, found, strict=True):
        wanted = torch.randn(n, generator=generator)
        torch.testing.assert_close(torch.tensor(values), wanted, rtol=1e-5, atol=1e-5)


@needs_node
def test_noise_is_added_as_in_the_library():
    z_0, eps = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    pair = [z_0.tolist(), eps.tolist()]
    found, clean = in_page(
        *(["addNoise", asdict(ScheduleConfig()), *pair, t] for t in (300, None))
    )
    wanted = add_noise(z_0, eps, NoiseSchedule.linear().alpha_bar[300])
    torch.testing.assert_close(torch.tensor(found), wanted, **CLOSE)
    torch.testing.assert_close(torch.tensor(clean), z_0)
    (found,) = in_page(["addNoise", as_in_json(FlowMatching()), *pair, 300])
    torch.testing.assert_close(torch.tensor(found), 0.7 * z_0 + 0.3 * eps)


def toy(z, t):
    """The denoiser of playground_numbers.mjs, on arrays (1, 1, 4, 8)."""
    pattern = (torch.arange(z[0].numel()) % 3 / 10).view(z[0].shape)
    return 0.4 * z + t.view(-1, 1, 1, 1) / 2000 + pattern


@needs_node
@pytest.mark.parametrize("kind", ["eps", "v", "x0"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_take_the_librarys_steps(name, kind):
    ways = [({"steps": 7}, None), ({"steps": 16}, 1.0)]
    if name == "ddim":
        ways.append(({"steps": 7, "eta": 0.6}, None))
    config = ScheduleConfig("cosine", 100)
    z = torch.randn(1, 1, 4, 8, generator=torch.Generator().manual_seed(1))
    flat = z.flatten().tolist()
    found = in_page(
        *(
            [
                "sample",
                asdict(config),
                kind,
                clip,
                flat,
                3,
                {"sampler": name, **options},
            ]
            for options, clip in ways
        )
    )
    for (options, clip), steps in zip(ways, found, strict=True):
        wanted = SAMPLERS[name](
            toy,
            NoiseSchedule.from_config(config),
            z,
            prediction_type=kind,
            clip=clip,
            generator=torch.Generator().manual_seed(3),
            **options,
        )
        for step, one in zip(steps, wanted, strict=True):
            torch.testing.assert_close(torch.tensor(step), one.flatten(), **CLOSE)


@needs_node
def test_guidance_is_the_librarys():
    def by_class(z, t, y):
        pattern = (torch.arange(z[0].numel()) % 5 / 4).view(z[0].shape)
        return toy(z, t) + y.view(-1, 1, 1, 1) * pattern

    z = torch.randn(1, 1, 4, 8, generator=torch.Generator().manual_seed(1))
    for scale, rescale in ((1, 0), (0, 0), (3.5, 0), (3.5, 0.7), (6, 1)):
        (found,) = in_page(["guided", 2, 5, scale, rescale, z.flatten().tolist(), 40])
        denoiser = guided(by_class, torch.tensor([2]), scale, rescale, no_class=5)
        wanted = denoiser(z, torch.tensor([40]))
        torch.testing.assert_close(torch.tensor(found), wanted.flatten(), **CLOSE)


@needs_node
def test_walks_are_the_librarys():
    a, b = torch.randn(2, 32, generator=torch.Generator().manual_seed(2))
    ends = [a.tolist(), b.tolist(), 0.3]
    round_, straight, same = in_page(
        ["slerp", *ends], ["lerp", *ends], ["slerp", a.tolist(), a.tolist(), 0.3]
    )
    torch.testing.assert_close(torch.tensor(round_), slerp(a, b, 0.3))
    torch.testing.assert_close(torch.tensor(straight), torch.lerp(a, b, 0.3))
    torch.testing.assert_close(torch.tensor(same), a)


@needs_node
def test_while_a_picture_is_decoded_the_denoiser_goes_on():
    """Pictures come in order, none is missing, nothing starts that nobody sees."""
    ends = ("", "see 0: 1", "denoise 1")
    whole, stopped, unseen = in_page(*(["watch", 3, end] for end in ends))
    assert whole == [
        *("denoise 0", "decode 0", "denoise 1", "see 0: 1"),
        *("decode 10", "denoise 2", "see 1: 11", "decode 20", "see 2: 21"),
    ]
    assert stopped == whole[:4] and unseen == whole[:3]


# --- files ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scripts():
    return playground.scripts()


def value_of(script):
    """The value that a packed script hands on."""
    value = re.fullmatch(r'ldmPlayground\("[^"]+", (.*)\);\n', script, re.S)[1]
    return json.loads(value, strict=False)  # letters below the blank among them


def bytes_of(text):
    """What `load.js` makes of letters: seven bits of each, one after the other."""
    bits = "".join(f"{ord(letter) & 127:07b}" for letter in text)
    return bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits) - 7, 8))


@pytest.mark.parametrize("n", [0, 1, 6, 7, 8, 300])
def test_bytes_become_letters_that_a_script_may_hold(n):
    content = bytes((7 * i * i) % 256 for i in range(n))
    text = playground.letters(content)
    assert bytes_of(text) == content
    assert not set(text) & set('\0\n\r"\\') and max(map(ord, text), default=0) < 256


def test_packed_files_come_out_as_they_went_in(scripts):
    files = value_of(scripts["files.js"])
    counts = files["packed"] | files["later"]
    wanted = playground.packed_files()
    assert set(counts) == set(wanted) and "model.int8" in wanted
    assert set(files["later"]) == set(playground.LATER)
    for name, count in counts.items():
        parts = [value_of(scripts[f"{name}-{i:02}.js"]) for i in range(count)]
        assert gzip.decompress(b"".join(map(bytes_of, parts))) == wanted[name]
    assert len(scripts) == sum(counts.values()) + 1


@needs_node
def test_weights_come_out_as_the_file_that_the_graphs_read(tmp_path):
    """To the last bit, halves that are rounded to even and tiny numbers among them."""
    torch.manual_seed(0)
    vae = AutoencoderKL(VAEConfig(channels=(16, 24, 32)))
    unet = UNet(UNetConfig(4, (32,), 1, (0,), patch_size=4, num_classes=2))
    codec, classes = LatentCodec(vae), ("cat", "dog")
    model = LatentDiffusion(codec, unet, image_size=64, classes=classes)
    for i, weight in enumerate([*unet.parameters(), *vae.parameters()]):
        weight.data = 10.0 ** (-(i % 6)) * torch.randn(weight.shape)
    unet.stem.weight.data[3] = 0
    paths = [tmp_path / "packed", tmp_path / "encoder"]
    for path, packed in zip(paths, playground.packed_weights(model), strict=True):
        path.write_bytes(packed)
    wanted = playground.weights(model)
    assert len(wanted) > 1.5 * sum(path.stat().st_size for path in paths)
    (found,) = in_page(["unpacked", *map(str, paths)])
    assert found == hashlib.sha256(wanted).hexdigest()


def test_packing_changes_the_weights_by_less_than_a_hundredth(tmp_path):
    tensor = torch.randn(64, 48, 3, 3)
    whole, factors = playground.rows_and_factors(tensor)
    off = (whole * factors).view_as(tensor) - tensor
    assert off.std() < 0.01 * tensor.std()
    assert playground.is_large(tensor) and not playground.is_large(tensor[0, 0])


def test_modules_come_after_those_that_they_import(scripts):
    modules = value_of(scripts["files.js"])["modules"]
    seen = set()
    for name, text in modules.items():
        imported = set(re.findall(r'from "\./([\w.]+)"', text))
        assert imported <= seen, name
        assert text.count("import ") == len(re.findall(r"^import ", text, flags=re.M))
        seen.add(name)
    assert list(modules)[-1] == "start.mjs"


def test_the_page_stays_light_before_and_after_the_click(scripts):
    """What a page with a playground loads by itself, and what the book takes."""
    before = [playground.MODULES / name for name in ("load.js", "playground.css")]
    assert sum(path.stat().st_size for path in before) < 20_000
    assert playground.megabytes(scripts) <= 10
    every = sum(len(text.encode()) for text in scripts.values())
    later = value_of(scripts["files.js"])["megabytes"]
    assert every / 1e6 == pytest.approx(playground.megabytes(scripts) + later, abs=0.6)
    for path in playground.MODULES.iterdir():
        assert len(path.read_text("utf8").splitlines()) <= 300, path.name


def test_the_playground_knows_the_shipped_model(scripts):
    known = value_of(scripts["files.js"])["known"]
    model = LatentDiffusion.load("ldm-f8-sharp")
    assert known["classes"] == list(model.classes)
    assert known["schedule"] == asdict(model.objective.schedule)
    assert known["latent_shape"] == list(model.codec.latent_shape(model.image_size))
    assert known["prediction_type"] == model.objective.prediction_type


def test_only_pages_with_a_place_for_it_load_the_script():
    assert playground.PLACE.search(
        '<p></p><div class="playground" data-panel="x"></div>'
    )
    assert playground.PLACE.search('<div data-panel="x" class="playground">')
    assert not playground.PLACE.search("<p>The playground is a page.</p>")


def test_the_runtime_ships_with_its_licence():
    notice = (playground.RUNTIME / "LICENSE").read_text("utf8")
    assert notice.startswith("MIT License") and "Microsoft" in notice
    script = (playground.RUNTIME / "ort.wasm.min.js").read_text("utf8")
    assert "ONNX Runtime Web v" in script and "MIT License" in script
    assert (playground.RUNTIME / "ThirdPartyNotices.txt").stat().st_size > 10_000
