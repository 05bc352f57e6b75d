"""Named recipes.

``smoke`` runs in seconds and shows that everything works, ``cpu`` in minutes on two
cores, ``gpu`` is for one accelerator. ``reference`` made the weights that ship.
"""

from dataclasses import replace
from typing import Any

from ldm_tutorial.diffusion import Objective
from ldm_tutorial.flow import FlowMatching
from ldm_tutorial.landscapes.scenenet import SceneNetConfig
from ldm_tutorial.schedule import ScheduleConfig
from ldm_tutorial.training.config import TrainConfig
from ldm_tutorial.training.discriminator import DiscriminatorConfig
from ldm_tutorial.training.losses import VAELossConfig
from ldm_tutorial.training.recipes import LDMRecipe, SceneRecipe, VAERecipe
from ldm_tutorial.unet import UNetConfig
from ldm_tutorial.vae import VAEConfig

SMOKE = TrainConfig(
    steps=20, batch_size=16, warmup_steps=5, log_every=5, checkpoint_every=10
)

VAE_PRESETS = {
    "smoke": VAERecipe(
        length=256,
        vae=VAEConfig(channels=(16, 16, 32, 32)),
        train=SMOKE,
    ),
    "cpu": VAERecipe(
        train=TrainConfig(steps=1500, batch_size=32, learning_rate=2e-3),
    ),
    "gpu": VAERecipe(
        length=500_000,
        vae=VAEConfig(channels=(64, 128, 192, 256), num_res_blocks=2),
        train=TrainConfig(
            steps=30_000, batch_size=128, precision="bf16", num_workers=8
        ),
    ),
    "reference": VAERecipe(
        length=200_000,
        train=TrainConfig(
            steps=3000,
            batch_size=32,
            learning_rate=2e-3,
            precision="bf16",
            checkpoint_every=250,
        ),
    ),
}
VAE_PRESETS["f16-start"] = replace(
    VAE_PRESETS["reference"], vae=VAEConfig(downsampling=16, latent_channels=16)
)
VAE_PRESETS["f16"] = replace(
    VAE_PRESETS["f16-start"],
    init="runs/vae-f16-start",
    train=replace(VAE_PRESETS["f16-start"].train, steps=4500, seed=1),
)
VAE_PRESETS["perceptual-start"] = VAERecipe(
    length=50_000,
    init="vae-f8",
    loss=VAELossConfig(
        perceptual="scenenet",
        contrast_weight=1.0,
        adversarial_weight=0.3,
        adversarial_start=600,
    ),
    train=TrainConfig(steps=1000, batch_size=32, learning_rate=1e-3, precision="bf16"),
)
# The critic and SceneNet care little for stars: they step back, contrast counts more.
VAE_PRESETS["perceptual"] = replace(
    VAE_PRESETS["perceptual-start"],
    init="runs/vae-f8-perceptual-start",
    loss=VAELossConfig(
        perceptual="scenenet",
        perceptual_weight=0.25,
        contrast_weight=4.0,
        adversarial_weight=0.1,
    ),
    train=replace(VAE_PRESETS["perceptual-start"].train, steps=2500, seed=1),
)
# Both halves, from the plain autoencoder: what a mean forgets is asked of the encoder,
# loudly, and the head works at full resolution.
VAE_PRESETS["sharp-start"] = VAERecipe(
    length=50_000,
    init="vae-f8",
    vae=VAEConfig(head_channels=16),
    loss=VAELossConfig(contrast_weight=4.0),
    train=TrainConfig(
        steps=2800,
        batch_size=16,
        learning_rate=1e-3,
        ema_decay=0.998,
        checkpoint_every=200,
        seed=2,
    ),
)
# The decoder alone learns to look right: SceneNet, bands, and a critic held back by R1.
# The encoder stays what it is, so a diffusion model can be trained meanwhile.
VAE_PRESETS["sharp"] = replace(
    VAE_PRESETS["sharp-start"],
    init="runs/vae-f8-sharp-start",
    freeze_encoder=True,
    remove_checkerboard=True,
    loss=VAELossConfig(
        perceptual="scenenet",
        perceptual_weight=0.25,
        contrast_weight=2.5,
        band_weight=0.1,
        adversarial_weight=0.3,
        adversarial_start=100,
        r1_weight=1.0,
        discriminator=DiscriminatorConfig(norm="none"),
    ),
    train=replace(
        VAE_PRESETS["sharp-start"].train,
        steps=2400,
        learning_rate=8e-4,
        checkpoint_every=50,
        seed=3,
    ),
)
# Latents stay what they are, so a diffusion model need not be trained anew.
VAE_PRESETS["decoder"] = replace(
    VAE_PRESETS["perceptual-start"],
    freeze_encoder=True,
    loss=VAELossConfig(perceptual="scenenet", contrast_weight=1.0),
)

