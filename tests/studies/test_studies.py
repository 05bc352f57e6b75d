"""Studies: they resume, record what they did, and records are not changed by hand."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import torch
from PIL import Image
from records import filled
from tiny_scales import TINY
from torch.testing import assert_close

import ldm_tutorial
from ldm_tutorial import studies
from ldm_tutorial.cli.main import main
from ldm_tutorial.diffusion import logit_normal_times
from ldm_tutorial.machine import commit
from ldm_tutorial.records import fingerprint, pictures, results, write_pictures
from ldm_tutorial.samplers import SAMPLERS
from ldm_tutorial.schedule import NoiseSchedule
from ldm_tutorial.storage import ROOTS, config_to_dict
from ldm_tutorial.studies.ddpm_ablation import DDPM_ARMS, MATCHED
from ldm_tutorial.studies.reproduce import SCALES, STUDIES, Study, reproduce
from ldm_tutorial.training import presets


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(SCALES, "smoke", TINY)


@pytest.fixture
def toy(monkeypatch):
    """A study of two arms that only count how often they ran."""
    ran = []

    def arm(name, folder):
        ran.append(name)
        return {"value": len(name)}, {"picture": torch.zeros(2, 3, 8, 8)}

    def arms(scale):
        return {name: lambda folder, name=name: arm(name, folder) for name in "ab"}

    monkeypatch.setitem(STUDIES, "toy", Study("Does it count?", arms))
    return ran


def test_arms_that_are_done_are_not_run_again(toy, tmp_path):
    assert reproduce("toy", "smoke", tmp_path, only=["b"]) is None
    path = reproduce("toy", "smoke", tmp_path)
    assert toy == ["b", "a"]
    assert path == tmp_path / "toy.json"
    first = path.read_text()
    reproduce("toy", "smoke", tmp_path)
    assert toy == ["b", "a"] and path.read_text() == first
    report = json.loads(first)
    assert list(report["rows"]) == ["a", "b"]
    assert report["command"] == "ldm-tutorial reproduce toy --scale smoke"
    assert (tmp_path / "toy" / "a-picture.png").exists()


def test_some_arms_are_run_again_and_the_record_keeps_the_others(toy, tmp_path):
    out, results = tmp_path / "out", tmp_path / "results"
    path = reproduce("toy", "smoke", out, results)
    first = json.loads(path.read_text())
    assert [run["arms"] for run in first["runs"]] == [["a"], ["b"]]
    first["rows"]["a"]["value"], first["runs"][0]["date"] = 77, "2000-01-01"
    path.write_text(json.dumps(first))
    reproduce("toy", "smoke", tmp_path / "again", results, only=["b"])
    again = json.loads(path.read_text())
    assert toy == ["a", "b", "b"]
    assert again["rows"] == {"a": {"value": 77}, "b": {"value": 1}}
    assert [run["arms"] for run in again["runs"]] == [["a"], ["b"]]
    assert again["runs"][0] == first["runs"][0]
    assert again["seconds"] == sum(run["seconds"] for run in again["runs"])
    assert again["digest"] == fingerprint(again)


def test_a_record_of_another_scale_is_replaced(toy, tmp_path, monkeypatch):
    path = reproduce("toy", "smoke", tmp_path / "small", tmp_path)
    first = json.loads(path.read_text())
    monkeypatch.setitem(SCALES, "smoke", replace(TINY, samples=7))
    assert reproduce("toy", "smoke", tmp_path / "large", tmp_path, only=["a"]) is None
    assert json.loads(path.read_text()) == first
    reproduce("toy", "smoke", tmp_path / "large", tmp_path)
    assert json.loads(path.read_text())["scale"]["samples"] == 7


def test_a_run_says_where_it_came_from(toy, tmp_path):
    path = reproduce("toy", "smoke", tmp_path)
    (run, _) = json.loads(path.read_text())["runs"]
    assert run["date"] == datetime.now(UTC).date().isoformat()
    assert run["version"] == ldm_tutorial.__version__ and run["device"]
    if run["commit"] is not None:  # a checkout
        assert re.fullmatch(r"[0-9a-f]{12}\+?", run["commit"])
    assert commit(tmp_path) is None


def test_another_scale_in_the_same_folder_is_refused(toy, tmp_path, monkeypatch):
    reproduce("toy", "smoke", tmp_path)
    monkeypatch.setitem(SCALES, "smoke", replace(TINY, samples=7))
    with pytest.raises(ValueError, match="choose another folder"):
        reproduce("toy", "smoke", tmp_path)


def test_a_study_of_any_data_says_of_which(tmp_path, monkeypatch):
    """What it is about is part of its settings: other data are another study."""
    asked = []

    def arms(scale, data):
        asked.append(data)
        return {"a": lambda folder: ({"value": 1}, {})}

    study = Study("About what?", arms, data="landscapes")
    monkeypatch.setitem(STUDIES, "any", study)
    first = reproduce("any", "smoke", tmp_path / "first")
    other = reproduce("any", "smoke", tmp_path / "other", data="photos")
    assert asked == ["landscapes", "photos"]
    commands = [json.loads(path.read_text())["command"] for path in (first, other)]
    assert commands == [
        f"ldm-tutorial reproduce any --scale smoke --data {name}" for name in asked
    ]
    with pytest.raises(ValueError, match="data=photos, and data=landscapes was asked"):
        reproduce("any", "smoke", tmp_path / "other")
    with pytest.raises(ValueError, match="kl_study is about landscapes"):
        reproduce("kl_study", "smoke", tmp_path / "kl", data="photos")


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["kl_study", "--scale", "huge"],
        ["kl_study", "--scale", "smoke", "--arms", "nonsense"],
    ],
)
def test_bad_words_get_one_line(words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["reproduce", *words])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1
    assert words[-1] in error and not list(tmp_path.iterdir())


def shape(value):
    """The keys of a nested dictionary, without the numbers, and without intervals,
    for which a few images do not suffice. Keys that are numbers count as one. Recipes
    get new fields, and records keep those that they were made with."""
    if isinstance(value, dict):
        values = {k: shape(v) for k, v in value.items() if not k.endswith("_ci95")}
        values |= {k: "settings" for k in ("recipe", "loss") if k in values}
        return {"number" if k.isdecimal() else k: v for k, v in values.items()}
    return type(value).__name__ if isinstance(value, str | list) else "number"


ARMS = {
    "loss_ablation": "l1",
    "scaling_study": "scalar",
    "time_to_quality": "f8-seed0",
    "speed": "adamw",
    "star_probe": "vae-f8-seed0",
    "reconstructions": "vae-f8-sharp",
    "decoder_study": "all",
    "kl_study": "kl-0.01",
    "compression_study": "f16-c4-seed0",
    "ddpm_ablation": "v-min-snr",
    "samplers": "dpm-solver++",
    "frozen_vs_joint": "joint-aligned",
    "cost_growth": "32",
    "attribution": "vae-f8",
    "longer_budget": "f8-v",
    "own_images": "100",
    "flow_study": "dit-flow-seed0",
    "latent_study": "equivariant-seed0",
    "few_steps": "distilled",
}


@pytest.fixture
def photos(tmp_path):
    """Three hundred small images in two classes."""
    folder = tmp_path / "photos"
    for i in range(300):
        path = folder / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        colour = (i * 7 % 256, i * 29 % 256, i * 3 % 256)
        Image.new("RGB", (8, 8), colour).save(path)
    return str(folder)


@pytest.mark.parametrize("name", ARMS)
def test_one_arm_of_a_study_has_the_shape_of_the_record(name, tiny, tmp_path, photos):
    """Run for real, very small; what it measures is what the record holds."""
    data = photos if STUDIES[name].data else None
    reproduce(name, "smoke", tmp_path, only=[ARMS[name]], data=data)
    row = json.loads((tmp_path / ARMS[name] / "row.json").read_text())["row"]
    recorded = results(name)["rows"]
    assert ARMS[name] in recorded
    assert shape(row) == shape(recorded[ARMS[name]])


def test_the_shipped_autoencoder_goes_on_from_the_last_arm_of_the_loss_ablation():
    """Its recipe is written as a preset too, since `train-vae` made what ships."""
    arm = studies.loss_recipe(SCALES["cpu"], "adversarial")
    assert arm == presets.VAE_PRESETS["perceptual-start"]


def test_times_that_are_matched_in_log_snr_have_the_quartiles_of_the_flow():
    """Esser et al.: the logit of the flow's time is N(0, 1), and the log-SNR minus
    twice that, N(0, 4). The arm of the record draws noisier latents."""
    normal = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    snr = NoiseSchedule.linear().snr.log()
    share = torch.tensor([0.25, 0.5, 0.75])

    def quartiles(mean, std):
        return snr[logit_normal_times(normal, 1000, mean, std)].quantile(share)

    flow = (-2 * normal).quantile(share)
    assert_close(quartiles(*MATCHED), flow, atol=0.15, rtol=0)
    recorded = DDPM_ARMS["eps-logit-normal"]["objective"].logit_normal
    assert quartiles(*recorded)[1] < -1.3 < -0.1 < flow[1]


# --- the records ----------------------------------------------------------------------

RECORDS = sorted(STUDIES)
FILES = sorted((ROOTS[0] / "results").glob("*.json"))


@pytest.mark.parametrize("name", RECORDS)
def test_records_are_as_they_were_written(name):
    report = results(name)
    command = re.fullmatch(
        r"ldm-tutorial reproduce (\w+) --scale (\w+)(?: --data (\S+))?",
        report["command"],
    )
    study, scale, about = command.groups()
    assert study == name and (about is None) == (STUDIES[name].data is None)
    arms = STUDIES[name].arms(SCALES[scale], *([about] if about else []))
    assert list(report["rows"]) == list(arms)
    settings = config_to_dict(SCALES[scale]) | ({"data": about} if about else {})
    assert filled(report["scale"], settings) == settings
    assert report["seconds"] > 30 and report["torch"] and report["device"]


def leaves(value, path=()):
    """The place of every number in a nested record."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in items:
            yield from leaves(part, (*path, key))
    elif isinstance(value, int | float):
        yield path


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_figure_changed_by_hand_is_noticed(path):
    report = json.loads(path.read_text())
    assert report["digest"] == fingerprint(report)
    places = list(leaves(report))
    assert len(places) > 10
    for *keys, last in places:
        part = report
        for key in keys:
            part = part[key]
        kept = part[last]
        part[last] = kept + 0.01
        assert report["digest"] != fingerprint(report), keys
        part[last] = kept


