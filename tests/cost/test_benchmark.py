"""What the figures of a benchmark mean, with networks small enough to count by hand."""

import threading
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch
from PIL import Image
from torch import nn
from torch.testing import assert_close

from ldm_tutorial.cost import against, benchmark, efficiency, peers, race, shown
from ldm_tutorial.cost.against import Work, prepare, rows_of_work
from ldm_tutorial.cost.efficiency import (
    Timing,
    count_flops,
    count_parameters,
    training_step,
)
from ldm_tutorial.cost.peers import (
    LATENT,
    LIBRARIES,
    OURS,
    PATCHED,
    PEERS,
    PIXEL,
    SCHEDULE,
)
from ldm_tutorial.cost.spaces import SPACES
from ldm_tutorial.diffusion import add_noise
from ldm_tutorial.gaussian import DiagonalGaussian
from ldm_tutorial.training.losses import kl_loss


def installed(name):
    return name.startswith(OURS) or find_spec(name.replace("-", "_")) is not None


@pytest.fixture(params=LIBRARIES)
def library(request):
    if not installed(request.param):
        pytest.skip(f"{request.param} is not installed")
    return LIBRARIES[request.param]()


@pytest.fixture
def slow_clock(monkeypatch):
    """Give each call the seconds that its name says instead of running it."""

    def pretend(module, seconds):
        def timed(calls, repeats):
            found = {name: next(s for k, s in seconds if k in name) for name in calls}
            return {name: Timing(s) for name, s in found.items()}

        monkeypatch.setattr(module, "time_side_by_side", timed)

    return pretend


# Spaces -------------------------------------------------------------------------------


def test_times_are_per_image_and_the_decoder_has_its_share(slow_clock, monkeypatch):
    seconds = [
        ("pixel/train", (0.6, 0.2, 0.4)),
        ("pixel/sample", (2.0,)),
        ("f8/autoencoder", (0.3,)),
        ("train", (0.02,)),
        ("decode", (0.05,)),
        ("encode", (0.01,)),
        ("sample", (0.2,)),
    ]
    slow_clock(benchmark, seconds)

    def costs(model, n):
        of_all = ["train_ms", "sample_ms"]
        coded = ["decode_ms", "encode_ms", "autoencoder_train_ms"]
        timed = of_all if model.codec.clip else of_all + coded
        return dict.fromkeys(coded, 0.0), dict.fromkeys(timed)

    monkeypatch.setattr(benchmark, "costs", costs)
    monkeypatch.setattr(benchmark, "resident_bytes", lambda *_: 3e6)
    report = benchmark.benchmark(["pixel", "f8"], size=16, batch_size=2, repeats=1)
    pixel, latent = report["pixel"], report["f8"]
    assert pixel["resident_mb"] == 3
    assert_close([pixel["train_ms"], latent["train_ms"]], [200.0, 10.0])
    assert_close(pixel["train_ms_spread"], [100.0, 300.0])
    assert_close([pixel["sample_ms"], latent["sample_ms"]], [1000.0, 100.0])
    assert_close([pixel["decode_share"], latent["decode_share"]], [0.0, 0.25])
    assert_close([pixel["encode_ms"], latent["encode_ms"]], [0.0, 5.0])
    assert_close(latent["autoencoder_train_ms"], 150.0)
    assert pixel["autoencoder_train_ms"] == 0


def test_every_measure_is_there_and_pixels_cost_more(monkeypatch):
    monkeypatch.setattr(benchmark, "resident_bytes", lambda *_: 1)
    report = benchmark.benchmark(["pixel", "f8"], size=16, batch_size=2, repeats=1)
    pixel, latent = report["pixel"], report["f8"]
    assert pixel.keys() >= set(benchmark.MEASURES) <= latent.keys()
    assert pixel["parameters"] == pytest.approx(latent["parameters"], rel=0.1)
    for measure in ("gflops", "activation_mb", "sample_peak_mb"):
        assert pixel[measure] > 5 * latent[measure] > 0
    assert all(latent[measure] > 0 for measure in benchmark.MEASURES)
    # gradients of all parameters live at the end of the backward pass
    assert latent["train_peak_mb"] > 4 * latent["parameters"] / 1e6


def test_a_process_grows_by_what_training_holds():
    """Weights, gradients and AdamW's two averages, and what is kept of the images."""
    model = SPACES["pixel"].model(16)
    z, t = torch.zeros(64, 3, 16, 16), torch.zeros(64, dtype=torch.int64)
    kept = efficiency.activation_bytes(model.unet, z, t)
    always = 4 * 4 * count_parameters(model.unet)
    grown = benchmark.resident_bytes("pixel", 16, 64)
    assert always + kept < grown < 3 * (always + kept)


