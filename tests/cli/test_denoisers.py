"""The other network and the other objective, from the command line to the samples."""

import json
from dataclasses import replace

import pytest
import torch
from tiny_recipes import LDM

from ldm_tutorial import LatentDiffusion
from ldm_tutorial.cli.main import main
from ldm_tutorial.dit import DiTConfig
from ldm_tutorial.flow import FlowMatching
from ldm_tutorial.training import fit
from ldm_tutorial.training.folder import settings

TINY = ["train-ldm", "--preset", "smoke", "--vae", "none", "--size", "16"]
TINY += ["--length", "16", "--train.batch_size", "4", "--train.steps", "2"]
DIT = ["--denoiser", "dit", "--dit.width", "16", "--dit.depth", "1"]
DIT += ["--dit.num_heads", "2"]
FLOW = ["--prediction_type", "flow", "--objective.shift", "2"]


def refused(capsys, *arguments):
    """The one line with which a command refuses."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main([*map(str, arguments)])
    err = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2
    return err[-1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "dit-flow"
    main([*TINY, *DIT, *FLOW, "--out", str(out)])
    return out


def test_a_transformer_learns_a_flow_and_is_saved_as_such(trained):
    model = LatentDiffusion.load(trained)
    dit = DiTConfig(3, 4, 16, 1, 2, num_classes=16)  # patches of 4 x 4 pixels
    assert model.denoiser.config == dit
    assert model.objective == FlowMatching(shift=2.0)
    told = json.loads((trained / "recipe.json").read_text())
    assert (told["denoiser"], told["objective"]["kind"]) == ("dit", "FlowMatching")


def test_it_samples_with_the_samplers_of_a_flow(trained, capsys, tmp_path):
    given = ["sample", "--model", trained, "-n", "2", "--steps", "3"]
    for name in ("euler", "heun"):
        main([*map(str, given), "--sampler", name, "--out", str(tmp_path / "x.png")])
    said = refused(capsys, *given, "--sampler", "ddpm")
    assert "sampler 'ddpm' is unknown; choose ddim, euler, heun" in said
    assert "'euler' is unknown" in refused(
        capsys, "sample", "-n", "1", "--sampler", "euler"
    )


def test_the_same_command_says_what_came_out_and_another_is_refused(trained, capsys):
    before = (trained / "model.safetensors").stat().st_mtime_ns
    main([*TINY, *DIT, *FLOW, "--out", str(trained)])
    assert (trained / "model.safetensors").stat().st_mtime_ns == before
    others = {
        "denoiser=dit": [*TINY, *FLOW],
        "objective.kind=FlowMatching": [*TINY, *DIT],
        "objective.shift=2.0": [*TINY, *DIT, *FLOW, "--objective.shift", "3"],
        "dit.depth=1": [*TINY, *DIT, *FLOW, "--dit.depth", "2"],
    }
    for what, command in others.items():
        assert f"holds a run with {what}" in refused(capsys, *command, "--out", trained)


class Stop(Exception):
    pass


def test_a_run_that_was_stopped_goes_on_as_if_nothing_had_been(tmp_path):
    recipe = replace(
        LDM,
        denoiser="dit",
        dit=DiTConfig(patch_size=4, width=16, depth=1, num_heads=2),
        objective=FlowMatching(),
    )
    whole, _ = fit.train_ldm(recipe)

    def stop(line):
        if line["step"] == 4:
            raise Stop

    with pytest.raises(Stop):
        fit.train_ldm(recipe, None, tmp_path, stop)
    again, _ = fit.train_ldm(recipe, None, tmp_path)
    torch.testing.assert_close(again.state_dict(), whole.state_dict())


def test_a_trained_transformer_is_a_place_to_start_from(trained, tmp_path, capsys):
    start = ["--init", str(trained), "--train.steps", "1"]
    main([*TINY, *DIT, *FLOW, *start, "--out", str(tmp_path / "more")])
    for wrong, says in (
        ([*DIT], "has prediction_type flow, and eps was asked for"),
        ([*FLOW], "has denoiser DiT, and UNet was asked for"),
        ([*DIT, *FLOW, "--dit.depth", "2"], "depth=1"),
    ):
        command = [*TINY, *wrong, *start, "--out", tmp_path / "other"]
        assert says in refused(capsys, *command)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--denoiser", "mlp"], "denoiser"),
        ([*DIT, "--dit.num_heads", "0"], "num_heads=0"),
        ([*DIT, "--dit.depth", "0"], "depth=0; give 1 or more"),
        ([*FLOW, "--objective.shift", "0"], "shift=0.0; give more than 0"),
        (["--objective.shift", "2"], "objective.shift"),
        ([*FLOW, "--objective.min_snr_gamma", "5"], "objective.min_snr_gamma"),
        ([*FLOW, "--autoencoder", "joint-aligned"], "reads features of a UNet"),
    ],
)
def test_what_does_not_fit_is_one_line(options, says, tmp_path, capsys):
    line = refused(capsys, *TINY, *options, "--out", tmp_path / "out")
    assert line.startswith("ldm-tutorial: error: ") and says in line


def test_what_an_objective_is_decides_a_run():
    recipe = replace(LDM, objective=FlowMatching())
    assert settings(recipe)["objective"]["kind"] == "FlowMatching"
    assert settings(LDM)["objective"]["kind"] == "Objective"
