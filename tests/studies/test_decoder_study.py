"""What mends a decoder: the arms differ from the whole in one thing each."""

from dataclasses import asdict

import pytest
from records import flat

from ldm_tutorial.studies.decoder_study import (
    REMEDIES,
    channel_recipes,
    decoder_arms,
    decoder_recipe,
    standing,
)
from ldm_tutorial.studies.study import SCALES

DIFFERS = {
    "all": set(),
    "no-critic": {"loss.adversarial_weight"},
    "loud-critic": {"loss.adversarial_weight"},
    "no-r1": {"loss.r1_weight"},
    "no-bands": {"loss.band_weight"},
    "no-head": {"vae.head_channels"},
}


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", DIFFERS)
def test_an_arm_differs_in_one_thing(scale, name):
    whole = flat(asdict(decoder_recipe(SCALES[scale], "all")))
    recipe = decoder_recipe(SCALES[scale], name)
    settings = flat(asdict(recipe))
    assert {k for k in settings if settings[k] != whole[k]} == DIFFERS[name]
    assert recipe.loss.adversarial_start < recipe.train.steps
    assert list(decoder_arms(SCALES[scale])) == [*DIFFERS, "c4", "c8"]


@pytest.mark.parametrize("scale", SCALES)
def test_the_arms_of_channels_differ_in_them_alone(scale):
    for four, eight in zip(
        *(channel_recipes(SCALES[scale], C) for C in (4, 8)), strict=True
    ):
        four, eight = flat(asdict(four)), flat(asdict(eight))
        differ = {k for k in four if four[k] != eight[k]}
        assert differ == {"vae.latent_channels"}
        assert (four["vae.latent_channels"], eight["vae.latent_channels"]) == (4, 8)


def test_with_everything_it_has_all_remedies():
    assert decoder_recipe(SCALES["cpu"], "all") == REMEDIES


def test_the_game_is_judged_by_its_last_half():
    log = [
        {"step": s, "d_loss": 1.0, "d_real": r, "d_fake": -0.5}
        for s, r in ((10, 9.0), (20, 8.0), (30, 0.2), (40, 0.6))
    ]
    means = {"d_loss": 1.0, "d_real": pytest.approx(0.4), "d_fake": -0.5}
    assert standing(log) == means | {"largest_logit": 0.6}
    assert standing([{"step": 1, "loss": 1.0}]) == {}