def test_a_training_that_fails_while_it_is_watched_leaves_no_watcher():
    threads = set(threading.enumerate())
    with pytest.raises(ValueError, match="size=12; this model halves its images"):
        benchmark.grown("pixel", 12, 2)
    assert set(threading.enumerate()) == threads


def test_an_unknown_space_is_named():
    with pytest.raises(ValueError, match="no space 'f5'; choose from pixel, patch 4"):
        benchmark.benchmark(["f5"])


# Libraries ----------------------------------------------------------------------------


class Toy:
    """A library whose networks are single convolutions."""

    autoencodes, spaces = True, (LATENT,)

    def autoencoder(self):
        return nn.Conv2d(4, 3, 1, bias=False)

    def decode(self, vae, z):
        return vae(z)

    def unet(self, shape):
        return nn.Conv2d(shape[0], shape[0], 3, padding=1, bias=False)

    def predict(self, unet, z_t, t):
        return unet(z_t)

    def draw(self, unet, z_T, steps):
        for _ in range(steps):
            z_T = unet(z_T)
        return z_T


def test_operations_of_a_step_and_of_drawing_are_those_of_one_image():
    step = prepare(Toy(), Work(5, LATENT), steps=7)
    draw = prepare(Toy(), Work(5, LATENT, draws=True), steps=7)
    forward, decoding = 2 * 9 * 4 * 4 * 64, 2 * 4 * 3 * 64
    assert step.parameters == draw.parameters == 9 * 4 * 4
    assert step.flops == forward and draw.flops == 7 * forward + decoding
    assert count_flops(draw.call) == 5 * draw.flops
    assert draw.call().shape == (5, 3, 8, 8)
    # the input needs no gradient: forward, and the gradient of the weight
    assert count_flops(step.call) == 5 * 2 * forward


def test_rates_and_ratios(slow_clock, monkeypatch):
    monkeypatch.setattr(against, "CONVOLUTIONS", ((1, 1, 1),))
    flops = 3 * 2 * 9  # of that convolution, with both gradients
    times = [("torch.contiguous", (9.0,)), ("torch.channels", (2.0,))]
    times += [("diffusers", (8.0, 4.0, 12.0)), (OURS, (2.0,))]
    slow_clock(against, times)
    work = Work(5, LATENT)
    systems = {name: prepare(Toy(), work, 1) for name in (OURS, "diffusers")}
    ours, theirs = rows_of_work("latent UNet step", work, systems, repeats=3)
    assert (ours["system"], theirs["system"]) == (OURS, "diffusers")
    assert_close([ours["to_diffusers"], theirs["to_diffusers"]], [4.0, 1.0])
    assert_close(theirs["images_per_second"], 5 / 8)
    assert_close(theirs["images_per_second_spread"], [5 / 12, 5 / 4])
    done = 5 * 2 * systems[OURS].flops
    assert_close(ours["gflops_per_second"], done / 2 / 1e9)
    assert_close(ours["rate_share"], (done / 2) / (flops / 2))

    draws = Work(5, LATENT, draws=True)
    (row, _) = rows_of_work("latent sampling", draws, systems, repeats=1)
    assert "rate_share" not in row


def test_operations_of_the_convolutions_that_set_the_bound(monkeypatch):
    monkeypatch.setattr(against, "CONVOLUTIONS", ((2, 8, 4), (1, 4, 8)))
    made = against.convolutions()
    assert len(made) == 4
    for ready in made.values():
        assert ready.flops == count_flops(ready.call)


def test_a_training_step_moves_the_weights_and_leaves_no_gradient():
    linear = nn.Linear(3, 1)
    before = linear.weight.clone()
    step = training_step(linear, lambda: linear(torch.ones(1, 3)).sum())
    step()
    assert (linear.weight < before).all() and linear.weight.grad is None


def test_the_same_work_beside_diffusers(monkeypatch):
    monkeypatch.setattr(against, "CONVOLUTIONS", ((1, 8, 8),))
    works = {"latent UNet step": Work(1, LATENT), "autoencoder step": Work(1)}
    rows = against.time_libraries(["diffusers"], 1, works)
    told = [(row["work"], row["system"]) for row in rows]
    systems = [OURS, "diffusers"], [OURS, PATCHED, "diffusers"]
    assert told == [(w, s) for w, of in zip(works, systems, strict=True) for s in of]
    for row in rows:
        assert row["images_per_second"] > 0 and row["rate_share"] > 0
        assert row["to_diffusers"] == 1 or row["system"] != "diffusers"


def test_who_takes_part():
    def names(work):
        return [k for k in LIBRARIES if against.takes_part(LIBRARIES[k](), work)]

    assert names(against.WORKS["autoencoder step"]) == [OURS, PATCHED, "diffusers"]
    assert names(against.WORKS["latent sampling"]) == [OURS, *PEERS]
    assert names(against.WORKS["pixel UNet step"]) == list(LIBRARIES)


