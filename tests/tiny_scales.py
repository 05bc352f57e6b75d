"""A study in a second: arms that train for a few steps."""

from dataclasses import replace

from ldm_tutorial.studies.study import SCALES
from ldm_tutorial.training.config import TrainConfig

TINY = replace(
    SCALES["smoke"],
    vae=TrainConfig(steps=5, batch_size=8),
    ldm=TrainConfig(steps=4, batch_size=8),
    images=16,
    latents=16,
    judged=24,
    samples=24,
    steps=2,
    seconds=0.5,
    pictures=(100, 120),
)
