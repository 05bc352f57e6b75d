"""What a slip gets back from the library: one line that says what was given and how to
mend it, whatever the function.

One table for all of them: a name, the call, and words that its answer has to hold.
"""

import re
from functools import cache

import numpy
import pytest
import torch

from ldm_tutorial import metrics
from ldm_tutorial.codec import LatentCodec, PixelCodec
from ldm_tutorial.diffusion import Objective, min_snr_weight, prediction_target
from ldm_tutorial.dit import DiT, DiTConfig
from ldm_tutorial.evaluation.distances import frechet_distance, precision_recall
from ldm_tutorial.evaluation.latents import slerp
from ldm_tutorial.flow import FlowMatching, FlowSchedule, euler, heun
from ldm_tutorial.gaussian import DiagonalGaussian
from ldm_tutorial.guidance import guided
from ldm_tutorial.noise import generators, normal_like
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.samplers import ddim, ddpm, dpm_solver_pp, last
from ldm_tutorial.schedule import NoiseSchedule, ScheduleConfig
from ldm_tutorial.training.batches import StepSampler
from ldm_tutorial.training.config import TrainConfig
from ldm_tutorial.training.losses import (
    VAELossConfig,
    kl_weight_from,
    reconstruction_loss,
)
from ldm_tutorial.training.recipes import LDMRecipe, VAERecipe, build_ldm, build_vae
from ldm_tutorial.unet import UNet, UNetConfig
from ldm_tutorial.vae import AutoencoderKL, VAEConfig

NAN, INF = float("nan"), float("inf")
X = torch.zeros(2, 3, 16, 16)
Z = torch.zeros(2, 4, 2, 2)
FEATURES = torch.arange(24.0).reshape(6, 4)
SMALL = UNetConfig(4, (32,), 1, (), num_classes=2)


@cache
def vae():
    return AutoencoderKL(VAEConfig(channels=(8,)))


@cache
def model(classes=("sea", "wood")):
    unet = UNet(UNetConfig(4, (32,), 1, (), num_classes=len(classes)))
    return LatentDiffusion(LatentCodec(vae()), unet, image_size=16, classes=classes)


def draw(n=2, **options):
    return model().sample(n, **{"steps": 1} | options)


@cache
def spoilt():
    """A model whose last weight is nan."""
    unet = UNet(SMALL)
    torch.nn.init.constant_(unet.out[-1].bias, NAN)
    parts = {"image_size": 16, "classes": ("sea", "wood")}
    return LatentDiffusion(LatentCodec(vae()), unet, **parts)


def still(z_t, t):
    return z_t


def run(sampler, z_T=Z, schedule=None, denoiser=still, **options):
    flow = sampler in (euler, heun)
    schedule = schedule or (FlowSchedule() if flow else NoiseSchedule.linear(10))
    return last(sampler(denoiser, schedule, z_T, **{"steps": 2} | options))


def fit(*batches):
    return LatentCodec.fit(vae(), batches)