def test_unets_have_the_same_size(library):
    for shape in library.spaces:
        unet = library.unet(shape)
        assert 4e6 < count_parameters(unet) < 5e6
        z, t = torch.randn(2, *shape), torch.tensor([3, 700])
        if shape == LATENT:
            with torch.no_grad():
                assert library.predict(unet, z, t).shape == z.shape


def test_libraries_draw(library):
    """In few steps, and without a word."""
    shape = library.spaces[0]
    if shape == PIXEL:
        pytest.skip("the same sampler as that of the other UNets of this library")
    unet = library.unet(shape).eval()
    with torch.no_grad():
        z_0 = library.draw(unet, torch.randn(2, *shape), 2)
    assert z_0.shape == (2, *shape) and z_0.isfinite().all()


def test_autoencoders_state_the_kl_per_latent_element():
    pytest.importorskip("diffusers")
    library = LIBRARIES["diffusers"]()
    vae = library.autoencoder()
    assert count_parameters(vae) == pytest.approx(3.0e6, rel=0.01)
    x = torch.rand(1, *PIXEL) * 2 - 1
    with torch.no_grad():
        x_hat, kl = library.through(vae, x)
        q = vae.encode(x).latent_dist
    assert x_hat.shape == x.shape and q.mean.shape == (1, *LATENT)
    assert_close(kl, kl_loss(DiagonalGaussian(q.mean, q.logvar)))


def test_smalldiffusion_sees_noise_added_to_an_array_that_keeps_its_scale():
    z_0, eps, t = (
        torch.randn(2, 4, 8, 8),
        torch.randn(2, 4, 8, 8),
        torch.tensor([9, 800]),
    )
    seen = []

    def unet(x, sigma):
        seen.extend([x, sigma])
        return x

    z_t = add_noise(z_0, eps, SCHEDULE.at(t, like=z_0))
    LIBRARIES["smalldiffusion"]().predict(unet, z_t, t)
    x, sigma = seen
    assert_close(x, z_0 + sigma * eps, atol=1e-4, rtol=1e-4)
    assert_close(sigma.flatten() ** -2, SCHEDULE.snr[t], atol=0, rtol=1e-3)


def test_what_is_not_installed_is_said_in_one_line(monkeypatch):
    monkeypatch.setattr(peers, "find_spec", lambda name: name == "diffusers" or None)
    peers.check_installed([])
    peers.check_installed(["diffusers"])
    with pytest.raises(ValueError, match=r"^smalldiffusion not installed: pip install"):
        peers.check_installed(["smalldiffusion"])
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"^smalldiffusion, diffusers not installed"):
        peers.check_installed(["smalldiffusion"])
    with pytest.raises(ValueError, match="no peer 'keras'; choose from diffusers, den"):
        peers.check_installed(["keras"])


def test_the_extra_names_every_peer():
    import tomllib
    from pathlib import Path

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    extra = project["project"]["optional-dependencies"]["peers"]
    assert [line.partition(">=")[0] for line in extra] == PEERS


# The race -----------------------------------------------------------------------------


@pytest.fixture
def ticking(monkeypatch):
    """A clock that every look moves on by a second."""
    clock = {"now": 0.0}

    def look():
        clock["now"] += 1.0
        return clock["now"]

    monkeypatch.setattr(race.time, "perf_counter", look)
    return clock


def line_fit(clock, best=min):
    """Fit w to 3 by gradient steps; judging takes an hour."""

    def judge(library, module):
        clock["now"] += 3600
        assert not module.training and not torch.is_grad_enabled()
        return float((module.weight - 3).abs())

    return race.Contest(
        work=Work(8),
        build=lambda library: nn.Linear(1, 1, bias=False),
        loss=lambda library, module, x: (module(x) - 3 * x).square().mean(),
        data=torch.randn(64, 1),
        judge=judge,
        best=best,
        unit="distance",
    )


def test_a_run_trains_for_its_seconds_and_no_longer(ticking):
    found = race.train_for(line_fit(ticking), OURS, 0.1, seconds=200)
    assert (found["steps"], found["images"]) == (200, 1600)
    assert found["result"] < 0.05
    short = race.train_for(line_fit(ticking), OURS, 0.1, seconds=3)
    assert short["steps"] == 3 and short["result"] > found["result"]


@pytest.mark.parametrize("best, ours, theirs", [(max, 3.0, 30.0), (min, 1.0, 10.0)])
def test_the_best_of_each_is_compared(monkeypatch, ticking, best, ours, theirs):
    contest = line_fit(ticking, best)
    monkeypatch.setattr(race, "contests", lambda *_: {"line": contest})

    def run(contest, system, learning_rate, seconds):
        result = learning_rate * (10 if system == "diffusers" else 1)
        return {"system": system, "learning_rate": learning_rate, "result": result}

    monkeypatch.setattr(race, "train_for", run)
    rates = {OURS: (1.0, 2.0, 3.0), "diffusers": (1.0, 2.0, 3.0)}
    found = race.race(5.0, rates=rates)["line"]
    assert found["best"] == {OURS: ours, "diffusers": theirs}
    assert [r["system"] for r in found["runs"]] == [OURS, "diffusers"] * 3
    assert [r["learning_rate"] for r in found["runs"]] == [1, 1, 2, 2, 3, 3]


