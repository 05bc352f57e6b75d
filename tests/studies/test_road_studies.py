"""The studies of chapter 6: their arms differ in one thing, and what they share is
shared."""

from dataclasses import asdict
from itertools import pairwise

import pytest
import torch
from records import flat
from torch.testing import assert_close

from ldm_tutorial.landscapes.scenenet import SceneNet
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.storage import describe
from ldm_tutorial.studies import few_steps, flow_study, latent_study
from ldm_tutorial.studies.feature_codec import STAGE, FeatureCodec, FeatureDecoding
from ldm_tutorial.studies.study import SCALES, held_out, trained_ldm
from ldm_tutorial.unet import UNet, UNetConfig
from tests.tiny_recipes import LDM
from tests.tiny_scales import TINY


def differing(a, b):
    a, b = (flat(asdict(one)) for one in (a, b))
    return {k for k in a.keys() | b.keys() if a.get(k) != b.get(k)}


# --- flow_study -----------------------------------------------------------------------


@pytest.mark.parametrize("scale", SCALES)
def test_every_model_differs_from_the_one_before_in_one_thing(scale):
    scale = SCALES[scale]
    eps, v, cosine, flow, dit = (
        flow_study.flow_recipe(scale, name) for name in flow_study.ARMS
    )
    assert differing(eps, v) == {"objective.prediction_type"}
    path = {"objective.schedule.name", "objective.logit_normal"}
    assert differing(v, cosine) == path
    assert all(name.startswith("objective.") for name in differing(cosine, flow))
    assert cosine.objective.logit_normal == flow.objective.logit_normal
    # as many operations, and so fewer steps
    assert differing(flow, dit) <= {"denoiser", "train.steps"}
    one, other = (r.train.steps * flow_study.step_gflops(r) for r in (flow, dit))
    assert other == pytest.approx(one, rel=1 / min(flow.train.steps, dit.train.steps))
    (seed,) = differing(flow, flow_study.flow_recipe(scale, "unet-flow", 2))
    assert seed == "train.seed"


def test_the_cosine_schedule_is_nearly_the_path_of_a_flow():
    """The log-SNR of both at the same share of their times, chapter 6 (6.2)."""
    alpha_bar = flow_study.ON_COSINE.noise_schedule.alpha_bar[99:900].double()
    t = torch.arange(100, 901).double() / 1000
    logit = alpha_bar.logit(), 2 * ((1 - t) / t).log()
    assert (logit[0] - logit[1]).abs().max() < 1 < logit[1].std()
    linear = flow_study.Objective().noise_schedule.alpha_bar[99:900].double().logit()
    assert (linear - logit[1]).abs().max() > 3


def test_a_step_counts_the_batch_and_both_passes():
    recipe = flow_study.flow_recipe(TINY, "unet-eps")
    one = flow_study.step_gflops(recipe)
    net = UNet(UNetConfig(4, recipe.unet.channels, 1, num_classes=16))
    with torch.no_grad():
        y = torch.zeros(1).long()
        call = flow_study.count_flops(lambda: net(torch.zeros(1, 4, 8, 8), y, y))
    assert one == pytest.approx(3 * TINY.ldm.batch_size * call / 1e9)


# --- latent_study ---------------------------------------------------------------------


@pytest.mark.parametrize("scale", SCALES)
def test_every_latent_is_tuned_alike_but_for_one_term(scale):
    plain = latent_study.tuned_recipe(SCALES[scale], "plain")
    for name, field in {
        "equivariant": "equivariance_weight",
        "aligned": "alignment_weight",
    }.items():
        other = latent_study.tuned_recipe(SCALES[scale], name)
        assert differing(plain, other) == {f"loss.{field}"}
    arms = latent_study.latent_arms(SCALES[scale])
    seeds = [arm for arm in arms if arm.startswith(("plain", "equivariant"))]
    assert len(seeds) == 2 * SCALES[scale].seeds


