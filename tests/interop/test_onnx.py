"""Models as ONNX: the graphs compute what PyTorch does, from the very same file."""

import importlib.util
import json
import re
import shutil
from itertools import pairwise

import numpy as np
import playground
import pytest
import torch

from ldm_tutorial import (
    AutoencoderKL,
    LatentCodec,
    LatentDiffusion,
    PixelCodec,
    ScheduleConfig,
    UNet,
    UNetConfig,
    VAEConfig,
)
from ldm_tutorial.cli.main import main
from ldm_tutorial.diffusion import Objective
from ldm_tutorial.dit import DiT, DiTConfig
from ldm_tutorial.flow import FlowMatching
from ldm_tutorial.interop import onnx

MISSING = [name for name in onnx.NEEDED if not importlib.util.find_spec(name)]
# Of the lowest torch the exported graphs differ, which the command says in one line.
OLD = torch.__version__.startswith("2.9.")
needs_onnx = pytest.mark.skipif(
    bool(MISSING) or OLD,
    reason=f"needs {', '.join(MISSING) or 'a newer torch'}: pip install -e .[onnx]",
)

SHIPPED = playground.GRAPHS


def shaken(module):
    """The module with every weight at random: none may be zero and hide a mistake."""
    dice = torch.Generator().manual_seed(0)
    for weight in module.parameters():
        weight.data = 0.2 * torch.randn(weight.shape, generator=dice)
    return module


def small_codec():
    config = VAEConfig(channels=(16,), latent_channels=2, downsampling=4)
    vae = shaken(AutoencoderKL(config))
    return LatentCodec(vae, torch.tensor([0.5, -1.0]), torch.tensor([2.0, 0.5]))


def small_model(codec=None, classes=("a", "b"), objective=None, network="UNet"):
    codec = codec or small_codec()
    channels, known = codec.latent_shape(16)[0], {"num_classes": len(classes)}
    made = {
        "UNet": lambda: UNet(UNetConfig(channels, (32,), 1, (0,), **known)),
        "DiT": lambda: DiT(DiTConfig(channels, 2, width=32, depth=2, **known)),
    }
    denoiser = shaken(made[network]())
    return LatentDiffusion(
        codec, denoiser, objective=objective, image_size=16, classes=classes
    ).eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    model = small_model(objective=Objective(ScheduleConfig("cosine", 100), "v"))
    return model, folder, onnx.export_onnx(model, folder)


def run(folder, name, **inputs):
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / f"{name}.onnx")
    return session.run(None, {k: np.asarray(v) for k, v in inputs.items()})


@needs_onnx
def test_the_folder_is_a_model_with_graphs(exported):
    model, folder, differences = exported
    assert {path.name for path in folder.iterdir()} == {
        *("config.json", "model.safetensors", "model.json"),
        *("encoder.onnx", "decoder.onnx", "denoiser.onnx"),
    }
    assert set(differences) == {"encoder", "decoder", "denoiser"}
    assert max(differences.values()) < 1e-4
    again = LatentDiffusion.load(folder)
    torch.testing.assert_close(again.state_dict(), model.state_dict())


@needs_onnx
def test_graphs_compute_what_the_networks_do_for_any_batch(exported):
    model, folder, _ = exported
    x = torch.rand(3, 3, 16, 16) * 2 - 1
    posterior = model.codec.vae.encode(x)
    mean, std = map(torch.from_numpy, run(folder, "encoder", x=x))
    close = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(mean, model.codec.normalise(posterior.mu), **close)
    scale = model.codec.std
    torch.testing.assert_close(std, posterior.std / scale, **close)
    (back,) = run(folder, "decoder", z=mean)
    torch.testing.assert_close(
        torch.from_numpy(back), model.codec.decode(mean), **close
    )
    t, y = torch.tensor([0, 50, 99]), torch.tensor([0, 1, 2])  # 2: no class
    z = torch.randn(3, 2, 4, 4)
    (prediction,) = run(folder, "denoiser", z_t=z, t=t, y=y)
    with torch.no_grad():
        wanted = model.unet(z, t, y)
    torch.testing.assert_close(torch.from_numpy(prediction), wanted, **close)


