"""The weights that ship: they load anywhere, are good, and their records are true."""

import json
from pathlib import Path

import pytest
import torch
from records import filled
from torch.testing import assert_close

from ldm_tutorial import LatentCodec, LatentDiffusion, evaluation
from ldm_tutorial.cli.main import main
from ldm_tutorial.cost.efficiency import count_parameters
from ldm_tutorial.data import DataConfig, whole
from ldm_tutorial.evaluation.distances import frechet_distance
from ldm_tutorial.landscapes import rulers
from ldm_tutorial.landscapes.dataset import detail_masks
from ldm_tutorial.landscapes.factor_report import count_stars
from ldm_tutorial.landscapes.factors import CLASS_NAMES
from ldm_tutorial.metrics import (
    ClassJudge,
    detail_recall,
    psnr,
    ssim,
    thumbnails,
)
from ldm_tutorial.records import results
from ldm_tutorial.storage import config_to_dict, shipped
from ldm_tutorial.training import presets, recipes
from ldm_tutorial.training.perceptual import FeatureDistance
from ldm_tutorial.unet import inherit

ROOT = Path(__file__).resolve().parent.parent
PRESETS = {
    "vae-f8": presets.VAE_PRESETS["reference"],
    "vae-f16": presets.VAE_PRESETS["f16"],
    "vae-f8-perceptual": presets.VAE_PRESETS["perceptual"],
    "vae-f8-sharp": presets.VAE_PRESETS["sharp"],
    "ldm-f8": presets.LDM_PRESETS["reference"],
    "ldm-f8-sharp": presets.LDM_PRESETS["sharp"],
}
MODELS = [name for name in PRESETS if name.startswith("ldm")]
DATA = DataConfig()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def codec():
    return LatentCodec.load("vae-f8")


@pytest.fixture(scope="module")
def ldm():
    return LatentDiffusion.load("ldm-f8")


@pytest.fixture(scope="module")
def sharp():
    return LatentDiffusion.load("ldm-f8-sharp")


@pytest.fixture(scope="module")
def real():
    """Held-out landscapes and their classes."""
    return whole(DATA.load("test"), 256)


@pytest.fixture(scope="module", params=MODELS)
def samples(request):
    """Four samples of each class in ten steps, and their classes; by which model."""
    model = LatentDiffusion.load(request.param)
    with torch.no_grad():
        y = evaluation.each_class(model, 64)
        return evaluation.draw(model, y, 10, 1.0, seeded()), y, request.param


# --- files ----------------------------------------------------------------------------


def test_what_ships():
    assert shipped() == sorted([*PRESETS, "scenenet", "scenenet-judge"])
    files = [p for p in (ROOT / "data" / "reference").glob("*/*") if p.is_file()]
    assert {p.name for p in files} == {"config.json", "model.safetensors"}
    assert sum(p.stat().st_size for p in files) < 37e6


