"""Artifact attribution: what each network loses adds up to what is missing."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from ldm_tutorial.evaluation.ratios import half_width, ratio
from ldm_tutorial.landscapes.rulers import BANDS
from ldm_tutorial.noise import generators
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.studies import attribution
from ldm_tutorial.studies.attribution import (
    COMPARED,
    RECONSTRUCTED,
    TOPS,
    differences,
    shares_of_loss,
)
from ldm_tutorial.studies.study import SCALES


def test_a_difference_of_ratios_forgets_what_they_share():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 50, generator=generator) + 0.5
    found = differences({"x": ratio(a + 0.1, b), "y": ratio(a, b)}, {"x": ratio(a, b)})
    assert found.keys() == {"x"}
    assert_close(found["x"]["difference"], 0.1 / float(b.mean()))
    assert found["x"]["ci95"] < 0.2 * half_width(ratio(a, b)[1])


TINY = replace(SCALES["smoke"], judged=32, steps=1)


@pytest.fixture(scope="module")
def rows():
    """Two arms, and the pictures of one."""
    arms = attribution.attribution_arms(TINY)
    assert list(arms) == list(COMPARED)
    found = {k: arms[k](Path("unused")) for k in ("second-decoder", "samples")}
    return {k: row for k, (row, _) in found.items()}, found["samples"][1]


def test_a_row_says_what_is_shown_and_what_is_right(rows):
    rows, pictures = rows
    for name, row in rows.items():
        assert row["n"] == 64  # twice what is judged
        assert set(row["against"]) == set(COMPARED[name])
        assert set(BANDS) <= set(row["measures"])
        assert ("reconstruction" in row) == (name in RECONSTRUCTED)
        assert len(row["spectrum"]) > 32
    error = rows["second-decoder"]["reconstruction"]["error"]
    assert error["2 to 4 cycles"]["ratio"] < 0.1 < error["16 cycles and up"]["ratio"]
    assert pictures["crops"].shape == (len(TOPS), 3, 128, 128)
    small = attribution.crops("samples", 64, 2)
    assert torch.equal(pictures["crops"][:, :, 3::4, ::4], small)


def test_the_shares_add_up(rows):
    rows, _ = rows
    account = shares_of_loss(rows)
    assert set(BANDS) <= set(account)
    for name, parts in account.items():
        lost, diffusion = parts["lost"][0], parts["diffusion"][0]
        shown = rows["samples"]["measures"][name]["ratio"]
        assert_close(1 - lost - diffusion, shown)


def test_samples_of_the_sharp_model_are_its_own():
    """Drawn and decoded by it, with the seeds of the other model's."""
    y = attribution.originals(64)[1]
    model = LatentDiffusion.load("ldm-f8-sharp")
    wanted = model.sample(y=y[:2], steps=2, generator=generators(0, 2))
    found = attribution.shown("samples-sharp", 64, 2)
    assert_close(found[:2], wanted, atol=1e-3, rtol=0)
    assert not torch.allclose(found, attribution.shown("samples", 64, 2), atol=0.1)
    x = attribution.originals(64)[0]
    coded = attribution.shown("sharp", 64, 0)
    other = attribution.shown("perceptual", 64, 0)
    errors = [float((one - x).square().mean()) for one in (coded, other)]
    assert errors[0] < errors[1] < 0.01