def test_what_is_said_of_latents():
    """White noise has as much power everywhere; and a codec that copies every second
    pixel is equivariant where neighbours are equal."""

    class Every(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.nothing = torch.nn.Parameter(torch.zeros(()))

        def encode(self, x, generator=None):
            return torch.nn.functional.avg_pool2d(x, 2)

        def decode(self, z):
            return z.repeat_interleave(2, 2).repeat_interleave(2, 3)

    found = latent_study.look_at_latents(Every(), 8)
    assert found["spectrum"][1] == 1 and found["spectrum"][16] < 0.1
    x = held_out(8)
    small = Every().decode(torch.nn.functional.avg_pool2d(x, 4))
    half = torch.nn.functional.avg_pool2d(x, 2)
    error = (small - half).square().mean((1, 2, 3))
    assert found["half_psnr"] == pytest.approx(float((10 * (4 / error).log10()).mean()))


# --- features as latents --------------------------------------------------------------


@pytest.fixture
def features():
    return FeatureCodec.fit(held_out(32), (8, 8, 8, 8))


def test_features_have_unit_scale_and_are_scenenets(features):
    x = held_out(32)
    z = features.encode(x)
    assert z.shape == (32, *features.latent_shape(64)) == (32, 64, 8, 8)
    assert_close(z.mean((0, 2, 3)), torch.zeros(64), atol=1e-4, rtol=0)
    assert_close(z.std((0, 2, 3)), torch.ones(64), atol=1e-3, rtol=0)
    raw = SceneNet.load("scenenet").maps(x)[STAGE]
    assert_close(z * features.std + features.mean, raw, atol=1e-4, rtol=1e-4)
    assert features.decode(z).shape == x.shape


def test_only_the_decoder_is_trained_and_noise_reaches_it(features):
    task, x = FeatureDecoding(features), held_out(4)
    trained = [name for name, p in task.named_parameters() if p.requires_grad]
    assert trained and all(name.startswith("codec.decoder") for name in trained)
    losses = {
        float(task(x, generator=torch.Generator().manual_seed(seed))[0].detach())
        for seed in (0, 1, 1)
    }
    assert len(losses) == 2
    assert not features.encode(x).requires_grad


def test_a_codec_of_features_is_a_plug(features, tmp_path):
    """It comes back from the disk, alone and within a model, and sizes are checked."""
    features.save(tmp_path / "codec")
    again = FeatureCodec.load(tmp_path / "codec")
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            features.state_dict().values(), again.state_dict().values(), strict=True
        )
    )
    net = UNet(UNetConfig(64, (32,), 1, ()))
    LatentDiffusion(features, net).save(tmp_path / "model")
    kinds = {"FeatureCodec": FeatureCodec}
    model = LatentDiffusion.load(tmp_path / "model", kinds)
    assert describe(model.codec, "codec") == describe(features, "codec")
    with pytest.raises(ValueError, match="60 pixels do not fit SceneNet"):
        features.latent_shape(60)


def test_a_training_on_a_codec_of_ones_own_that_is_done_is_read(features, tmp_path):
    first = trained_ldm(LDM, features, tmp_path)
    (tmp_path / "metrics.jsonl").unlink()  # a training would write it again
    second = trained_ldm(LDM, features, tmp_path)
    assert not (tmp_path / "metrics.jsonl").exists()
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


# --- few_steps ------------------------------------------------------------------------


@pytest.mark.parametrize("scale", SCALES)
def test_students_are_trained_alike_but_the_first_for_longer(scale):
    first, *others = (
        few_steps.student_training(SCALES[scale], n) for n in few_steps.LADDER
    )
    assert all(differing(one, others[0]) == set() for one in others)
    assert differing(first, others[0]) == {"steps"}
    assert first.steps == few_steps.FIRST * others[0].steps
    assert all(a == 2 * b for a, b in pairwise(few_steps.LADDER))
