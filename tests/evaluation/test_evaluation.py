"""Judging models: every number on cases where it is known, beside its floor."""

import math
import shutil
import sys
from dataclasses import replace
from types import ModuleType

import pytest
import torch
from PIL import Image
from tiny_recipes import LDM, TRAIN, VAE
from torch.testing import assert_close

from ldm_tutorial import PixelCodec, evaluation
from ldm_tutorial.data import DataConfig, images, whole
from ldm_tutorial.evaluation import features, reports, samples
from ldm_tutorial.landscapes.factors import CLASS_NAMES
from ldm_tutorial.landscapes.scenenet import SceneNet, SceneNetConfig
from ldm_tutorial.metrics import psnr, thumbnails
from ldm_tutorial.noise import generators
from ldm_tutorial.training import fit, recipes
from ldm_tutorial.training.perceptual import FeatureDistance, trunk_file


@pytest.fixture(scope="module")
def codec():
    """A tiny trained autoencoder."""
    return fit.train_vae(VAE)[0]


@pytest.fixture(autouse=True)
def no_trunks(tmp_path, monkeypatch):
    """A place for downloaded weights that is empty, whatever this machine has."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def noise(n, seed=0, size=16):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 3, size, size, generator=generator) * 2 - 1


# --- sets of images -------------------------------------------------------------------


def test_a_set_like_the_floor_gets_the_numbers_of_the_floor():
    report = evaluation.set_quality(noise(40), noise(30, 1), noise(40), thumbnails)
    names = ("frechet", "precision", "recall")
    assert {"n_fake": 40, "n_real": 30}.items() <= report.items()
    assert [report[k] for k in names] == [report[f"{k}_real"] for k in names]
    assert all(report[f"{k}_ci95"] >= 0 for k in names)


def test_a_set_unlike_the_real_ones_is_far_above_the_floor():
    fake, real, other = noise(40).abs(), noise(40, 1), noise(40, 2)
    report = evaluation.set_quality(fake, real, other, thumbnails)
    assert report["frechet"] - report["frechet_ci95"] > 2 * report["frechet_real"]
    assert report["precision"] == report["recall"] == 0 < report["precision_real"]


def test_what_a_set_is_too_small_for_is_left_out():
    def keys(n):
        sets = noise(n), noise(30, 1), noise(30, 2)
        found = evaluation.set_quality(*sets, thumbnails)
        return {k for k in found if not k.endswith("_real")}

    assert keys(1) == set()
    assert keys(3) == {"n_fake", "frechet"}
    assert keys(19) == {"n_fake", "frechet", "precision", "recall"}
    assert keys(20) > {"frechet_ci95", "precision_ci95", "recall_ci95"}


def test_the_floor_is_that_of_as_many_images():
    """A hundred images come nearer to the real ones than twenty: the same number is
    taken of both."""
    real, other = noise(100, 1), noise(100, 2)
    report = evaluation.set_quality(noise(25), real, other, thumbnails)
    short = evaluation.set_quality(noise(25), real, other[:25], thumbnails)
    assert report == short and report["n_fake"] == 25


# --- features -------------------------------------------------------------------------


def test_the_features_fit_the_data(monkeypatch):
    config = DataConfig
    assert evaluation.features_for(config()) == "scenenet-judge"
    assert evaluation.features_for(config(size=32)) == "thumbnails"
    assert evaluation.features_for(config("cifar10")) == "thumbnails"
    monkeypatch.setattr(features, "shipped", list)
    assert evaluation.features_for(config()) == "thumbnails"


def test_unknown_features_are_refused():
    with pytest.raises(
        ValueError, match=r"'clip' are unknown; choose scenenet-judge, "
    ):
        evaluation.feature_function("clip")


def test_the_judge_sees_the_classes_of_real_landscapes():
    data = DataConfig().load("test")
    x, y = whole(data, 64)
    features = evaluation.feature_function("scenenet-judge")(x)
    assert features.shape == (64, 64) and not features.requires_grad
    assert evaluation.share(evaluation.judged_classes(features) == y) > 0.95


class FeatureExtractorInceptionV3(torch.nn.Module):
    """Stands in for the network of torch-fidelity, which takes bytes."""

    def __init__(self, name, features_list, feature_extractor_weights_path=None):
        super().__init__()
        assert features_list == ["2048"]
        self.scale = torch.nn.Parameter(torch.zeros(2048), requires_grad=False)
        self.load_state_dict(torch.load(feature_extractor_weights_path))

    def forward(self, x):
        assert x.dtype == torch.uint8
        return (x.float().mean((1, 2, 3))[:, None] * self.scale,)


@pytest.fixture
def fidelity(monkeypatch):
    package = ModuleType("torch_fidelity")
    module = ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    module.URL_INCEPTION_V3 = "https://example.org/releases/inception.pth"
    module.FeatureExtractorInceptionV3 = FeatureExtractorInceptionV3
    package.feature_extractor_inceptionv3 = module
    monkeypatch.setitem(sys.modules, package.__name__, package)
    monkeypatch.setitem(sys.modules, module.__name__, module)


def test_inception_features_come_from_the_file_on_disk(fidelity, no_trunks):
    torch.save({"scale": torch.arange(2048.0)}, no_trunks / "inception.pth")
    features = evaluation.feature_function("inception")
    found = features(
        torch.tensor([-1.0, 1.0, 3.0])[:, None, None, None].expand(3, 3, 8, 8)
    )
    assert found.shape == (3, 2048)
    assert found[:, 1].tolist() == pytest.approx([0, 255, 255], abs=1e-3)


def test_what_inception_misses_is_said_in_one_line(fidelity, no_trunks, monkeypatch):
    with pytest.raises(
        FileNotFoundError, match=r"download it from https://example"
    ) as e:
        evaluation.feature_function("inception")
    assert "\n" not in str(e.value) and "inception.pth, which is not in" in str(e.value)
    (no_trunks / "inception.pth").write_bytes(b"half a file")
    with pytest.raises(ValueError, match=r"inception\.pth is damaged"):
        evaluation.feature_function("inception")
    torch.save({"other": torch.zeros(1)}, no_trunks / "inception.pth")
    with pytest.raises(ValueError, match=r"inception\.pth is damaged or of another"):
        evaluation.feature_function("inception")
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(
        ValueError, match=r"need the package torch-fidelity: pip install"
    ):
        evaluation.feature_function("inception")


# --- reconstructions ------------------------------------------------------------------


def test_the_first_trunk_that_fits_is_taken(no_trunks):
    assert evaluation.trunk_on_disk(64) is None
    trunk_file("lpips-vgg").touch()
    assert evaluation.trunk_on_disk(64) == evaluation.trunk_on_disk(16) == "lpips-vgg"
    trunk_file("lpips-squeeze").touch()
    assert evaluation.trunk_on_disk(64) == "lpips-squeeze"
    assert evaluation.trunk_on_disk(16) == "lpips-vgg"  # squeeze wants 17
    assert evaluation.trunk_on_disk(8) is None


def test_lpips_is_reported_where_there_is_a_trunk(monkeypatch):
    net = SceneNet(SceneNetConfig(channels=(8, 8)))
    distance = FeatureDistance(net, net.smallest)
    monkeypatch.setattr(reports, "trunk_on_disk", lambda size: "lpips-squeeze")
    monkeypatch.setattr(reports, "load_perceptual", lambda name: distance)
    x, x_hat = noise(3), noise(3, 1)
    with torch.no_grad():
        expected = distance(x_hat, x)
        found = evaluation.image_values(x_hat, x)
    assert list(found) == ["psnr", "ssim", "lpips_squeeze"]
    assert_close(found["lpips_squeeze"], expected, atol=1e-4, rtol=1e-3)


def test_details_of_landscapes_are_judged_one_by_one(codec):
    perfect = evaluation.evaluate_codec(PixelCodec(), VAE, n=40)["details"]
    assert {"texture", "ridge edges"} <= perfect.keys()
    for entry in perfect.values():
        assert entry["recall"] == pytest.approx(1, abs=1e-4) and entry["psnr"] > 100
    texture = perfect["texture"]
    assert texture["recall_ci95"] == pytest.approx(0, abs=1e-4)
    poor = evaluation.evaluate_codec(codec, VAE, n=40)["details"]
    assert poor["texture"]["recall"] < 0.5 and poor["texture"]["recall_ci95"] > 0


def test_the_interval_of_a_detail_is_that_of_a_mean_of_groups():
    """Errors of one strength in each tenth of the images, known beforehand."""
    x, mask = torch.zeros(40, 3, 8, 8), torch.ones(40, 8, 8, dtype=torch.bool)
    strength = 0.1 * 10 ** (-torch.arange(10.0).repeat(4) / 20)  # 1 dB apart
    found = evaluation.evaluate_details(
        x + strength.view(-1, 1, 1, 1), x, {"all": mask}
    )
    spread = torch.arange(10.0).std()
    assert found["all"]["psnr_ci95"] == pytest.approx(
        float(2.262 * spread / 10**0.5), rel=1e-4
    )


def test_the_floor_of_a_codec_is_its_own_originals():
    report = evaluation.evaluate_codec(PixelCodec(), VAE, n=30)
    assert report["features"] == "thumbnails"
    assert report["frechet"] == report["frechet_real"] > 0


def test_the_codec_that_does_nothing_reconstructs_perfectly():
    report = evaluation.evaluate_codec(PixelCodec(), VAE, n=8)
    assert report["n"] == 8 and report["psnr"] == pytest.approx(10 * math.log10(4e10))
    assert report["ssim"] == pytest.approx(1) and report["ssim_ci95"] < 1e-6


def test_a_codec_is_judged_by_the_mean_of_held_out_images(codec):
    report = evaluation.evaluate_codec(codec, VAE, n=12)
    x = torch.cat(images(VAE.load("test", 12), 12))
    again = evaluation.through(codec, x, torch.Generator().manual_seed(0))
    values = psnr(again, x)
    assert report["psnr"] == pytest.approx(float(values.mean()), rel=1e-4)
    expected = 1.96 * float(values.std()) / 12**0.5
    assert report["psnr_ci95"] == pytest.approx(expected, rel=1e-3)


# --- samples --------------------------------------------------------------------------


class Perfect(torch.nn.Module):
    """Stands in for a diffusion model: its samples are real images, in its first batch
    of the class asked for, later of another."""

    device, codec = torch.device("cpu"), PixelCodec()

    def __init__(self, classes=tuple(CLASS_NAMES)):
        super().__init__()
        self.classes, self.wrong = classes, 0
        x, y = whole(VAE.load("test", 400), 400)
        self.pools = [list(x[y == c]) for c in range(16)]

    def sample(self, n, y, steps, guidance_scale, generator):
        y, self.wrong = (y + self.wrong) % 16, 1
        return torch.stack([self.pools[c].pop() for c in y.tolist()])


def test_samples_that_are_real_get_the_numbers_of_real_images():
    report = evaluation.evaluate_samples(Perfect(), VAE, n=160, steps=1)
    assert report["n"] == 160 and report["steps"] == 1
    assert report["class_accuracy_real"] > 0.98
    assert report["class_agreement"] == pytest.approx(128 / 160, abs=0.03)
    for name in ("frechet", "precision", "recall"):  # this codec changes nothing
        floor = report[f"{name}_real"]
        assert report[f"{name}_codec"] == pytest.approx(floor, rel=1e-3, abs=0.02)
        assert report[f"{name}_ci95"] > 0
    assert report["features"] == "thumbnails" and report["n_fake"] == 160
    assert report["frechet"] < 2 * report["frechet_real"]


def test_real_images_in_place_of_samples_get_the_floors():
    x, y = whole(VAE.load("validation", 60), 60)
    report = evaluation.judge_samples(x, y, VAE, codec=lambda x: x)
    for name in ("frechet", "precision", "recall"):
        assert report[name] == report[f"{name}_real"] == report[f"{name}_codec"]
    assert report["class_agreement"] == report["class_accuracy_real"] > 0.95
    blind = evaluation.judge_samples(x, None, VAE)
    assert blind.keys() < report.keys() and "class_agreement" not in blind
    assert "frechet_codec" not in blind


def test_the_factor_report_is_made_of_landscapes_and_on_request(monkeypatch):
    asked = []

    def report(samples, y, train, held_out, judge, codec, known):
        asked.append((len(samples), y, train.split, held_out.split, codec, known))
        return {"tv_house": 0.5}

    monkeypatch.setattr(samples, "factor_report", report)
    data = DataConfig()
    x, y = whole(data.load("test", 4), 4)
    found = evaluation.judge_samples(x, y, data, factors=True)
    assert found["factors"] == {"tv_house": 0.5} and found["class_agreement"] == 1
    assert asked == [(4, y, "train", "validation", None, 80)]
    evaluation.judge_samples(x, y, data)
    evaluation.judge_samples(x, None, data, factors=True)
    evaluation.judge_samples(x[..., :16, :16], y, VAE, factors=True)
    assert len(asked) == 1


def test_a_sample_of_a_seed_is_the_same_however_many_are_drawn(codec):
    model = recipes.build_ldm(LDM, codec, tuple(CLASS_NAMES))
    y = torch.arange(130) % 16
    many = evaluation.draw(model, y, 1, 1.0, generators(0, 130), eta=1.0)
    assert many.shape == (130, 3, 16, 16)
    few = evaluation.draw(model, y[129:], 1, 1.0, generators(0, 1, 129), eta=1.0)
    assert_close(many[129:], few, atol=1e-4, rtol=0)


def test_agreement_is_left_out_where_the_data_have_other_classes(folder):
    model = Perfect(classes=tuple(f"class {i}" for i in range(16)))
    where = DataConfig(str(folder), size=16)
    report = evaluation.evaluate_samples(model, where, n=16, steps=1)
    assert "class_agreement" not in report and report["frechet"] > 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Thirty flat images: 24 to train, 3 to validate, 3 to test."""
    out = tmp_path_factory.mktemp("images")
    for i in range(30):
        Image.new("RGB", (20, 24), (8 * i, 100, 255 - 8 * i)).save(out / f"{i}.png")
    return out


def test_few_images_are_judged_as_far_as_they_go(folder, tmp_path, codec):
    where = DataConfig(str(folder), size=16)
    assert evaluation.evaluate_codec(codec, where, n=100)["n"] == 3
    for i in (0, 1, 2, 3):
        shutil.copy(folder / f"{i}.png", tmp_path)
    lonely = DataConfig(str(tmp_path), size=16)  # one image to test
    report = evaluation.evaluate_codec(codec, lonely)
    assert report.keys() == {"n", "psnr", "ssim"} and report["n"] == 1
    recipe = replace(LDM, data=str(tmp_path), length=None)
    recipe = replace(recipe, train=replace(TRAIN, batch_size=2))
    model, _ = fit.train_ldm(recipe, codec)
    assert len(model.classes) == 1
    report = evaluation.evaluate_samples(model, lonely, n=4, steps=2)
    assert report == {"n": 4, "steps": 2, "guidance_scale": 1.0}


def test_an_unconditional_model_is_judged_without_classes(codec):
    model = recipes.build_ldm(LDM, codec, ())
    report = evaluation.evaluate_samples(model, LDM, n=4, steps=2)
    assert report.keys() >= {"frechet", "frechet_codec", "frechet_real"}
    assert "class_agreement" not in report