# name: (call, regular expression)
TABLE = {
    # metrics
    "psnr of 2 and 1": (lambda: metrics.psnr(X, X[:1]), r"\(2, 3.*\(1, 3.*same shape"),
    "psnr of other channels": (
        lambda: metrics.psnr(X, X[:, :1]),
        r"\(2, 1.*same shape",
    ),
    "psnr of bytes": (
        lambda: metrics.psnr(X.byte(), X.byte()),
        "uint8; give .*float32",
    ),
    "psnr of numpy": (lambda: metrics.psnr(X.numpy(), X), "ndarray; give .*tensor"),
    "ssim of 2 and 1": (lambda: metrics.ssim(X[:1], X), r"\(1, 3.*\(2, 3.*same shape"),
    "ssim of one image": (lambda: metrics.ssim(X[0], X[0]), r"\(3, 16, 16\).*B, C, H"),
    "ssim of tiny": (
        lambda: metrics.ssim(X[..., :4], X[..., :4]),
        r"16, 4\).*6 or more",
    ),
    "detail_psnr of 2 and 1": (
        lambda: metrics.detail_psnr(X, X[:1], {}),
        r"\(1, 3.*same shape",
    ),
    "detail_recall of 2 and 1": (
        lambda: metrics.detail_recall(X, X[:1], {}),
        r"\(1, 3.*same shape",
    ),
    # gaussian
    "gaussian of two shapes": (
        lambda: DiagonalGaussian(Z, Z[:1]),
        r"logvar \(1, 4, 2, 2\); give both the same shape",
    ),
    "gaussian of whole numbers": (
        lambda: DiagonalGaussian(Z.long(), Z.long()),
        "int64; give .*float32",
    ),
    "nll of another shape": (
        lambda: DiagonalGaussian(Z, Z).nll(Z[:1]),
        r"z has shape \(1, 4, 2, 2\).*same shape",
    ),
    "gaussian sample, seed": (
        lambda: DiagonalGaussian(Z, Z).sample(0),
        "type int; give a torch.Generator",
    ),
    # schedule
    "linear of 0": (lambda: NoiseSchedule.linear(0), "timesteps=0; give 1 or more"),
    "linear of 2.5": (lambda: NoiseSchedule.linear(2.5), "=2.5; give a whole number"),
    "linear of 10^9": (lambda: NoiseSchedule.linear(10**9), "give 1 to 100000$"),
    "linear from 0": (
        lambda: NoiseSchedule.linear(9, 0.0),
        "beta_start=0.0; give more",
    ),
    "linear to 1": (lambda: NoiseSchedule.linear(9, 0.1, 1.0), "beta_end=1.0; .*less"),
    "linear to nan": (lambda: NoiseSchedule.linear(9, 0.1, NAN), "beta_end=nan; give"),
    "linear that falls": (
        lambda: NoiseSchedule.linear(9, 0.02, 1e-4),
        "beta_start=0.02 lies above beta_end=0.0001; give betas that rise",
    ),
    "scaled_linear from -1": (
        lambda: NoiseSchedule.scaled_linear(9, -1.0),
        "beta_start=-1.0; give more than 0",
    ),
    "scaled_linear of 0": (
        lambda: NoiseSchedule.scaled_linear(0),
        "=0; give 1 or more",
    ),
    "cosine of 0": (lambda: NoiseSchedule.cosine(0), "timesteps=0; give 1 or more"),
    "cosine, s nan": (lambda: NoiseSchedule.cosine(9, NAN), "s=nan; give 0 or more"),
    "cosine, max_beta 1": (
        lambda: NoiseSchedule.cosine(9, max_beta=1.0),
        "max_beta=1.0; give more than 0 and less than 1",
    ),
    "betas of 2": (
        lambda: NoiseSchedule.from_betas(torch.tensor([0.1, 2.0])),
        "2 among them; give .*below 1",
    ),
    "betas of none": (
        lambda: NoiseSchedule.from_betas(X.flatten()[:0]),
        r"\(0,\); give",
    ),
    "betas as a list": (lambda: NoiseSchedule.from_betas([0.1]), "type list; give"),
    "alpha_bar that rises": (
        lambda: NoiseSchedule(torch.tensor([0.1, 0.2])),
        r"\(2,\) is not a noise schedule; give .*falls",
    ),
    "alpha_bar of none": (lambda: NoiseSchedule(torch.zeros(0)), r"\(0,\).*; give"),
    "schedule by a wrong name": (
        lambda: ScheduleConfig("cosin"),
        "'cosin' is unknown; choose linear, scaled_linear or cosine",
    ),
    "schedule config, betas": (
        lambda: ScheduleConfig(beta_start=0.5),
        "beta_start=0.5 lies above beta_end=0.02",
    ),
    "schedule config, T": (
        lambda: ScheduleConfig(num_train_timesteps=10**9),
        "=1000000000; give 1 to 100000$",
    ),
    "timesteps of a truth": (
        lambda: NoiseSchedule.linear(9).timesteps(True),
        "steps=True; give a whole number, 1 to 9",
    ),
    # samplers
    **{
        f"{sampler.__name__}, {what}": (
            lambda sampler=sampler, given=given: run(sampler, **given),
            words,
        )
        for sampler in (ddpm, ddim, dpm_solver_pp, euler, heun)
        for what, given, words in (
            ("whole z_T", {"z_T": Z.long()}, "z_T is torch.int64; give .*float32"),
            ("clip nan", {"clip": NAN}, "clip=nan; give more than 0"),
            ("clip 0", {"clip": 0.0}, "clip=0.0; give more than 0"),
            (
                "no steps",
                {"steps": 0},
                "^0 .*steps were asked.*; give .*1 to 10",
            ),
            (
                "steps -1",
                {"steps": -1},
                "^-1 .*steps were asked.*; give .*1 to 10",
            ),
            ("steps 2.0", {"steps": 2.0}, "steps=2.0; give a whole number, 1 to 10"),
            (
                "steps 1001",
                {"steps": 1001},
                "^1001 .*steps were asked.*; give .*1 to 10",
            ),
            (
                "nan",
                {"denoiser": lambda z, t: z * NAN},
                "ended in nan.*; look for such",
            ),
        )
    },
    "ddim, eta 2": (lambda: run(ddim, eta=2.0), r"eta=2.0; give 0 \(determ"),
    "ddim, eta nan": (lambda: run(ddim, eta=NAN), "eta=nan; give"),
    "ddim, eta -0.1": (lambda: run(ddim, eta=-0.1), "eta=-0.1; give 0"),
    "ddim, wrong target": (
        lambda: run(ddim, prediction_type="noise"),
        "'noise' is unknown; choose eps, v or x0",
    ),
    "ddpm on a flow": (
        lambda: run(ddpm, schedule=FlowSchedule()),
        "flow has no noise schedule; choose sampler euler or heun",
    ),
    "ddpm, a seed": (lambda: run(ddpm, generator=0), "int; give a torch.Generator"),
    "ddpm, one generator for two": (
        lambda: run(ddpm, generator=generators(0, 1)),
        "1 generators were given for 2 rows; give one for each",
    ),
    # guidance
    "guided, nan": (
        lambda: guided(still, None, NAN),
        "guidance_scale=nan; give a finite",
    ),
    "guided, inf": (
        lambda: guided(still, None, INF),
        "guidance_scale=inf; give a finite",
    ),
    "guided, rescale 2": (lambda: guided(still, None, 1.0, 2.0), "=2.0; give 0 to 1"),
    "guided, by name": (lambda: guided(still, None, "7"), "='7'; give a finite number"),
    # diffusion and flow
    "objective, schedule's name": (
        lambda: Objective("cosine"),
        "schedule='cosine'; give a ScheduleConfig",
    ),
    "objective, target": (
        lambda: Objective(prediction_type="noise"),
        "'noise' is unknown; choose eps, v or x0",
    ),
    "objective, dropout": (lambda: Objective(label_dropout=NAN), "=nan; give 0 to 1"),
    "objective, gamma": (
        lambda: Objective(min_snr_gamma=NAN),
        "=nan; give more than 0",
    ),
    "objective, logit": (
        lambda: Objective(logit_normal=(0.0, NAN)),
        "nan.*; give a finite number",
    ),
    "objective, one logit": (
        lambda: Objective(logit_normal=1.0),
        "logit_normal=1.0; give a mean and a standard deviation",
    ),
    "weight of gamma 0": (lambda: min_snr_weight(Z, 0), "gamma=0; give more than 0"),
    "target by a wrong name": (
        lambda: prediction_target(Z, Z, torch.tensor(0.5), "noise"),
        "choose eps, v or x0",
    ),
    "flow, shift inf": (lambda: FlowSchedule(shift=INF), "shift=inf; give .*finite"),
    "flow, T 0": (lambda: FlowSchedule(0), "timesteps=0; give 1 or more"),
    "flow, last 2": (lambda: FlowSchedule(last=2.0), "last=2.0; give .*up to 1"),
    "flow, dropout": (lambda: FlowMatching(label_dropout=2), "label_dropout=2; give 0"),
    "flow, logit": (
        lambda: FlowMatching(logit_normal=(0.0, 0.0)),
        "give a mean and a standard deviation above 0",
    ),
    # noise
    "noise, a seed": (lambda: normal_like(Z, 3), "type int; give a torch.Generator"),
    "noise, seeds": (
        lambda: normal_like(Z, [3, 4]),
        "type int; give a torch.Generator",
    ),
    "generators, n": (lambda: generators(0, -1), "n=-1; give 0 or more"),
    "generators, seed": (lambda: generators(-1, 2), "seed=-1; give 0 or more"),
    "generators, seed 0.5": (lambda: generators(0.5, 2), "seed=0.5; give a whole"),
    # codec
    "encode rank 3": (lambda: LatentCodec(vae()).encode(X[0]), r"\(3, 16, 16\).*wants"),
    "encode grey": (lambda: LatentCodec(vae()).encode(X[:, :1]), r"\(2, 1, .*B, 3, H"),
    "encode bytes": (lambda: LatentCodec(vae()).encode(X.byte()), "uint8; give"),
    "encode 12 pixels": (
        lambda: LatentCodec(vae()).encode(X[..., :12]),
        r"16, 12\).*multiples of 8",
    ),
    "encode no pixels": (
        lambda: LatentCodec(vae()).encode(X[..., :0]),
        r"16, 0\).*multiples of 8",
    ),
    "decode other channels": (
        lambda: LatentCodec(vae()).decode(Z[:, :3]),
        r"\(2, 3, 2, 2\); this codec wants \(B, 4, h, w\)",
    ),
    "decode one": (lambda: LatentCodec(vae()).decode(Z[0]), r"wants \(B, 4, h, w\)"),
    "decode whole": (lambda: LatentCodec(vae()).decode(Z.long()), "give .*float32"),
    "pixels of other channels": (
        lambda: PixelCodec().encode(X[:, :1]),
        r"\(2, 1, 16, 16\); this codec wants \(B, 3, H, W\)",
    ),
    "pixels of bytes": (lambda: PixelCodec().encode(X.byte()), "uint8; give .*float32"),
    "pixels, no channels": (lambda: PixelCodec(0), "channels=0; give 1 or more"),
    "shape of size 10": (
        lambda: LatentCodec(vae()).latent_shape(10),
        "10 pixels do not fit.*give a multiple of 8",
    ),
    "shape of size 0": (lambda: PixelCodec().latent_shape(0), "size=0; give 1 or more"),
    "codec, std 0": (lambda: LatentCodec(vae(), std=0.0), r"std=\[0.0\].*above 0"),
    "codec, mean nan": (lambda: LatentCodec(vae(), mean=NAN), r"mean=\[nan\].*finite"),
    "codec, 3 means": (
        lambda: LatentCodec(vae(), mean=torch.zeros(3)),
        "mean has 3 numbers for 4 channels; give one",
    ),
    "fit on nothing": (fit, "0 images were given.*give a few thousand"),
    "fit on one": (lambda: fit(X[:1, :, :8, :8]), "1 images were given.*give a few"),
    "fit on nan": (lambda: fit(X * NAN), r"mean=\[nan.*give finite numbers"),
    # pipeline
    **{
        f"sample, {what}": (lambda given=given: draw(**given), words)
        for what, given, words in (
            ("n 0", {"n": 0}, "n=0 samples.*; give a number from 1"),
            ("n -1", {"n": -1}, "n=-1 samples.*; give a number from 1"),
            ("n 2.0", {"n": 2.0}, "n=2.0; give a whole number"),
            ("n True", {"n": True}, "n=True; give a whole number"),
            ("no n", {"n": None}, "n=None samples .*; give a number from 1 on"),
            ("y True", {"y": True}, "torch.bool were given; give whole numbers"),
            ("y truths", {"y": [True, False]}, "torch.bool were given; give whole"),
            ("y 0.5", {"y": 0.5}, "float32 were given; give whole numbers"),
            ("y 0-d float", {"y": torch.tensor(1.0)}, "float32 .*give whole numbers"),
            ("y numpy float", {"y": numpy.array([0.0, 1.0])}, "give whole numbers"),
            ("y none of it", {"y": [None, 1]}, "type list .*give whole numbers"),
            ("y ragged", {"y": [[0], [0, 1]]}, "type list .*give whole numbers"),
            ("y of rank 2", {"y": torch.zeros(2, 2).long()}, r"\(2, 2\).*give one for"),
            ("y 2", {"y": 2}, "from 2 to 2 .*knows 0 to 1"),
            ("y -1", {"y": [0, -1]}, "from -1 to 0 .*knows 0 to 1"),
            (
                "y unknown",
                {"y": "desert"},
                "'desert' is unknown; choose from sea, wood",
            ),
            (
                "y 3 for 2",
                {"y": [0, 1, 0]},
                "3 classes .*n=2 samples; give one for each",
            ),
            ("y empty", {"y": []}, "no classes were given; give one for each"),
            ("steps 0", {"steps": 0}, "^0 sampling steps .*from 1 to 1000"),
            ("steps True", {"steps": True}, "steps=True; give a whole number"),
            ("guidance nan", {"guidance_scale": NAN}, "=nan; give a finite number"),
            ("sampler", {"sampler": "dpm"}, "'dpm' is unknown; choose ddpm, ddim"),
            (
                "ddpm with eta",
                {"sampler": "ddpm", "eta": 0.5},
                "leave it out with ddpm",
            ),
            ("a seed", {"generator": 0}, "type int; give a torch.Generator"),
            ("z_T of shape", {"z_T": Z[:, :3]}, r"starts from \(n, 4, 2, 2\)"),
            ("z_T of one", {"z_T": Z[0]}, r"\(4, 2, 2\); this model starts from"),
            ("z_T of other n", {"n": 3, "z_T": Z}, "and n=3; give"),
            ("z_T whole", {"z_T": Z.long()}, "z_T is torch.int64; give"),
            ("z_T a list", {"z_T": Z.tolist()}, "z_T is of type list; give"),
        )
    },
    "sample with nan weights": (
        lambda: spoilt().sample(2, steps=2),
        "nan.*the weights",
    ),
    "guidance without classes": (
        lambda: model(()).sample(1, steps=1, guidance_scale=2.0),
        "unconditional model; leave it at 1",
    ),
    "classes of none": (lambda: model(()).sample(1, y=0), "leave the classes out"),
    "image_size 10": (
        lambda: LatentDiffusion(LatentCodec(vae()), UNet(SMALL), image_size=10),
        "10 pixels do not fit",
    ),
    "classes as one name": (
        lambda: LatentDiffusion(PixelCodec(), UNet(SMALL), classes="sea"),
        "classes='sea'; give a tuple of names",
    ),
    "three names for two": (
        lambda: LatentDiffusion(
            LatentCodec(vae()), UNet(SMALL), image_size=16, classes=("a", "b", "c")
        ),
        "3 class names for a denoiser of 2 classes; give one name for each",
    ),
    # shapes of networks
    **{
        f"{config.__name__}, {what}": (lambda c=config, given=given: c(**given), words)
        for config, what, given, words in (
            (UNetConfig, "level", {"attention_levels": (5,)}, r"\(5,\).*some of 0, 1"),
            (UNetConfig, "level -1", {"attention_levels": (-1,)}, r"some of 0, 1, or"),
            (
                UNetConfig,
                "no levels",
                {"channels": ()},
                r"channels=\(\); give 1 or more",
            ),
            (UNetConfig, "wide", {"channels": (10**8,)}, "give 1 or more, up to"),
            (UNetConfig, "a number", {"channels": 64}, "channels=64; give a tuple"),
            (UNetConfig, "blocks", {"num_res_blocks": 10**6}, "give 1 to 1000"),
            (UNetConfig, "no blocks", {"num_res_blocks": 0}, "=0; give 1 or more"),
            (UNetConfig, "patch", {"patch_size": 0}, "patch_size=0; give 1"),
            (UNetConfig, "classes", {"num_classes": -1}, "num_classes=-1; give 0"),
            (UNetConfig, "dropout", {"dropout": 2.0}, "dropout=2.0; give 0, or up to"),
            (UNetConfig, "nan", {"dropout": NAN}, "dropout=nan; give 0 or more"),
            (DiTConfig, "heads", {"num_heads": 0}, "num_heads=0; give 1"),
            (DiTConfig, "width", {"width": 30}, "width=30 does not divide by 4"),
            (DiTConfig, "depth", {"depth": 10**6}, "give 1 to 1000"),
            (DiTConfig, "patch", {"patch_size": 1.0}, "=1.0; give a whole number"),
            (
                VAEConfig,
                "channels",
                {"channels": (32, 0)},
                r"\(32, 0\); give 1 or more",
            ),
            (
                VAEConfig,
                "f",
                {"downsampling": 6},
                "downsampling=6; give a power of two",
            ),
            (VAEConfig, "image", {"in_channels": 0}, "in_channels=0; give 1 or more"),
            (VAEConfig, "no levels", {"channels": ()}, r"=\(\); give 1 or more"),
            (DiTConfig, "no depth", {"depth": 0}, "depth=0; give 1 or more"),
            (UNetConfig, "width 0", {"channels": (0,)}, r"=\(0,\); give 1"),
            (VAEConfig, "latent", {"latent_channels": 0}, "latent_channels=0; give 1"),
            (VAEConfig, "blocks", {"num_res_blocks": -1}, "=-1; give 1 or more"),
            (VAEConfig, "groups", {"norm_num_groups": 5}, "give a number that does"),
            (VAEConfig, "head", {"head_channels": 2}, "give 0 for none, or 6"),
            (VAEConfig, "layout", {"layout": "sd"}, "'sd'; give 'compact' or"),
        )
    },
    "unet, 40 channels": (
        lambda: UNet(UNetConfig(channels=(40,))),
        "40 channels.*make the channels a multiple of 32",
    ),
    "unet, rank 3": (
        lambda: UNet(SMALL)(Z[0], torch.zeros(2)),
        r"\(4, 2, 2\); this UNet wants \(B, 4, H, W\)",
    ),
    "dit, rank 3": (
        lambda: DiT(DiTConfig(depth=1))(Z[0], torch.zeros(2)),
        r"\(4, 2, 2\); this DiT wants \(B, 4, H, W\)",
    ),
    # training
    **{
        f"training, {what}": (lambda given=given: TrainConfig(**given), words)
        for what, given, words in (
            ("steps", {"steps": 0}, "steps=0; give 1 or more"),
            ("steps 1.5", {"steps": 1.5}, "steps=1.5; give a whole number"),
            ("batch", {"batch_size": 0}, "batch_size=0; give 1 or more"),
            ("rate -1", {"learning_rate": -1.0}, "=-1.0; give more than 0"),
            ("rate nan", {"learning_rate": NAN}, "=nan; give more than 0"),
            ("ema 1", {"ema_decay": 1.0}, "ema_decay=1.0; give 0, or up to below 1"),
            ("ema nan", {"ema_decay": NAN}, "ema_decay=nan; give 0 or more"),
            ("decay", {"weight_decay": -0.1}, "weight_decay=-0.1; give 0 or more"),
            ("clip", {"gradient_clip": NAN}, "gradient_clip=nan; give 0 or more"),
            ("seed", {"seed": -1}, "seed=-1; give 0 or more"),
            ("precision", {"precision": "fp8"}, "'fp8'; give no, bf16 or fp16"),
        )
    },
    "losses, kl": (
        lambda: VAELossConfig(kl_weight=NAN),
        "kl_weight=nan; give 0 or more",
    ),
    "losses, kind": (lambda: VAELossConfig("l3"), "'l3' is unknown; choose l1, l2"),
    "losses, start": (
        lambda: VAELossConfig(adversarial_start=0.5),
        "=0.5; give a whole",
    ),
    "mse of 2 and 1": (
        lambda: reconstruction_loss(X, X[:1], "l2"),
        r"\(2, 3.*\(1, 3.*same shape",
    ),
    "loss of another kind": (
        lambda: reconstruction_loss(X, X, "l3"),
        "choose l1 or l2",
    ),
    "kl by another convention": (
        lambda: kl_weight_from("sum", 1.0, 3, 4),
        "'sum' is unknown; choose sums, means",
    ),
    "batches in parts": (
        lambda: StepSampler(9, TrainConfig(batch_size=3, accumulate=2), 0, 0, 1),
        "batch_size=3 does not divide.*give a multiple of 2",
    ),
    "recipe of 20 pixels": (
        lambda: build_vae(VAERecipe(size=20)),
        "size=20; .*give a multiple of 8",
    ),
    "recipe of pixels, joint": (
        lambda: build_ldm(LDMRecipe(autoencoder="joint"), PixelCodec()),
        "'joint' was asked of a pixel model",
    ),
    "recipe, network": (
        lambda: build_ldm(LDMRecipe(denoiser="mlp"), PixelCodec()),
        "'mlp' is unknown; choose unet, dit",
    ),
    # evaluation
    "fid of one": (
        lambda: frechet_distance(FEATURES[:1], FEATURES),
        r"\(1, 4\) and \(6, 4\); give .*at least 2",
    ),
    "fid of other widths": (
        lambda: frechet_distance(FEATURES, FEATURES[:, :3]),
        r"\(6, 4\) and \(6, 3\); give \(n, d\) and \(m, d\)",
    ),
    "fid of nan": (
        lambda: frechet_distance(FEATURES, FEATURES * NAN),
        "hold nan or infinity; give finite",
    ),
    "recall of few": (
        lambda: precision_recall(FEATURES[:3], FEATURES),
        "at least 4",
    ),
    "slerp of two shapes": (lambda: slerp(Z, Z[:1], 0.5), r"\(1, 4.*same shape"),
    "slerp, nan": (lambda: slerp(Z, Z, NAN), "t=nan; give a finite number"),
}


@pytest.mark.parametrize(("call", "words"), TABLE.values(), ids=TABLE)
def test_a_slip_gets_one_line(call, words):
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    line = str(caught.value)
    assert "\n" not in line and re.search(words, line), line


def test_good_arguments_pass():
    """The table could be passed by refusing everything: its neighbours are no slips."""
    assert draw(1).shape == (1, 3, 16, 16)
    for y in (1, "wood", torch.tensor(1), numpy.int64(1), [1, 0], ["sea", "wood"]):
        assert len(draw(2, y=y)) == 2
    assert len(draw(numpy.int64(2), steps=numpy.int64(1))) == 2
    for sampler in (ddpm, ddim, dpm_solver_pp, euler, heun):
        assert run(sampler, clip=1).isfinite().all()
    assert fit(X).std.min() > 0 and len(fit(X[:1], X[1:]).mean) == 4
    assert len(NoiseSchedule.linear(1, 0.1, 0.1)) == 1
    assert UNetConfig(channels=(32,)).attention_levels == (0, 1)  # those there are
