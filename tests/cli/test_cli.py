"""The command line: from training to judging, and one line for every mistake."""

import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ldm_tutorial import LatentDiffusion, PixelCodec, UNet, UNetConfig, evaluation
from ldm_tutorial.cli import costs, judging, training
from ldm_tutorial.cli.main import COMMANDS, main
from ldm_tutorial.cost import peers
from ldm_tutorial.data import DataConfig, whole
from ldm_tutorial.landscapes.factors import CLASS_NAMES
from ldm_tutorial.training.checkpoint import read_checkpoint
from ldm_tutorial.training.folder import RunFolder

# The wings hand on functions of the names of these files.
benchmark = importlib.import_module("ldm_tutorial.cost.benchmark")
factor_report = importlib.import_module("ldm_tutorial.landscapes.factor_report")

SMALL = ["--preset", "smoke", "--size", "32", "--length", "16", "--train.steps", "2"]
SMALL += ["--train.batch_size", "8"]


@pytest.fixture
def run(capsys):
    """Run a command; gives its exit status and what it wrote to stdout and stderr."""

    def run(*arguments):
        status = 0
        try:
            main([str(a) for a in arguments])
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return run


@pytest.fixture(autouse=True)
def quick_search(monkeypatch):
    """A factor report searches for landscapes in a few steps instead of 200."""
    search = factor_report.nearest_landscapes

    def quick(x, y, judge, iterations, generator):
        return search(x, y, judge, 3, generator)

    monkeypatch.setattr(factor_report, "nearest_landscapes", quick)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folders of models that the smoke presets trained."""
    out = tmp_path_factory.mktemp("trained")
    smoke = ["--preset", "smoke", "--out"]
    main(["train-vae", *smoke, str(out / "vae")])
    main(["train-ldm", "--vae", str(out / "vae"), *smoke, str(out / "ldm")])
    main(["train-ldm", "--vae", "none", *smoke, str(out / "pixel")])
    return out


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Models of 32 x 32 pixels, trained on a folder of two classes, "7" and "3"."""
    out = tmp_path_factory.mktemp("small")
    for name, colour in (("7", (250, 40, 40)), ("3", (40, 40, 250))):
        (out / "photos" / name).mkdir(parents=True)
        for i in range(20):
            shade = tuple(max(0, c - 5 * i) for c in colour)
            path = out / "photos" / name / f"{i}.png"
            Image.new("RGB", (40, 36), shade).save(path)
    where = ["--data", str(out / "photos"), *SMALL, "--out"]
    main(["train-vae", *where, str(out / "vae")])
    main(["train-ldm", "--vae", str(out / "vae"), *where, str(out / "ldm")])
    return out


# --- the way through ----------------------------------------------------------------


def test_a_cpu_without_bf16_is_told_of(run, monkeypatch, tmp_path):
    """The presets ask for bf16, which would take such a machine for ever."""
    for has_bf16 in (True, False):
        answer = lambda device, has_bf16=has_bf16: has_bf16  # noqa: E731
        monkeypatch.setattr(training, "computes_bf16", answer)
        out = tmp_path / str(has_bf16)
        status, _, err = run(
            "train-vae", *SMALL, "--train.precision", "bf16", "--out", out
        )
        assert status == 0
        assert ("no instructions for bf16" in err) == (not has_bf16)