@needs_onnx
def test_numpy_and_the_graphs_alone_sample_the_same_image(exported):
    """DDIM of v-predictions from what is on disk, without this library."""
    model, folder, _ = exported
    known = json.loads((folder / "model.json").read_text())
    assert known["prediction_type"] == "v" and known["classes"] == ["a", "b"]
    dice = torch.Generator().manual_seed(7)
    z = torch.randn(1, *known["latent_shape"], generator=dice).numpy()
    a, steps = np.float32(known["alpha_bar"]), [99, 74, 49, 24]
    for t, s in zip(steps, [*steps[1:], None], strict=True):
        given = {"z_t": z, "t": np.array([t]), "y": np.array([1])}
        (v,) = run(folder, "denoiser", **given)
        signal, noise = a[t] ** 0.5, (1 - a[t]) ** 0.5
        z_0, eps = signal * z - noise * v, noise * z + signal * v
        a_s = np.float32(1) if s is None else a[s]
        z = a_s**0.5 * z_0 + (1 - a_s) ** 0.5 * eps
    (x,) = run(folder, "decoder", z=z)
    dice = torch.Generator().manual_seed(7)
    wanted = model.sample(1, y="b", steps=4, generator=dice)
    x = torch.from_numpy(x).clamp(-1, 1)
    torch.testing.assert_close(x, wanted, rtol=1e-4, atol=1e-4)


@needs_onnx
@pytest.mark.parametrize("network", ["UNet", "DiT"])
def test_a_flow_samples_the_same_without_this_library(tmp_path, network):
    """Euler's method on the graphs, for either network and with shifted times."""
    model = small_model(objective=FlowMatching(100, shift=3.0), network=network)
    differences = onnx.export_onnx(model, tmp_path)
    assert max(differences.values()) < 1e-4
    known = json.loads((tmp_path / "model.json").read_text())
    assert (known["objective"], known["prediction_type"]) == ("FlowMatching", "flow")
    plan = {"name": "flow", "num_train_timesteps": 100, "shift": 3.0, "last": None}
    assert known["schedule"] == plan and "alpha_bar" not in known
    dice = torch.Generator().manual_seed(7)
    z = torch.randn(1, *known["latent_shape"], generator=dice).numpy()
    even = np.linspace(1, 0.25, 4)
    times = [*(3 * even / (1 + 2 * even)), 0.0]
    for t, s in pairwise(times):
        given = {"z_t": z, "t": np.float32([100 * t]), "y": np.array([1])}
        z = z + np.float32(s - t) * run(tmp_path, "denoiser", **given)[0]
    (x,) = run(tmp_path, "decoder", z=z)
    dice = torch.Generator().manual_seed(7)
    wanted = model.sample(1, y="b", steps=4, sampler="euler", generator=dice)
    x = torch.from_numpy(x).clamp(-1, 1)
    assert wanted.std() > 0.05
    torch.testing.assert_close(x, wanted, rtol=1e-3, atol=1e-3)


@needs_onnx
def test_a_transformer_in_half_precision_without_classes(tmp_path):
    model = small_model(classes=(), network="DiT")
    assert max(onnx.export_onnx(model, tmp_path, torch.float16).values()) < 1e-4
    known = json.loads((tmp_path / "model.json").read_text())
    assert known["graphs"]["denoiser"]["inputs"] == ["z_t", "t"]
    assert known["objective"] == "Objective" and len(known["alpha_bar"]) == 1000


def test_an_objective_that_nobody_could_sample_is_refused():
    model = small_model()
    model.objective = type("Mine", (FlowMatching,), {"kind": "Mine"})()
    with pytest.raises(ValueError, match="kind 'Mine' cannot be exported"):
        onnx.description(model)


@needs_onnx
def test_graphs_hold_no_weights(exported):
    """All three point into the one file: each is small, and follows it."""
    _, folder, _ = exported
    import onnx as package

    for path in folder.glob("*.onnx"):
        stored = package.load(path, load_external_data=False).graph.initializer
        inside = [t for t in stored if not t.external_data]
        assert max(len(t.raw_data) for t in inside) < 1024, path.name
        names = {
            e.value for t in stored for e in t.external_data if e.key == "location"
        }
        assert names == {"model.safetensors"}


@needs_onnx
def test_a_model_without_classes_and_without_an_autoencoder(tmp_path):
    model = small_model(PixelCodec(), classes=())
    assert set(onnx.export_onnx(model, tmp_path)) == {"denoiser"}
    known = json.loads((tmp_path / "model.json").read_text())
    assert known["graphs"]["denoiser"]["inputs"] == ["z_t", "t"]
    assert (known["clip"], known["latent_shape"]) == (1.0, [3, 16, 16])


@needs_onnx
def test_a_graph_that_computes_something_else_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx, "graph", lambda *_: b"")
    for wrong in (0.5, float("nan")):
        monkeypatch.setattr(onnx, "compare", lambda *_, wrong=wrong: wrong)
        with pytest.raises(ValueError, match=r"encoder\.onnx differs from PyTorch by"):
            onnx.export_onnx(small_codec(), tmp_path)


