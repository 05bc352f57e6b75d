"""Copies of training images are found, and only they."""

from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch.nn.functional import avg_pool2d
from torch.testing import assert_close

from ldm_tutorial import PixelCodec
from ldm_tutorial.data import DataConfig, whole
from ldm_tutorial.evaluation.copies import (
    ALONE,
    as_rows,
    find_copies,
    miniature,
    nearest,
    side_by_side,
)


@pytest.fixture(scope="module")
def where(tmp_path_factory):
    """A folder of 40 images of noise: 32 to train, 4 to validate, 4 to test."""
    out = tmp_path_factory.mktemp("noise")
    pixels = torch.Generator().manual_seed(0)
    for i in range(40):
        x = torch.randint(0, 256, (16, 16, 3), generator=pixels, dtype=torch.uint8)
        Image.fromarray(x.numpy()).save(out / f"{i}.png")
    return DataConfig(str(out), size=16)


def noise(n, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 3, 16, 16, generator=generator) * 2 - 1


def test_the_two_nearest_are_those_of_all_distances(where):
    training = where.training_set()
    x, rows = whole(training, len(training))[0], as_rows(noise(5))
    distances, places = nearest(rows, x.split(10))
    for i, row in enumerate(rows):
        every = (row - x.flatten(1)).square().mean(1).sqrt()
        best, order = every.topk(2, largest=False)
        assert_close(distances[i], best, atol=1e-5, rtol=0)
        assert places[i].tolist() == order.tolist()


def test_copies_are_told_from_what_is_new(where):
    """Half of these samples are training images with a little noise."""
    training = whole(where.training_set(), 6)[0]
    samples = torch.cat([training + 0.02 * noise(6), noise(6)])
    found = find_copies(samples, where, PixelCodec())
    report = found.report
    assert report["n"] == 12 and report["training_images"] == 32
    assert report["copies"] == 0.5 and report["copies_real"] == 0
    assert report["near"] >= 0.5 and report["near_real"] == 0.05
    assert report["distance"] < report["distance_real"]
    assert sorted(found.order[:6].tolist()) == list(range(6))
    assert found.indices[:6].tolist() == list(range(6))
    pairs = side_by_side(found, samples, where, 3)
    assert pairs.shape == (6, 3, 16, 16)
    assert_close(pairs[:3], pairs[3:], atol=0.03, rtol=0)


def test_a_training_image_that_is_copied_often_is_shown_once(where):
    training = whole(where.training_set(), 2)[0]
    samples = training[[0, 0, 1, 0]] + 0.02 * noise(4)
    found = find_copies(samples, where, PixelCodec())
    pairs = side_by_side(found, samples, where, 3)
    assert pairs.shape == (4, 3, 16, 16)
    assert_close(pairs[:2], pairs[2:], atol=0.03, rtol=0)
    assert {x.sum().item() for x in pairs[2:]} == {x.sum().item() for x in training}


class Blurring(PixelCodec):
    def decode(self, z):
        return avg_pool2d(z, 2).repeat_interleave(2, -1).repeat_interleave(2, -2)


def test_what_a_codec_loses_does_not_hide_a_copy(where):
    codec = Blurring()
    samples = codec.decode(whole(where.training_set(), 4)[0])
    report = find_copies(samples, where, codec).report
    assert report["copies"] == 1 and report["distance"] < 1e-3
    assert find_copies(samples, where, PixelCodec()).report["copies"] == 0


def test_mirror_images_that_were_trained_on_are_copies_too(where):
    samples = whole(where.training_set(), 4)[0].flip(-1)
    plain = find_copies(samples, where, PixelCodec()).report
    mirrored = find_copies(samples, replace(where, flip=True), PixelCodec()).report
    assert plain["copies"] == 0 and mirrored["copies"] == 1
    assert mirrored["training_images"] == 64 and mirrored["distance"] < 1e-6


def test_only_the_images_that_were_trained_on_count(where):
    trained = replace(where, length=8)
    some = {x.sum().item() for x in whole(trained.training_set(), 8)[0]}
    every = whole(where.training_set(), 32)[0]
    others = torch.stack([x for x in every if x.sum().item() not in some])
    assert find_copies(others, where, PixelCodec()).report["copies"] == 1
    report = find_copies(others, trained, PixelCodec()).report
    assert report["training_images"] == 8 and report["copies"] == 0


def test_a_third_of_the_distance_to_the_second_is_the_bound(tmp_path):
    for i, level in enumerate((0, 240)):
        Image.new("RGB", (8, 8), (level,) * 3).save(tmp_path / f"{i}.png")
    where = DataConfig(str(tmp_path), size=8)
    levels = torch.tensor([58, 62]) / 127.5 - 1  # 58 of 182 is less than a third
    samples = levels.view(2, 1, 1, 1).expand(2, 3, 8, 8)
    assert 58 / 182 < ALONE < 62 / 178
    report = find_copies(samples, where, PixelCodec()).report
    assert report["copies"] == 0.5
    # So few images are none held out: nothing real to compare with.
    assert not any(name.endswith("_real") or name == "near" for name in report)


def test_one_training_image_is_refused(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="give two"):
        find_copies(noise(2), DataConfig(str(tmp_path), size=8), PixelCodec())


def test_miniatures_are_small_and_their_rows_those_of_the_image():
    x = torch.randn(2, 1, 256, 256, generator=torch.Generator().manual_seed(0))
    assert miniature(x).shape == (2, 1, 64, 64)
    assert_close(as_rows(miniature(x)), as_rows(x), atol=1e-6, rtol=1e-5)
    assert as_rows(x[..., :8, :8]).shape == (2, 64)