def test_pictures_survive_the_disk(tmp_path, monkeypatch):
    x = (torch.arange(2 * 3 * 4 * 4).view(2, 3, 4, 4) % 256) / 127.5 - 1
    write_pictures(tmp_path / "results" / "toy" / "a.png", x)
    monkeypatch.setattr("ldm_tutorial.records.ROOTS", (tmp_path,))
    assert_close(pictures("toy", "a"), x, atol=1e-6, rtol=0)
    with pytest.raises(FileNotFoundError, match="no pictures 'b'"):
        pictures("toy", "b")


def test_every_arm_of_the_record_that_shows_pictures_has_them():
    folder = ROOTS[0] / "results"
    assert len(list((folder / "kl_study").glob("*.png"))) == 4 * len(studies.WEIGHTS)
    assert len(list((folder / "loss_ablation").glob("*.png"))) == len(studies.LOSSES)
    ablation = list((folder / "ddpm_ablation").glob("*.png"))
    assert len(ablation) == len(STUDIES["ddpm_ablation"].arms(SCALES["cpu"]))
    assert len(list((folder / "samplers").glob("*.png"))) == len(SAMPLERS)
    joint = STUDIES["frozen_vs_joint"].arms(SCALES["cpu"])
    assert len(list((folder / "frozen_vs_joint").glob("*.png"))) == 2 * len(joint)