@needs_onnx
def test_the_comparison_sees_a_difference(exported):
    model, folder, _ = exported
    network, inputs = onnx.networks(model)["decoder"]
    path = folder / "decoder.onnx"
    assert onnx.compare(path, network, inputs) < 1e-4
    network.register_forward_hook(lambda _, given, x: x + 0.5)
    assert onnx.compare(path, network, inputs) > 0.4


# --- the command ----------------------------------------------------------------------


@needs_onnx
def test_an_autoencoder_in_half_precision_by_the_command(tmp_path, capsys):
    """The graphs follow the rounded weights, and compute in float32 all the same."""
    codec = small_codec()
    codec.save(tmp_path / "codec")
    out = tmp_path / "out"
    main(["export", "--model", str(tmp_path / "codec"), "--fp16", "--out", str(out)])
    text, err = capsys.readouterr()
    assert not err
    *wrote, encoder, decoder = text.splitlines()
    assert len(wrote) == len(list(out.iterdir())) == 5
    for name, line in (("encoder", encoder), ("decoder", decoder)):
        assert re.match(rf"{name}: differs from PyTorch by \d\.\de-\d\d at most$", line)
    numbers = sum(v.numel() for v in codec.state_dict().values())
    assert 2 * numbers < (out / "model.safetensors").stat().st_size < 3 * numbers
    z = torch.randn(1, 2, 16, 16)
    (x,) = run(out, "decoder", z=z)
    assert x.dtype == np.float32
    half = LatentCodec.load(out)
    torch.testing.assert_close(
        torch.from_numpy(x), half.decode(z), rtol=1e-4, atol=1e-4
    )
    assert (half.decode(z) - codec.decode(z)).abs().max() > 1e-4  # rounding shows
    known = json.loads((out / "model.json").read_text())
    assert known["mean"] == [0.5, -1.0] and "schedule" not in known


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--model", "nowhere"], "no model at 'nowhere'"),
        (["--model", "scenenet"], "holds a model of kind 'SceneNet'"),
        (["--format", "pickle"], "pickle"),
        (["--out", __file__], "is a file"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, monkeypatch, arguments, says):
    monkeypatch.setattr(onnx, "NEEDED", ())
    with pytest.raises(SystemExit) as stop:
        main(["export", "--out", str(tmp_path / "out"), *arguments])
    err = capsys.readouterr().err
    assert stop.value.code == 2 and err.count("\n") == 1 and says in err


def test_missing_packages_are_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(onnx, "NEEDED", ("onnx_that_nobody_has",))
    with pytest.raises(SystemExit) as stop:
        main(["export", "--out", str(tmp_path / "out")])
    err = capsys.readouterr().err
    assert stop.value.code == 2 and "pip install 'ldm-tutorial[onnx]'" in err
    assert not (tmp_path / "out").exists()


# --- what the book ships --------------------------------------------------------------


@needs_onnx
def test_the_graphs_in_the_book_and_the_shipped_weights_are_the_shipped_model(tmp_path):
    """The graphs hold the scales of the norms; `make playground` renews them when the
    model has changed."""
    for path in SHIPPED.glob("*.onnx"):
        shutil.copy(path, tmp_path)
    model = LatentDiffusion.load("ldm-f8-sharp")
    model.save(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(playground.weights(model))
    model = LatentDiffusion.load(tmp_path)  # with the weights as they were rounded
    networks = onnx.networks(model)
    assert {path.stem for path in tmp_path.glob("*.onnx")} == set(networks)
    for name, (network, inputs) in networks.items():
        assert onnx.compare(tmp_path / f"{name}.onnx", network, inputs) < 1e-5, name
    known = json.loads((SHIPPED / "model.json").read_text())
    assert known == json.loads(json.dumps(onnx.description(model)))


@needs_onnx
def test_an_exporter_that_stops_is_told_in_one_line(tmp_path, monkeypatch):
    """Whatever its parts raise; an error of the network itself stays what it is."""
    own = type("PassError", (RuntimeError,), {"__module__": "onnx_ir.passes"})
    for error, kind, message in (
        (own("many\nlines"), ValueError, "stopped with PassError; .* try others"),
        (RuntimeError("of the network"), RuntimeError, "of the network"),
    ):

        def export(*arguments, error=error, **options):
            raise error

        monkeypatch.setattr(torch.onnx, "export", export)
        with pytest.raises(kind, match=message) as caught:
            onnx.export_onnx(small_model(), tmp_path)
        assert "\n" not in str(caught.value)
