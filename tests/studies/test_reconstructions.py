"""What the study of the shipped autoencoders' pictures concludes, on few images."""

import pytest

from ldm_tutorial.studies.reconstructions import CODECS, look_at_shipped


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arm")
    return {name: look_at_shipped(48, name, folder)[0] for name in CODECS}


def test_the_judge_disagrees_with_a_network_that_was_trained_against(rows):
    l1, perceptual, sharp = rows.values()
    assert perceptual["scenenet"] < l1["scenenet"]
    assert perceptual["judge"] > l1["judge"]
    assert sharp["scenenet"] < l1["scenenet"] and sharp["judge"] < l1["judge"]


def test_rulers_tell_too_little_from_too_much(rows):
    l1, perceptual, sharp = (
        row["measures"]["gradient"]["ratio"] for row in rows.values()
    )
    assert l1 < 0.8 < 0.9 < sharp < 1.2 < perceptual
    stars = [row["measures"]["stars"]["ratio"] for row in rows.values()]
    assert stars[0] < 0.1 < min(stars[1:])
    assert rows["vae-f8-perceptual"]["grid"] > rows["vae-f8-sharp"]["grid"]
