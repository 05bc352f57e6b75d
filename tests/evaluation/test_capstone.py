"""The capstone: what a model cost, how it is judged on hidden seeds, and its card."""

import importlib
import json
from dataclasses import asdict, replace

import pytest
import torch
from cards import a_card

from ldm_tutorial import (
    AutoencoderKL,
    LatentCodec,
    LatentDiffusion,
    PixelCodec,
    UNet,
    UNetConfig,
    VAEConfig,
)
from ldm_tutorial.cli.main import main
from ldm_tutorial.evaluation import capstone
from ldm_tutorial.evaluation.capstone import HiddenLandscapes, cpu_seconds, record_of
from ldm_tutorial.evaluation.leaderboard import check_card, read_board, read_card
from ldm_tutorial.landscapes.factors import CLASS_NAMES
from ldm_tutorial.records import write_record
from ldm_tutorial.training import presets
from ldm_tutorial.training.folder import digest, settings
from ldm_tutorial.training.recipes import LDMRecipe, VAERecipe, build_ldm

RECIPE = LDMRecipe(unet=UNetConfig(channels=(32,), num_res_blocks=1, patch_size=8))
SMALL = VAERecipe(vae=VAEConfig(channels=(8, 8, 8, 8)))


def finish(folder, model, recipe, codec=None):
    """Leave what a command of two steps and 30 CPU seconds leaves."""
    model.save(folder)
    (folder / "recipe.json").write_text(json.dumps(settings(recipe, codec)))
    (folder / "metrics.jsonl").write_text('{"step": 2, "loss": 1, "seconds": 25.5}\n')
    report = {"recipe": asdict(recipe), "seconds": 25.5, "cpu_seconds": 30.0}
    report |= {"seed": 0, "steps": 2, "device": "CPU (x86_64)", "threads": 1}
    write_record(folder / "result.json", report)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folders as the commands leave them, of models that nobody has trained."""
    out = tmp_path_factory.mktemp("capstone")
    vae = LatentCodec(AutoencoderKL(SMALL.vae))
    finish(out / "vae", vae, SMALL)
    for name, codec in (("mine", vae), ("pixel", PixelCodec())):
        model = build_ldm(RECIPE, codec, tuple(CLASS_NAMES))
        finish(out / name, model, RECIPE, codec)
    return out


@pytest.fixture
def run(trained, tmp_path):
    """A finished training of a diffusion model on pixels, to be changed."""
    folder = tmp_path / "run"
    folder.mkdir()
    for path in (trained / "pixel").iterdir():
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture(autouse=True)
def quick_search(monkeypatch):
    """A factor report searches for landscapes in a few steps instead of 200."""
    report = importlib.import_module("ldm_tutorial.landscapes.factor_report")
    search = report.nearest_landscapes

    def quick(x, y, judge, iterations, generator):
        return search(x[:4], y[:4], judge, 2, generator)

    monkeypatch.setattr(report, "nearest_landscapes", quick)


def change(folder, **values):
    path = folder / "result.json"
    report = json.loads(path.read_text())
    report["recipe"] |= values.pop("recipe", {})
    del report["digest"]
    write_record(path, report | values)


def test_the_hidden_seed_is_used_nowhere_else():
    """The training images are those that everybody has; the others nobody has seen."""
    hidden, plain = HiddenLandscapes(), presets.LDM_PRESETS["cpu"]
    for split in ("train", "validation", "test"):
        same = torch.equal(hidden.load(split, 1)[0][0], plain.load(split, 1)[0][0])
        assert same == (split == "train")
    seeds = [p.train.seed for p in presets.LDM_PRESETS.values()]
    assert capstone.SEED not in seeds


def test_cpu_seconds_are_those_of_all_trainings(trained):
    pixel = cpu_seconds(trained / "pixel")
    record = json.loads((trained / "pixel" / "result.json").read_text())
    assert pixel["cpu_seconds"] == pytest.approx(record["cpu_seconds"], abs=0.1)
    assert pixel["cpu_seconds"] > 0 and set(pixel["runs"]) == {"denoiser"}
    both = cpu_seconds(trained / "mine", trained / "vae")
    parts = [run["cpu_seconds"] for run in both["runs"].values()]
    assert both["cpu_seconds"] == pytest.approx(sum(parts), abs=0.1)
    assert set(both["runs"]) == {"denoiser", "autoencoder"}


def test_a_run_that_went_on_is_counted_by_the_clock(run):
    change(run, cpu_seconds=None, threads=2)
    seconds = record_of(run)["seconds"]
    assert cpu_seconds(run)["cpu_seconds"] == pytest.approx(2 * seconds, abs=0.1)


def test_the_shipped_autoencoder_is_free(run, trained):
    free = capstone.free_codecs()
    assert digest(capstone.LatentCodec.load("vae-f8")) in free and len(free) > 1
    assert digest(capstone.LatentCodec.load(trained / "vae")) not in free
    recipe = json.loads((run / "recipe.json").read_text())
    (run / "recipe.json").write_text(json.dumps(recipe | {"codec": min(free)}))
    assert set(cpu_seconds(run)["runs"]) == {"denoiser"}


REFUSED = {
    "over budget": ({"cpu_seconds": 601.0}, "took 601 CPU seconds and the budget"),
    "a GPU": ({"device": "NVIDIA H100"}, "trained on NVIDIA H100, and the budget"),
    "a start": ({"recipe": {"init": "ldm-f8"}}, "began with the weights of ldm-f8"),
    "a decoder": ({"recipe": {"decoder": "runs/x"}}, "has the decoder of runs/x"),
    "other seconds": ({"seconds": 0.001}, "was changed after the training"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_the_budget_does_not_cover_is_refused(run, what):
    values, words = REFUSED[what]
    change(run, **values)
    with pytest.raises(ValueError, match=words) as caught:
        cpu_seconds(run)
    assert "\n" not in str(caught.value)


def test_records_changed_by_hand_are_refused(run):
    path = run / "result.json"
    path.write_text(path.read_text().replace('"threads": ', '"threads": 1'))
    with pytest.raises(ValueError, match=r"result.json was changed after"):
        cpu_seconds(run)
    path.write_text("{")
    with pytest.raises(ValueError, match=r"is no finished training: it needs"):
        cpu_seconds(run)


def test_ones_own_autoencoder_counts(trained):
    with pytest.raises(ValueError, match=r"give the folder of its training: --vae DIR"):
        cpu_seconds(trained / "mine")


def test_a_card_holds_what_was_judged_and_what_it_cost(trained, monkeypatch):
    judged = capstone.evaluate_samples
    monkeypatch.setattr(
        capstone, "evaluate_samples", lambda *a, **k: seen.append(k) or judged(*a, **k)
    )
    seen = []
    model = LatentDiffusion.load(trained / "pixel")
    spent = cpu_seconds(trained / "pixel")
    card = capstone.judge_capstone(model, spent, "Ada", images=20, steps=1)
    assert seen[0]["seed"] == capstone.SEED
    assert card["samples"]["frechet"] > 3 * card["samples"]["frechet_real"] > 0
    assert {"frechet_ci95", "class_agreement"} <= set(card["samples"])
    assert {"tv_tree_count", "forbidden_any_real"} <= set(card["factors"])
    assert card["parameters"] == sum(p.numel() for p in model.denoiser.parameters())
    with pytest.raises(ValueError, match=r"judged on 20 images, not 1000"):
        check_card(card)


def test_other_images_are_no_capstone():
    net = UNet(UNetConfig(channels=(32,), num_res_blocks=1, in_channels=3))
    for size, classes in ((32, CLASS_NAMES), (64, ("one",))):
        model = LatentDiffusion(PixelCodec(), net, image_size=size)
        model.classes = tuple(classes)
        with pytest.raises(ValueError, match=r"the capstone is about landscapes of 64"):
            capstone.judge_capstone(model, {})


def test_the_reference_fits_into_the_budget():
    recipe = presets.LDM_PRESETS["capstone"]
    assert recipe.init is None and recipe.decoder is None
    assert recipe == replace(recipe, data="landscapes", size=64)


# The command


def ask(capsys, *arguments):
    status = 0
    try:
        main(["evaluate", *map(str, arguments)])
    except SystemExit as stop:
        status = stop.code
    return status, *capsys.readouterr()


def test_the_command_judges_and_puts_the_card_on_a_board(
    trained, tmp_path, monkeypatch, capsys
):
    card = a_card(name="Ada")
    monkeypatch.setattr(
        "ldm_tutorial.cli.capstone.judge_capstone", lambda *a, **k: card
    )
    files = ["--out", tmp_path / "card.json", "--board", tmp_path / "board.json"]
    mine = ["--capstone", "--model", trained / "pixel", "--name", "Ada"]
    status, out, _ = ask(capsys, *mine, *files)
    assert status == 0 and "Capstone: Ada" in out and "  1  " in out
    assert read_card(tmp_path / "card.json") == card
    other = a_card(name="Max", frechet=1.0)
    (tmp_path / "other.json").write_text(json.dumps(other))
    ask(capsys, "--capstone", "--card", tmp_path / "other.json", *files[2:])
    names = [c["name"] for c in read_board(tmp_path / "board.json")["cards"]]
    assert names == ["Max", "Ada"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--capstone --model ldm-f8", "ldm-f8 is shipped; train a model of your own"),
        ("--capstone --model /nowhere", "no model at '/nowhere'"),
        (
            "--capstone --seed 1 --model ldm-f8",
            "--seed: the capstone judges all models alike",
        ),
        ("--capstone -n 10 --model ldm-f8", "--n: the capstone judges all models"),
        ("--capstone --card x.json", "add --board FILE"),
        ("--capstone --card /none.json --board b.json", "cannot open or write /none"),
        ("--board b.json", "--board belongs to the capstone; add --capstone"),
        ("--capstone --out . --model ldm-f8", "it is a folder; give a file"),
    ],
)
def test_a_mistake_gives_one_line(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    status, out, err = ask(capsys, *arguments.split())
    assert status == 2 and not out
    assert words in err and err.count("\n") == 1