@pytest.mark.parametrize("name", PRESETS)
def test_models_load_from_another_directory(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cls = LatentDiffusion if name in MODELS else LatentCodec
    model = cls.load(name)
    assert all(bool(t.isfinite().all()) for t in model.state_dict().values())


def test_the_record_of_what_did_not_ship_agrees_with_its_recipe(ldm):
    report, recipe = results("ldm-f8-deep"), presets.LDM_PRESETS["reference-deep"]
    defaults = config_to_dict(type(recipe)())
    assert filled(report["recipe"], defaults) == config_to_dict(recipe)
    assert report["steps"] == recipe.train.steps
    deeper = recipes.build_ldm(recipe, ldm.codec, tuple(CLASS_NAMES)).unet
    assert report["parameters"] == count_parameters(deeper)
    inherit(deeper, ldm.unet)  # it could go on from what ships


STAGES = {
    "vae-f8-decoder": presets.VAE_PRESETS["decoder"],
    "vae-f8-perceptual-start": presets.VAE_PRESETS["perceptual-start"],
    "vae-f8-sharp-start": presets.VAE_PRESETS["sharp-start"],
    "vae-f16-start": presets.VAE_PRESETS["f16-start"],
    "ldm-f8-start": presets.LDM_PRESETS["reference-start"],
    "ldm-f8-middle": presets.LDM_PRESETS["reference-middle"],
    "ldm-f8-long": presets.LDM_PRESETS["reference-long"],
    "ldm-f8-late": presets.LDM_PRESETS["reference-late"],
}


@pytest.mark.parametrize("name", [*STAGES, *PRESETS])
def test_every_stage_has_a_record_and_its_command_is_in_the_readme(name):
    """What ships is the end of chains, and each link says how it was made."""
    report = results(name)
    readme = (ROOT / "README.md").read_text("utf8")
    assert f"\n{report['command']}\n" in readme
    recipe = (STAGES | PRESETS)[name]
    defaults = config_to_dict(type(recipe)())
    assert filled(report["recipe"], defaults) == config_to_dict(recipe)
    before = recipe.init and recipe.init.removeprefix("runs/")
    assert before is None or before in [*STAGES, *PRESETS]


def came_from(name):
    """The runs that made ``name``, the last first: each went on from the one before."""
    while name:
        yield name
        name = ((STAGES | PRESETS)[name].init or "").removeprefix("runs/")


def test_the_best_model_is_made_in_few_runs():
    """An autoencoder in three, the diffusion model on it in one."""
    autoencoder, model = (list(came_from(f"{n}-f8-sharp")) for n in ("vae", "ldm"))
    assert autoencoder == ["vae-f8-sharp", "vae-f8-sharp-start", "vae-f8"]
    assert model == ["ldm-f8-sharp"]
    assert "--vae runs/vae-f8-sharp " in results("ldm-f8-sharp")["command"]


@pytest.mark.parametrize("name", PRESETS)
def test_records_agree_with_the_recipe_and_the_weights(name):
    """What the book prints from data/results is what the preset would train."""
    report, recipe = results(name), PRESETS[name]
    assert filled(report["recipe"], config_to_dict(type(recipe)())) == config_to_dict(
        recipe
    )
    assert report["steps"] == recipe.train.steps
    assert report["images_seen"] == recipe.train.steps * recipe.train.batch_size
    ldm = LatentDiffusion.load(name) if name in MODELS else None
    codec = ldm.codec if ldm else LatentCodec.load(name)
    module = ldm.unet if ldm else codec.vae
    assert report["parameters"] == count_parameters(module)
    assert report["seconds"] > 60 and report["final"]["loss"] > 0
    if ldm is None:
        assert codec.vae.config == recipe.vae
    else:
        fresh = recipes.build_ldm(recipe, codec, tuple(CLASS_NAMES))
        assert ldm.unet.config == fresh.unet.config
        assert ldm.objective == recipe.objective
        assert ldm.classes == tuple(CLASS_NAMES) and ldm.image_size == recipe.size


def test_the_model_carries_the_shipped_encoder(codec, ldm):
    """Its decoder is another one, trained on the same latents."""
    mine, its = codec.state_dict(), ldm.codec.state_dict()
    assert mine.keys() == its.keys()
    for name, tensor in mine.items():  # each was rounded to float16 on its own
        if not name.startswith("vae.decoder"):
            assert_close(its[name], tensor, atol=1e-3, rtol=2e-3)
    name = "vae.decoder.stem.weight"
    assert not torch.allclose(its[name], mine[name], atol=1e-3)


def test_the_sharp_model_carries_the_sharp_autoencoder(sharp):
    mine, its = LatentCodec.load("vae-f8-sharp").state_dict(), sharp.codec.state_dict()
    assert mine.keys() == its.keys()
    assert all(torch.equal(its[name], tensor) for name, tensor in mine.items())


def test_the_command_line_takes_shipped_names(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["sample", "-n", "2", "--steps", "2", "--label", "dusk sea"])
    assert capsys.readouterr().out == "wrote grid.png: 2 images\n"
    assert (tmp_path / "grid.png").exists()
    main(["evaluate", "--model", "vae-f8", "-n", "16", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["data"] == "landscapes" and report["size"] == 64
    assert report["reconstruction"]["psnr"] > 27


# --- the autoencoder ----------------------------------------------------------------


AUTOENCODERS = [name for name in PRESETS if name.startswith("vae")]


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_held_out_landscapes_are_reconstructed_as_recorded(name, real):
    """The bounds of the course, and the recorded numbers on a part of the images."""
    x_hat = evaluation.through(LatentCodec.load(name), real[0], seeded())
    p, s = psnr(x_hat, real[0]), ssim(x_hat, real[0])
    report = results(name)["reconstruction"]
    assert len(p) >= 200 and float(p.mean()) >= 27
    assert float(p.mean()) == pytest.approx(report["psnr"], abs=0.2)
    assert float(s.mean()) == pytest.approx(report["ssim"], abs=0.01)


def test_equal_numbers_are_reached_by_both_and_not_equally_soon():
    """f = 16 with 16 channels holds as many values as f = 8 with 4. It took more than
    twice the training to come as far."""
    f8, f16 = (results(name) for name in AUTOENCODERS[:2])
    assert f8["reconstruction"]["psnr"] >= 28
    assert abs(f8["reconstruction"]["psnr"] - f16["reconstruction"]["psnr"]) <= 1
    start = presets.VAE_PRESETS["f16-start"].train.steps
    assert start + f16["steps"] > 2 * f8["steps"]


def test_the_perceptual_autoencoder_keeps_details_that_the_other_loses(real):
    masks = detail_masks(DATA.load("test").factors(range(256)))
    recall = {}
    for name in ("vae-f8", "vae-f8-perceptual"):
        x_hat = evaluation.through(LatentCodec.load(name), real[0], seeded())
        recall[name] = detail_recall(x_hat, real[0], masks)
    plain, perceptual = recall.values()
    for kind in ("windows", "waves", "trunks"):
        assert perceptual[kind] > plain[kind] + 0.05, kind
    assert perceptual["windows"] > 1.5 * plain["windows"]


def test_the_sharp_autoencoder_keeps_them_without_a_weave(real):
    """It is nearer to the originals than the other two, pixel by pixel and for the
    judge; its gradients are as strong as theirs, and less of a grid stands out."""
    masks = detail_masks(DATA.load("test").factors(range(256)))
    x, judge = real[0], evaluation.load_judge()
    distance = FeatureDistance(judge, judge.smallest)
    errors, judged, gradients, grids = {}, {}, {}, {}
    with torch.no_grad():
        for name in ("vae-f8", "vae-f8-perceptual", "vae-f8-sharp"):
            x_hat = evaluation.through(LatentCodec.load(name), x, seeded())
            errors[name] = float(-psnr(x_hat, x).mean())
            judged[name] = float(distance(x_hat, x).mean())
            gradients[name] = float(
                rulers.gradients(x_hat).mean() / rulers.gradients(x).mean()
            )
            grids[name] = rulers.grid_peak(x_hat)
    assert min(errors, key=errors.get) == min(judged, key=judged.get) == name
    assert abs(gradients[name] - 1) < 0.1 < abs(gradients["vae-f8-perceptual"] - 1)
    assert grids[name] < 2.0 < grids["vae-f8-perceptual"]
    recall = detail_recall(x_hat, x, masks)
    assert recall["windows"] > 0.75 and recall["stars"] > 0.4


def test_the_critic_of_the_sharp_autoencoder_has_not_won():
    """As that of ``vae-f8-perceptual`` has: a logit is an opinion, not a verdict."""
    won, held = (results(f"vae-f8-{n}")["final"] for n in ("perceptual", "sharp"))
    assert abs(won["d_real"]) > 5 and won["d_loss"] < 0.1
    assert max(abs(held["d_real"]), abs(held["d_fake"])) < 1 and held["d_loss"] > 0.5


def test_latents_have_unit_scale_and_no_offset(codec, real):
    z = codec.encode(real[0], seeded())
    assert z.shape == (256, 4, 8, 8)
    assert_close(z.std((0, 2, 3)), torch.ones(4), atol=0.1, rtol=0)
    assert_close(z.mean((0, 2, 3)), torch.zeros(4), atol=0.1, rtol=0)


# --- the diffusion model ------------------------------------------------------------


def test_samples_are_decided_by_the_seed(ldm):
    one, two, other = (
        ldm.sample(2, y="dusk sea", steps=4, generator=seeded(s)) for s in (1, 1, 2)
    )
    assert torch.equal(one, two) and not torch.allclose(one, other, atol=0.05)
    assert one.shape == (2, 3, 64, 64) and one.abs().max() <= 1


def test_samples_show_the_class_that_was_asked_for(samples):
    judge = ClassJudge.fit(*whole(DATA.load("train"), 1000), hidden=500)
    x, y, _ = samples
    agreement = float((judge(x) == y).float().mean())
    assert agreement >= 0.9, agreement
    assert float((judge(x) == y.roll(1)).float().mean()) < 0.1


def test_samples_are_near_real_images_as_recorded(samples, real):
    """Few samples bias the distance upwards, so it is held against real images of the
    same number."""
    features = thumbnails(real[0][:128])
    distance = frechet_distance(thumbnails(samples[0]), features)
    floor = frechet_distance(thumbnails(real[0][192:]), features)
    assert distance < 2 * floor, (distance, floor)
    report = results(samples[2])["samples"]
    floor, codec = report["frechet_real"], report["frechet_codec"]
    assert floor < codec < report["frechet"] < 10 * floor
    assert report["class_agreement"] > 0.9 and report["class_accuracy_real"] > 0.99


@torch.no_grad()
def test_the_sharp_model_draws_nights_with_stars_and_the_other_draws_none(ldm, sharp):
    """More than half of the bright points of real nights; its codec keeps few more."""
    y = torch.arange(12, 16).repeat(4)
    real, kept = whole(DATA.load("test"), 600)
    points = {"real": real[(kept >= 12)]}
    for name, model in (("first", ldm), ("sharp", sharp)):
        points[name] = evaluation.draw(model, y, 20, 1.0, seeded())
    found = {name: float(count_stars(x).float().mean()) for name, x in points.items()}
    assert found["first"] < 0.1 * found["real"]
    assert 0.4 < found["sharp"] / found["real"] < 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision_sees_what_is_left_where_noise_is_all_there_is(dtype):
    """At the last time a rounding of z_t, or of eps, is an error of 158 times its size
    in the z_0 they imply; both ends of the network are spared it."""
    exact, half = (LatentDiffusion.load("ldm-f8") for _ in range(2))
    z_T = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    t, y = torch.full((4,), 999), torch.arange(4)
    alpha_bar = exact.schedule.alpha_bar[999]
    wanted, found = (m._in_its_dtype(z_T, t, y) for m in (exact, half.to(dtype)))
    in_z_0 = (found - wanted).std() * ((1 - alpha_bar) / alpha_bar).sqrt()
    rounded = (z_T.to(dtype).float() - z_T).std() / alpha_bar.sqrt()
    assert in_z_0 < 1.25 * rounded
