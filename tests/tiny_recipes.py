"""Recipes that train in a second, for tests."""

from ldm_tutorial import UNetConfig, VAEConfig
from ldm_tutorial.training.config import TrainConfig
from ldm_tutorial.training.recipes import LDMRecipe, VAERecipe

TRAIN = TrainConfig(
    steps=6, batch_size=4, warmup_steps=2, log_every=1, checkpoint_every=2
)
VAE = VAERecipe(
    size=16,
    length=24,
    vae=VAEConfig(channels=(8, 8, 16, 16), downsampling=4, decoder_patch=4),
    train=TRAIN,
)
LDM = LDMRecipe(
    size=16,
    length=24,
    unet=UNetConfig(channels=(32,), num_res_blocks=1, attention_levels=()),
    train=TRAIN,
)