SCENE_PRESETS = {
    "smoke": SceneRecipe(length=256, net=SceneNetConfig(features=16), train=SMOKE),
    "cpu": SceneRecipe(
        train=TrainConfig(steps=750, batch_size=64, learning_rate=2e-3),
    ),
    "gpu": SceneRecipe(
        length=500_000,
        train=TrainConfig(steps=8000, batch_size=256, precision="bf16", num_workers=8),
    ),
    "reference": SceneRecipe(
        length=80_000,
        train=TrainConfig(
            steps=1200, batch_size=64, learning_rate=2e-3, precision="bf16"
        ),
    ),
    "judge": SceneRecipe(
        length=100_000,
        net=SceneNetConfig(patch=4, channels=(64, 96, 128), block="residual"),
        train=TrainConfig(
            steps=1400, batch_size=64, learning_rate=2e-3, precision="bf16", seed=1
        ),
    ),
}

LDM_PRESETS = {
    "smoke": LDMRecipe(
        length=256,
        unet=UNetConfig(channels=(32, 32), num_res_blocks=1),
        train=SMOKE,
    ),
    "cpu": LDMRecipe(
        length=10_000,
        unet=UNetConfig(channels=(96, 128), num_res_blocks=1),
        train=TrainConfig(steps=4000, batch_size=64),
    ),
    "gpu": LDMRecipe(
        length=200_000,
        unet=UNetConfig(channels=(192, 384)),
        train=TrainConfig(
            steps=60_000, batch_size=256, precision="bf16", ema_decay=0.9995
        ),
    ),
    "reference-start": LDMRecipe(
        length=30_000,
        unet=UNetConfig(channels=(96, 128), num_res_blocks=1),
        train=TrainConfig(steps=3600, batch_size=64, precision="bf16"),
    ),
}
# One ingredient of `cpu` changed, and both.
LDM_PRESETS["dit"] = replace(LDM_PRESETS["cpu"], denoiser="dit")
FLOW: Any = FlowMatching()
LDM_PRESETS["flow"] = replace(LDM_PRESETS["cpu"], objective=FLOW)
LDM_PRESETS["dit-flow"] = replace(LDM_PRESETS["dit"], objective=FLOW)

# The capstone's reference: ten minutes of one core, on the shipped autoencoder.
LDM_PRESETS["capstone"] = LDMRecipe(
    length=8000,
    unet=UNetConfig(channels=(64, 96), num_res_blocks=1),
    objective=Objective(prediction_type="v", min_snr_gamma=5.0),
    train=TrainConfig(steps=1000, batch_size=64, ema_decay=0.995, log_every=50),
)
LDM_PRESETS["reference-middle"] = replace(
    LDM_PRESETS["reference-start"],
    init="runs/ldm-f8-start",
    decoder="runs/vae-f8-decoder",
    length=60_000,
    train=TrainConfig(
        steps=4200, batch_size=64, learning_rate=7e-4, precision="bf16", seed=1
    ),
)
LDM_PRESETS["reference-long"] = replace(
    LDM_PRESETS["reference-middle"],
    init="runs/ldm-f8-middle",
    length=100_000,
    train=TrainConfig(
        steps=8000, batch_size=64, learning_rate=8e-4, precision="bf16", seed=2
    ),
)
LDM_PRESETS["reference-late"] = replace(
    LDM_PRESETS["reference-long"],
    init="runs/ldm-f8-long",
    objective=Objective(logit_normal=(-0.4, 1.0)),
    train=replace(LDM_PRESETS["reference-long"].train, seed=3),
)
LDM_PRESETS["reference"] = replace(
    LDM_PRESETS["reference-late"],
    init="runs/ldm-f8-late",
    train=replace(LDM_PRESETS["reference-late"].train, steps=13_000, seed=4),
)
# The shipped model with a second residual block per level; it did not ship.
LDM_PRESETS["reference-deep"] = replace(
    LDM_PRESETS["reference"],
    init="runs/ldm-f8",
    unet=replace(LDM_PRESETS["reference"].unet, num_res_blocks=2),
    train=replace(LDM_PRESETS["reference"].train, steps=10_000, precision="no", seed=5),
)

# In one run from nothing, on the latents of an autoencoder that keeps stars, windows
# and ridges: `--vae vae-f8-sharp`. It predicts v at the times of a flow; the path of
# the cosine schedule is nearly a flow's, and all samplers of a diffusion work.
LDM_PRESETS["sharp"] = replace(
    LDM_PRESETS["reference-start"],
    length=60_000,
    objective=Objective(ScheduleConfig("cosine"), "v", logit_normal=(0.0, 1.0)),
    train=TrainConfig(steps=8000, batch_size=64, seed=6),
)

# A pixel model sees images as patches of 4 x 4 pixels: attention between all pixels of
# an image would take hours.
PIXEL_PRESETS = {
    name: replace(
        recipe,
        init=None,
        decoder=None,
        unet=replace(recipe.unet, patch_size=4),
        dit=replace(recipe.dit, patch_size=4),
    )
    for name, recipe in LDM_PRESETS.items()
}