def test_a_run_that_diverges_is_told_and_never_best(monkeypatch, ticking):
    monkeypatch.setattr(race, "contests", lambda *_: {"line": line_fit(ticking)})
    rates = {OURS: (0.1, float("inf")), "diffusers": (float("inf"), float("inf"))}
    found = race.race(20.0, rates=rates)
    results = [run["result"] for run in found["line"]["runs"]]
    assert results[1:] == [None] * 3 and results[0] < 3
    assert found["line"]["best"] == {OURS: results[0], "diffusers": None}
    lines = list(shown.tables({"race": found}))
    runs = [line.split()[-1] for line in lines[2:]]
    assert runs == ["best", "diverged", "diverged", "diverged"]


def test_only_who_has_an_autoencoder_races_with_it(monkeypatch, ticking):
    latent = replace(line_fit(ticking), work=against.WORKS["latent UNet step"])
    found = {"line": line_fit(ticking), "latent": latent}
    monkeypatch.setattr(race, "contests", lambda *_: found)
    told = race.race(2.0, rates=dict.fromkeys(race.RATES, (0.1,)))
    assert list(told["line"]["best"]) == [OURS, PATCHED, "diffusers"]
    assert list(told["latent"]["best"]) == [OURS, "diffusers"]


def test_both_contests_can_be_trained_and_judged():
    library = LIBRARIES[OURS]()
    for name, contest in race.contests(images=4, judged=3).items():
        module = contest.build(library)
        batch = contest.data[torch.tensor([0, 3])]
        contest.loss(library, module, batch).backward()
        with torch.no_grad():
            result = contest.judge(library, module.eval())
        if name == "autoencoder":
            assert 0 < result < 30
        else:  # a new UNet predicts 0, and noise has unit variance
            assert contest.data.std() == pytest.approx(1, abs=0.3)
            assert result == pytest.approx(1, abs=0.15)


# What is shown ------------------------------------------------------------------------


@pytest.fixture
def report():
    space = dict.fromkeys(benchmark.MEASURES, 123456.789)
    rows = [
        {
            "work": work,
            "system": system,
            "gflops": 1.5,
            "images_per_second": 6.0,
            "to_diffusers": 2.0 if system == OURS else 1.0,
            "rate_share": 0.5,
        }
        for work in against.WORKS
        for system in (OURS, "denoising-diffusion-pytorch", "diffusers")
    ]
    run = {"system": OURS, "learning_rate": 1e-3, "images": 640, "result": 20.125}
    worse = run | {"learning_rate": 2e-3, "result": 19.0}
    other = run | {"system": "diffusers", "result": 15.0}
    line = {"unit": "PSNR in dB", "seconds": 5.0, "runs": [run, worse, other]}
    line["best"] = {OURS: 20.125, "diffusers": 15.0}
    spaces = {name: dict(space) for name in benchmark.SPACES}
    return {"spaces": spaces, "against": rows, "race": {"autoencoder": line}}


def test_tables_fit_a_terminal(report):
    lines = list(shown.tables(report))
    assert max(map(len, lines)) <= 100
    first = [line.split()[0] for line in lines[1 : 1 + len(benchmark.MEASURES)]]
    assert first == list(benchmark.MEASURES)
    assert sum("patch 4" in line for line in lines) == 1
    assert sum(line.startswith("pixel sampling") for line in lines) == 3
    (best, worse, other) = lines[-3:]
    assert best.endswith("20.12 best") and worse.endswith("19")
    assert other.endswith("15 best")


def test_bars_are_ratios():
    spaces = {
        name: dict.fromkeys(benchmark.MEASURES, value)
        for name, value in (("pixel", 24.0), ("f8", 2.0), ("f16", 1.0))
    }
    bars, label = shown.space_bars(spaces)
    assert "f8 = 1" in label
    assert set(bars["pixel"].values()) == {12.0}
    assert set(bars["f16"].values()) == {0.5}
    del spaces["f8"]
    assert set(shown.space_bars(spaces)[0]["pixel"].values()) == {24.0}


def test_the_figure_is_written(report, tmp_path):
    path = tmp_path / "benchmark.png"
    for parts in (["spaces"], ["against"], ["spaces", "against"]):
        shown.figure({part: report[part] for part in parts}, path)
        with Image.open(path) as picture:
            width, height = picture.size
        assert height > 0.3 * len(parts) * width