def test_training_leaves_weights_log_recipe_and_result(trained):
    for name, kind in (("vae", "VAE"), ("ldm", "LDM"), ("pixel", "LDM")):
        names = {path.name for path in (trained / name).iterdir()}
        assert names == {
            "checkpoint.pt",
            "config.json",
            "metrics.jsonl",
            "model.safetensors",
            "recipe.json",
            "result.json",
            "train_config.json",
        }
        recipe = json.loads((trained / name / "recipe.json").read_text())
        assert recipe["kind"] == f"{kind}Recipe" and recipe["train"]["steps"] == 20
        result = json.loads((trained / name / "result.json").read_text())
        assert result["steps"] == 20 and result["final"]["loss"] > 0
        lines = (trained / name / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == [5, 10, 15, 20]
    result = json.loads((trained / "vae" / "result.json").read_text())
    assert result["reconstruction"]["psnr"] > 10


def test_smoke_trainings_learn_something(trained):
    for name in ("vae", "ldm", "pixel"):
        lines = (trained / name / "metrics.jsonl").read_text().splitlines()
        first, *_, last = [json.loads(line)["loss"] for line in lines]
        assert last < 0.95 * first, name


@pytest.mark.parametrize("name", ["ldm", "pixel"])
def test_sample_writes_a_picture_that_the_seed_decides(trained, tmp_path, run, name):
    def sample(seed, out):
        status, text, err = run(
            *("sample", "--model", trained / name, "-n", 4, "--steps", 2),
            *("--seed", seed, "--out", tmp_path / out, "--guidance_scale", 2),
        )
        assert (status, err) == (0, "")
        assert text == f"wrote {tmp_path / out}: 4 images\n"
        return (tmp_path / out).read_bytes()

    first = sample(0, "a/b/grid.png")
    assert sample(0, "again.png") == first != sample(1, "other.png")
    with Image.open(tmp_path / "a/b/grid.png") as image:
        assert image.size == (2 * 66, 2 * 92) and image.mode == "RGB"


def test_a_training_notes_the_seconds_of_all_its_cores(trained):
    for name in ("vae", "ldm", "pixel"):
        assert json.loads((trained / name / "result.json").read_text())["cpu_seconds"]


def test_evaluate_prints_json_for_model_and_autoencoder(trained, run):
    command = ("evaluate", "-n", 8, "--steps", 2, "--json", "--model")
    status, out, err = run(*command, trained / "ldm")
    report = json.loads(out)
    assert (status, err) == (0, "")
    assert report["data"] == "landscapes" and report["size"] == 64
    assert report["samples"].keys() == {
        *("n", "steps", "sampler", "eta", "guidance_scale", "guidance_rescale"),
        *("features", "n_fake", "n_real", "factors"),
        *("class_agreement", "class_agreement_ci95", "class_accuracy_real"),
        *("frechet", "frechet_codec", "frechet_real"),
        *("precision", "precision_codec", "precision_real"),
        *("recall", "recall_codec", "recall_real"),
    }
    assert report["samples"]["features"] == "scenenet-judge"
    assert report["samples"]["n"] == report["reconstruction"]["n"] == 8
    assert report["samples"]["class_accuracy_real"] > 0.8

    status, out, err = run(*command, trained / "vae")
    assert status == 2 and "--steps 2: an autoencoder is not sampled" in err
    status, out, err = run("evaluate", "-n", 8, "--json", "--model", trained / "vae")
    assert (status, err) == (0, "") and "samples" not in json.loads(out)
    same = json.loads(out)["reconstruction"]["psnr"]
    assert same == pytest.approx(report["reconstruction"]["psnr"], abs=1e-3)


def test_evaluate_prints_a_table(small, run):
    status, out, err = run("evaluate", "--model", small / "ldm", "-n", 4, "--steps", 2)
    assert (status, err) == (0, "")
    head, *rows = [line.split() for line in out.splitlines()]
    assert head == ["95", "%", "real", "codec"]
    assert {row[0] for row in rows} == {"reconstruction", "samples"}
    assert {"psnr", "frechet", "class_agreement"} <= {row[1] for row in rows}


def test_evaluate_lays_samples_beside_their_nearest_training_images(
    small, run, tmp_path
):
    """Two rows of four: samples, and under them what they are most like."""
    out = tmp_path / "pairs.png"
    given = ("evaluate", "--model", small / "ldm", "-n", 4, "--steps", 2, "--json")
    status, printed, err = run(*given, "--nearest", out)
    assert (status, err) == (0, "")
    found = json.loads(printed)["copies"]
    assert found["n"] == 4 and found["training_images"] > 2 and found["distance"] > 0
    with Image.open(out) as picture:
        width, height = picture.size
    assert height == 2 * 34 and width in (34, 2 * 34, 3 * 34, 4 * 34)


def test_the_table_has_intervals_and_floors_beside_the_figures():
    figures = {"n": 64, "features": "thumbnails", "frechet": 2.0, "frechet_ci95": 0.25}
    figures |= {"frechet_real": 1.0, "frechet_codec": 0.0, "class_agreement": 0.5}
    figures |= {"class_accuracy_real": 0.96, "details": {"stars": {"recall": 0.25}}}
    rows = [row.split() for row in judging.table(figures)]
    assert rows == [
        ["n", "64"],
        ["features", "thumbnails"],
        ["frechet", "2", "±", "0.25", "1", "0"],
        ["class_agreement", "0.5", "0.96"],
        ["stars", "recall", "0.25"],
    ]


def test_the_folder_size_and_classes_of_the_training_are_remembered(
    small, tmp_path, run
):
    """An autoencoder does not know its image size; recipe.json beside it does."""
    for name in ("vae", "ldm"):
        steps = () if name == "vae" else ("--steps", 2)
        status, out, err = run(
            *("evaluate", "--model", small / name, "-n", 4, "--json", *steps)
        )
        assert (status, err) == (0, "")
        report = json.loads(out)
        assert report["size"] == 32 and report["data"] == str(small / "photos")
        assert report["reconstruction"]["n"] == 4  # a tenth of forty

    picture = tmp_path / "grid.png"
    command = ("sample", "--model", small / "ldm", "-n", 1, "--steps", 1)
    status, _, err = run(*command, "--label", "7", "--out", picture)
    assert (status, err) == (0, "")
    with Image.open(picture) as image:
        assert image.size == (66, 66 + 26)  # twice as large, with the name below
    named = picture.read_bytes()
    run(*command, "--label", "3", "--out", picture)
    assert picture.read_bytes() != named
    status, _, err = run(*command, "--label", "1", "--out", picture)  # "7" by number
    assert (status, err) == (0, "") and picture.read_bytes() == named


def test_a_model_may_be_judged_on_other_data(small, run):
    status, out, err = run(
        *("evaluate", "--model", small / "ldm", "--data", "landscapes", "--json"),
        *("-n", 4, "--steps", 1),
    )
    report = json.loads(out)
    assert (status, err) == (0, "") and report["data"] == "landscapes"
    assert report["size"] == 32 and "class_agreement" not in report["samples"]
    status, out, err = run(
        *("evaluate", "--model", small / "vae", "--size", 64, "--json", "-n", 4),
        *("--data", "landscapes"),
    )
    assert (status, err) == (0, "") and json.loads(out)["size"] == 64


def test_a_flat_folder_is_one_class(small, tmp_path, run):
    (tmp_path / "faces").mkdir()
    for path in (small / "photos" / "7").iterdir():
        shutil.copy(path, tmp_path / "faces")
    status, out, err = run(
        *("train-ldm", "--vae", small / "vae", "--data", tmp_path / "faces", *SMALL),
        *("--out", tmp_path / "ldm"),
    )
    assert status == 0 and "Traceback" not in err
    status, out, err = run(
        *("evaluate", "--model", tmp_path / "ldm", "-n", 4, "--steps", 1, "--json")
    )
    assert (status, err) == (0, "")
    assert "class_agreement" not in json.loads(out)["samples"]
    assert json.loads(out)["samples"]["frechet"] > 0


def test_data_says_how_fast_images_are_made(tmp_path, run):
    status, out, err = run(
        *("data", "--size", 16, "--length", 32, "-n", 10, "--out", tmp_path / "x.png")
    )
    assert (status, err) == (0, "")
    first, second = out.splitlines()
    assert first.startswith("landscapes, train: 32 images of 16x16 in 16 classes; made")
    assert float(first.split()[-2]) > 0 and first.endswith(" images/s")
    assert second == f"wrote {tmp_path / 'x.png'}: 10 images"
    x, _ = whole(DataConfig(size=16).load("train"), 10)
    with Image.open(tmp_path / "x.png") as image:
        pixels = np.asarray(image)
        assert image.size == (3 * 18, 4 * 18)
    shown = pixels[19:35, 37:53].transpose(2, 0, 1) / 127.5 - 1  # row 1, column 2
    assert abs(shown - x[5].numpy()).max() < 0.01
    assert not pixels[54:, 18:].any() and pixels[55:71, 1:17].any()


def test_data_takes_a_folder_and_a_bare_download(small, run):
    status, out, err = run(
        *("data", "--data", small / "photos", "--split", "test", "--size", 8),
        "--download",
    )
    assert (status, err) == (0, "")
    assert f"{small / 'photos'}, test: 4 images of 8x8 in 2 classes" in out
    assert "a folder for each class" in out and "40 PNG; sizes: 40x36" in out


def test_a_training_begins_with_what_was_found(small, tmp_path, run):
    where = ["--data", small / "photos", *SMALL, "--out", tmp_path / "run"]
    status, _, err = run("train-vae", *where)
    first = err.splitlines()[0]
    assert status == 0 and first == (
        f"{small / 'photos'}: 40 images; 2 classes; 16 of 32 to train, 4 to validate, "
        "4 to test; PNG, 40x36"
    )


@pytest.mark.parametrize("command", ["train-vae", "data"])
def test_bad_files_are_all_named_before_the_first_step(tmp_path, run, command):
    (tmp_path / "photos").mkdir()
    for i in range(12):
        Image.new("RGB", (16, 16), (9 * i, 0, 0)).save(tmp_path / "photos" / f"{i}.png")
    for name in ("3.png", "\x1b[2Jx.jpg"):
        (tmp_path / "photos" / name).write_bytes(b"\x89PNG cut")
    where = ["--data", tmp_path / "photos", "--size", 16]
    if command == "data":
        status, out, err = run("data", *where, "--out", tmp_path / "sheet.png")
        assert status == 0 and "cannot be read: 3.png" in out
        assert r"cannot be read: \x1b[2Jx.jpg" in out and "\x1b" not in out + err
        return
    options = [*where, *SMALL[2:], "--train.batch_size", 4, "--out", tmp_path / "run"]
    status, out, err = run(
        "train-vae", "--preset", "smoke", *options[:-2], *options[-2:]
    )
    assert status == 2 and "step/s" not in err
    assert "2 of 13 images in" in err and r"\x1b[2Jx.jpg (" in err and "3.png (" in err
    assert run("train-vae", "--preset", "smoke", *options, "--skip_bad")[0] == 0


def test_benchmark_compares_spaces(run, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "resident_bytes", lambda *_: 1)
    command = ("benchmark", "--spaces", "pixel,f8", "--size", 16, "-n", 1)
    status, out, err = run(*command, "--repeats", 1, "--json", "--out", tmp_path)
    report = json.loads(out)
    assert (status, err) == (0, "") and list(report["spaces"]) == ["pixel", "f8"]
    assert {"command", "device", "threads", "torch", "size", "repeats"} <= set(report)
    written = json.loads((tmp_path / "benchmark.json").read_text())
    assert written.pop("digest") and written == report
    assert (tmp_path / "benchmark.png").stat().st_size > 1000


def test_benchmark_stands_beside_other_libraries(run, monkeypatch):
    row = {"work": "latent sampling", "system": "ldm-tutorial", "gflops": 1.0}
    row |= {"images_per_second": 8.0, "to_diffusers": 1.75}
    asked = []

    def against(*arguments):
        asked.append(arguments)
        return [row]

    monkeypatch.setattr(costs, "time_libraries", against)
    monkeypatch.setattr(costs, "race", lambda seconds: asked.append(seconds) or {})
    command = ("benchmark", "--spaces", "none", "--against", "diffusers")
    status, out, err = run(*command, "--repeats", 3, "--race", 2)
    assert (status, err) == (0, "") and asked == [(["diffusers"], 3), 2.0]
    last = out.splitlines()[-1]
    assert re.fullmatch(r"latent sampling +ldm-tutorial +1 +8 +1\.75", last)


def test_benchmark_says_what_is_not_installed_before_it_measures(run, monkeypatch):
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    monkeypatch.setattr(costs, "run_benchmark", lambda *_: pytest.fail("measured"))
    status, out, err = run("benchmark", "--against", "diffusers")
    assert (status, out) == (2, "") and err.count("\n") == 1
    assert "diffusers not installed: pip install 'ldm-tutorial[peers]'" in err


def test_float16_halves_the_file(small, tmp_path, run):
    shutil.copytree(small / "vae", tmp_path / "vae")
    before = (tmp_path / "vae" / "model.safetensors").stat().st_size
    status, _, _ = run(
        *("train-vae", "--data", small / "photos", *SMALL, "--fp16"),
        *("--out", tmp_path / "vae"),
    )
    assert status == 0
    after = (tmp_path / "vae" / "model.safetensors").stat().st_size
    assert after == pytest.approx(before / 2, rel=0.1)


# --- resuming -------------------------------------------------------------------------


def test_a_stopped_training_goes_on_and_a_finished_one_returns_at_once(
    tmp_path, run, monkeypatch
):
    checkpoint = RunFolder.checkpoint

    def stop(self, step, seconds):
        checkpoint(self, step, seconds)
        signal.raise_signal(signal.SIGINT)

    command = ("train-vae", "--preset", "smoke", "--size", 16, "--out", tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "checkpoint", stop)
        status, out, err = run(*command)
    assert (status, out) == (130, "") and "Traceback" not in err
    bar, line = err.rstrip("\n").rsplit("\n", 1)
    assert " 0/20 " in bar and " 10/20 " in bar
    assert read_checkpoint(tmp_path)["step"] == 11  # that of the step it was in
    assert line == (
        "ldm-tutorial: error: stopped; the same command again goes on from the last "
        "checkpoint"
    )

    status, out, err = run(*command)
    assert status == 0 and " 11/20 " in err and " 20/20 " in err
    assert " 0/20 " not in err and " 5/20 " not in err  # it starts where it goes on
    assert err.endswith("\n")  # and is closed
    numbers, saved = out.splitlines()
    assert json.loads(numbers).keys() >= {"psnr", "ssim"}
    assert saved == f"saved {tmp_path}"

    before = {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    assert run(*command) == (0, out, "")
    assert {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()} == before


def test_control_c_elsewhere_is_one_line_too(trained, run, monkeypatch):
    def interrupt(*_, **__):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(evaluation, "evaluate_codec", interrupt)
    status, out, err = run("evaluate", "--model", trained / "vae")
    assert (status, out, err) == (130, "", "ldm-tutorial: error: stopped\n")


def test_running_out_of_memory_is_one_line(trained, run, monkeypatch):
    def exhaust(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 80 GiB.")

    monkeypatch.setattr(evaluation, "evaluate_codec", exhaust)
    status, _, err = run("evaluate", "--model", trained / "vae")
    assert status == 2 and err.count("\n") == 1 and "take a smaller batch" in err


def test_a_mistake_of_ours_keeps_its_traceback(trained, run, monkeypatch):
    def bug(*_, **__):
        raise RuntimeError("a bug")

    monkeypatch.setattr(evaluation, "evaluate_codec", bug)
    with pytest.raises(RuntimeError, match="a bug"):
        run("evaluate", "--model", trained / "vae")


# --- help -----------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_every_command(run, command):
    status, out, err = run(command, "--help")
    assert (status, err) == (0, "") and out.startswith("usage: ldm-tutorial")
    assert "0x" not in out  # addresses in memory
    status, out, err = run("--help")
    assert (status, err) == (0, "") and command in out


@pytest.mark.parametrize(
    "options, expected",
    [
        (["--preset", "smoke"], "default: 20)"),
        (["--preset=gpu"], "default: 60000)"),
        ([], "default: 4000)"),
    ],
)
def test_help_shows_the_defaults_of_the_preset(run, options, expected):
    for arguments in (["--help", *options], [*options, "--help"]):
        status, out, _ = run("train-ldm", *arguments)
        (line,) = [x for x in out.splitlines() if x.startswith("  --train.steps")]
        assert status == 0 and line.endswith(expected)


def test_a_pixel_model_has_patches_by_default(run):
    for vae, expected in (("none", "default: 4)"), ("vae-f8", "default: 1)")):
        _, out, _ = run("train-ldm", "--vae", vae, "--help")
        text = " ".join(out.split("--unet.patch_size PATCH_SIZE")[-1].split())
        assert text.split("(type: int, ")[1].startswith(expected)


# --- mistakes -------------------------------------------------------------------------

MISTAKES = [
    ("", "expected "),
    ("bogus", "invalid choice: 'bogus'"),
    ("--bogus", "nrecognized arguments: --bogus"),
    ("train-vae", "required: --out"),
    ("train-vae {new} --preset bogus", "--preset: invalid choice: 'bogus'"),
    ("train-vae {new} --data /nowhere", "no data set or folder '/nowhere'"),
    ("train-vae {new} --data flowers102", "fetch it with .*--download"),
    ("train-vae {new} --size 60", "size must be a multiple of 8"),
    ("train-vae {new} --size 72 --vae.downsampling 16", "a multiple of 16"),
    ("train-vae {new} --vae.downsampling 3", "give a power of two"),
    ("train-vae {new} --vae.channels []", "channels=.*; give 1 or more"),
    ("train-vae {new} --train.steps x", "--train.steps: Expected a int.* Got value: x"),
    ("train-vae {new} --train.steps 0", "steps=0; give 1 or more"),
    ("train-vae {new} --train.precision fp16", "needs a GPU; on a CPU give no or bf16"),
    ("train-vae {new} --length 0", "length=0; give 1 or more"),
    ("train-vae {smoke} --out {file}/x", "cannot write to .* is a file"),
    ("train-vae {smoke} --out /proc/new", "cannot .* /proc/new"),
    ("train-vae {smoke} --out {vae} --train.steps 19", "train.steps=20, and train.st"),
    ("train-vae {smoke} --out {ldm}", "holds a run with kind=LDMRecipe"),
    ("train-ldm {new} --vae {vae} --channels 1", "leave channels at 3"),
    ("train-vae {new} --background blau", "'blau' is no colour"),
    ("train-vae {new} --fit stretch", "--fit: invalid choice|--fit"),
    ("train-ldm {new} --vae {ldm}", "of kind 'LatentDiffusion'; wanted 'LatentCodec'"),
    ("train-ldm {new} --vae /nowhere", "no model at '/nowhere'"),
    ("train-ldm {new} --vae {few}", "no model at"),
    ("train-ldm {new} --vae {vae} --size 24", "give a multiple of 16"),
    ("train-ldm {new} --vae {vae} --unet.channels [40]", "channels a multiple of 32"),
    ("train-ldm {new} --vae {vae} --schedule.num_train_timesteps 0", "timesteps=0; g"),
    ("train-ldm {smoke} --vae {vae} --out {vae}", "holds a run with kind=VAERecipe"),
    ("sample --model /nowhere", "no model at '/nowhere'"),
    ("sample --model {vae}", "of kind 'LatentCodec'; wanted 'LatentDiffusion'"),
    ("sample --model {ldm} -n 0", "-n 0: give a number of images from 1 on"),
    ("sample --model {ldm} -n two", "-n: Expected a int"),
    ("sample --model {ldm} --steps 0", "a number from 1 to 1000"),
    ("sample --model {ldm} --steps 1001", "a number from 1 to 1000"),
    ("sample --model {ldm} --label mars", "'mars' is unknown; choose from dawn forest"),
    ("sample --model {ldm} --label 16", "knows 0 to 15"),
    ("sample --model {ldm} --label -1", "knows 0 to 15|expected one argument"),
    ("sample --model {ldm} --sampler euler", "'euler' is unknown; choose"),
    ("sample --model {ldm} --eta 2", "eta=2.0; give 0"),
    ("sample --model {ldm} --eta 1 --sampler ddpm", "eta=1.0 is an option of ddim"),
    ("sample --model {ldm} --guidance_rescale -1", "guidance_rescale=-1.0; give 0 to"),
    ("train-ldm --vae none {new} --autoencoder joint", "asked of a pixel model"),
    ("train-ldm --vae {vae} {new} --autoencoder x", "--autoencoder"),
    ("train-ldm --vae {vae} {new} --min_snr_gamma -1", "give more than 0"),
    ("train-ldm --vae {vae} {new} --logit_normal [0,-1]", "deviation above 0"),
    ("train-ldm --vae {vae} {new} --logit_normal [0]", "--objective.logit_normal"),
    ("sample --model {ldm} --seed -1", "--seed -1: give 0 or more"),
    ("sample --model {ldm} --out {file}/grid.png", "cannot write to .* is a file"),
    ("sample --model {ldm} --out {few}/grid.xyz", "a file name that ends in .png"),
    ("sample --model {ldm} --out {few}", "a file name that ends in .png"),
    ("sample --model {free} --guidance_scale 2 --out {new_png}", "unconditional model"),
    ("sample --model {free} --label 0 --out {new_png}", "unconditional"),
    ("evaluate --model /nowhere", "no model at '/nowhere'"),
    ("evaluate --model {ldm} -n 1", "give a number of images from 2 on"),
    ("evaluate --model {ldm} --size 32", "makes images of 64; leave --size out"),
    ("evaluate --model {ldm} --steps 1001", "a number from 1 to 1000"),
    ("evaluate --model {ldm} --data cifar10 -n 2 --steps 1", "with .*--download"),
    ("evaluate --model {vae} --size 20", "size must be a multiple of 8"),
    ("evaluate --model {vae} --nearest x.png", "an autoencoder draws no samples"),
    ("evaluate --model real --nearest x.png", "no model was trained on anything"),
    ("evaluate --model {ldm} --nearest {few}/x.pdf", "a file name that ends in .png"),
    ("evaluate --capstone --nearest x.png", "judges all models alike; leave it out"),
    ("reproduce kl_study --data {few}", "is about landscapes; leave --data out"),
    ("benchmark --spaces f8,mars", "no space 'mars'; choose from pixel, patch 4"),
    ("benchmark --spaces none", "leaves nothing to measure; give --against"),
    ("benchmark --repeats 0", "--repeats 0: give 1 or more"),
    ("benchmark --size 24", "give a multiple of 16"),
    ("benchmark --size 0", "size must be a multiple of 8"),
    ("benchmark --against keras", "no peer 'keras'; choose from diffusers"),
    ("benchmark --race 5", "--race needs --against diffusers"),
    ("benchmark --race -1", "--race -1.0: give a number of seconds"),
    ("benchmark --out {file}", "cannot write to .* is a file"),
    ("data -n 0", "give a number of images from 1 on"),
    ("data --split all", "invalid choice: 'all'"),
    ("data --data eurosat", "fetch it with .*--download"),
    ("data --data {file}", "is a file: give the folder"),
    ("data --data ~no-one/x", "the home folder of a user who is not known here"),
    ("data --data {few} --length 0", "length=0; give 1 or more"),
    ("data --size 1099511627776", "--size 1099511627776: give images of at most"),
    ("data --out {few}/x.pdf", "a file name that ends in .png"),
]


@pytest.fixture(scope="module")
def places(trained, tmp_path_factory):
    """What the commands in MISTAKES may name."""
    out = tmp_path_factory.mktemp("places")
    (out / "few").mkdir()
    for i in range(6):
        Image.new("RGB", (32, 32), (40 * i, 0, 0)).save(out / "few" / f"{i}.png")
    (out / "file").write_text("not a folder")
    unet = UNet(UNetConfig(in_channels=3, channels=(32,), attention_levels=()))
    LatentDiffusion(PixelCodec(), unet, image_size=16).save(out / "free")
    names = {name: out / name for name in ("few", "file", "free")}
    names |= {"vae": trained / "vae", "ldm": trained / "ldm"}
    names |= {"smoke": "--preset smoke", "new_png": out / "new.png"}
    names["new"] = f"--preset smoke --out {out / 'new'}"
    return {"root": out, "names": names}


def tree(*folders: Path):
    files = [path for folder in folders for path in folder.rglob("*")]
    return {path: path.stat().st_mtime_ns for path in files}


@pytest.mark.parametrize("command, message", MISTAKES, ids=[c for c, _ in MISTAKES])
def test_a_mistake_gets_one_line_and_changes_nothing(
    places, trained, run, command, message, monkeypatch
):
    monkeypatch.setenv("LDM_TUTORIAL_DATA", str(places["root"] / "no data"))
    monkeypatch.chdir(places["root"])
    before = tree(places["root"], trained)
    status, out, err = run(*command.format(**places["names"]).split())
    assert (status, out) == (2, "")
    assert err.startswith("ldm-tutorial: error: ") and err.count("\n") == 1
    assert re.search(message, err), err
    assert "Traceback" not in err and "\r" not in err
    assert tree(places["root"], trained) == before


@pytest.mark.parametrize("command", ["train-vae", "sample", "data"])
def test_a_folder_without_permission_is_refused_first(
    places, tmp_path, run, monkeypatch, command
):
    monkeypatch.setattr(os, "access", lambda *_: False)
    arguments = {"sample": ["--model", places["names"]["ldm"]]}.get(command, [])
    status, out, err = run(command, *arguments, "--out", tmp_path / "new" / "x.png")
    assert (status, out) == (2, "") and err.count("\n") == 1
    assert "no permission; change --out" in err


def damage(folder: Path, how: str) -> None:
    config, weights = folder / "config.json", folder / "model.safetensors"
    values = json.loads(config.read_text())
    if how == "weights cut off":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif how == "weights missing":
        weights.unlink()
    elif how == "config cut off":
        config.write_text(config.read_text()[:50])
    elif how == "config without its kind":
        config.write_text("{}")
    elif how == "config of nothing known":
        config.write_text('{"kind": "Something"}')
    elif how == "config without a part":
        part = "codec" if "codec" in values else "vae"
        config.write_text(json.dumps({k: v for k, v in values.items() if k != part}))
    else:
        codec = values.get("codec", values)
        codec["vae"]["latent_channels"] = 8  # of another size than the weights
        config.write_text(json.dumps(values))


@pytest.mark.parametrize(
    "how",
    [
        "weights cut off",
        "weights missing",
        "config cut off",
        "config without its kind",
        "config of nothing known",
        "config without a part",
        "config of another model",
    ],
)
@pytest.mark.parametrize("kind", ["vae", "ldm"])
def test_damaged_models_are_refused_in_one_line(trained, tmp_path, run, kind, how):
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(trained / kind / name, folder / name)
    damage(folder, how)
    commands = [("evaluate", "--model", folder, "-n", 2, "--steps", 1)]
    if kind == "vae":
        commands += [("train-ldm", "--vae", folder, *SMALL, "--out", tmp_path / "new")]
    else:
        commands += [("sample", "--model", folder, "--out", tmp_path / "new")]
    for command in commands:
        status, out, err = run(*command)
        assert (status, out) == (2, "") and err.count("\n") == 1, err
        assert not (tmp_path / "new").exists()


def test_a_damaged_checkpoint_is_named(trained, tmp_path, run):
    shutil.copytree(trained / "vae", tmp_path / "vae")
    (tmp_path / "vae" / "result.json").unlink()
    path = tmp_path / "vae" / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:5000])
    status, out, err = run("train-vae", "--preset", "smoke", "--out", tmp_path / "vae")
    assert (status, out) == (2, "") and err.count("\n") == 1
    assert f"{path} is damaged or no checkpoint; put a copy in its place" in err


# --- as a program -------------------------------------------------------------------


def test_the_installed_command_survives_a_kill(trained, tmp_path, run):
    """SIGKILL between two checkpoints; resumed, it ends in the same bits."""
    script = Path(sys.executable).with_name("ldm-tutorial")
    out, log = tmp_path / "vae", tmp_path / "vae" / "metrics.jsonl"
    command = ["train-vae", "--preset", "smoke", "--out", str(out)]
    child = subprocess.Popen(
        [script, *command], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    for _ in range(6000):
        if child.poll() is not None or (log.exists() and len(log.read_text()) > 200):
            break
        time.sleep(0.02)
    child.kill()
    _, err = child.communicate()
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines()]
    assert child.returncode == -signal.SIGKILL, err
    assert steps in ([5, 10], [5, 10, 15]) and not (out / "result.json").exists()

    (out / "checkpoint.pt.new").write_bytes(b"half a checkpoint")
    with log.open("a") as file:
        file.write('{"step": 20, "lo')
    assert run(*command)[0] == 0
    for name in ("model.safetensors", "recipe.json"):
        whole = (trained / "vae" / name).read_bytes()
        assert (out / name).read_bytes() == whole, name
    lines = [
        [json.loads(line) | {"seconds": 0} for line in path.read_text().splitlines()]
        for path in (log, trained / "vae" / "metrics.jsonl")
    ]
    assert lines[0] == lines[1]


def test_as_a_module_it_imports_no_heavy_package(tmp_path):
    command = [sys.executable, "-X", "importtime", "-m", "ldm_tutorial.cli", "bogus"]
    env = os.environ | {"PYTHONWARNINGS": "error"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=env)
    lines = done.stderr.splitlines()
    imported = {line.split("|")[-1].strip() for line in lines if "|" in line}
    rest = [line for line in lines if not line.startswith("import time:")]
    assert done.returncode == 2 and done.stdout == ""
    assert len(rest) == 1 and rest[0].startswith("ldm-tutorial: error: ")
    assert {"torch", "jsonargparse", "ldm_tutorial.training.recipes"} <= imported
    assert not {"torchvision", "torchmetrics", "accelerate", "matplotlib"} & imported


def test_the_names_of_classes_are_those_of_the_data(trained):
    config = json.loads((trained / "ldm" / "config.json").read_text())
    assert config["classes"] == CLASS_NAMES


def test_real_images_in_place_of_samples_get_the_floors(run):
    status, out, err = run("evaluate", "--model", "real", "-n", 40, "--json")
    assert (status, err) == (0, "")
    report = json.loads(out)
    samples = report["samples"]
    assert samples["frechet"] == samples["frechet_real"]
    assert samples["class_agreement"] == samples["class_accuracy_real"] > 0.9
    factors = samples["factors"]
    assert factors["agreement_class"] == factors["agreement_class_real"]
    assert factors["forbidden_any"] <= 0.05 and factors["judge_time"] > 0.9
