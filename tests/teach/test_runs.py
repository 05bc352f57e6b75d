"""Where a chapter keeps a training, and that it goes on from there."""

from dataclasses import replace
from pathlib import Path

import pytest

from ldm_tutorial import VAEConfig
from ldm_tutorial.teach import run_folder, runs
from ldm_tutorial.training import fit, recipes
from ldm_tutorial.training.config import TrainConfig

SMALL = recipes.VAERecipe(
    length=8,
    size=16,
    vae=VAEConfig(channels=(8, 8, 8), downsampling=4),
    train=TrainConfig(
        steps=4, batch_size=4, log_every=1, checkpoint_every=2, warmup_steps=0
    ),
)


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch):
    for name in ("LDM_TUTORIAL_RUNS", "COLAB_RELEASE_TAG"):
        monkeypatch.delenv(name, raising=False)


def test_nothing_is_kept_unless_it_is_asked_for(capsys):
    assert run_folder("chapter-1", SMALL) is None
    assert capsys.readouterr().out == ""


def test_the_same_recipe_gets_the_same_folder_and_another_one_another(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("LDM_TUTORIAL_RUNS", str(tmp_path))
    first = run_folder("chapter-1", SMALL)
    assert first.parent == tmp_path and first.name.startswith("chapter-1-")
    assert run_folder("chapter-1", replace(SMALL)) == first
    longer = replace(SMALL, train=replace(SMALL.train, steps=5))
    assert run_folder("chapter-1", longer) != first
    assert run_folder("chapter-2", SMALL) != first


@pytest.mark.parametrize("mounted", [True, False])
def test_in_colab_a_mounted_drive_comes_first(mounted, tmp_path, monkeypatch):
    drive = tmp_path / "MyDrive"
    if mounted:
        drive.mkdir()
    monkeypatch.setattr(runs, "DRIVE", drive)
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab")
    base = run_folder("chapter-1", SMALL).parent
    parent = drive if mounted else Path("/content")
    assert base == parent / "ldm-tutorial-runs"


class Disconnected(Exception):
    pass


def test_a_training_goes_on_after_a_lost_session(tmp_path, monkeypatch, capsys):
    """Lost in the third of four steps, it starts again at the last checkpoint."""
    monkeypatch.setenv("LDM_TUTORIAL_RUNS", str(tmp_path))
    seen = []

    def stop(line):
        seen.append(line["step"])
        if line["step"] == 3:
            raise Disconnected

    with pytest.raises(Disconnected):
        fit.train_vae(SMALL, out=run_folder("chapter-1", SMALL), on_log=stop)
    assert "If this session ends" in capsys.readouterr().out
    again = run_folder("chapter-1", SMALL)
    assert "goes on from there" in capsys.readouterr().out
    _, log = fit.train_vae(
        SMALL, out=again, on_log=lambda line: seen.append(line["step"])
    )
    assert seen == [1, 2, 3, 3, 4]
    _, whole = fit.train_vae(SMALL)
    assert [line["loss"] for line in log] == [line["loss"] for line in whole]
