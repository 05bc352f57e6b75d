"""Everything that trains: recipes, losses, one loop, and the run on disk."""

from ldm_tutorial.data import DataConfig, images, whole
from ldm_tutorial.training.config import TrainConfig
from ldm_tutorial.training.fit import (
    cache_latents,
    train_ldm,
    train_scenenet,
    train_vae,
)
from ldm_tutorial.training.loop import is_main_process, train
from ldm_tutorial.training.losses import VAELossConfig, vae_loss
from ldm_tutorial.training.presets import (
    LDM_PRESETS,
    PIXEL_PRESETS,
    SCENE_PRESETS,
    VAE_PRESETS,
)
from ldm_tutorial.training.recipes import (
    LDMRecipe,
    SceneRecipe,
    VAERecipe,
    build_ldm,
    build_vae,
)
from ldm_tutorial.training.tasks import CachedLatentTraining, JointTraining, VAETraining

__all__ = [
    "LDM_PRESETS",
    "PIXEL_PRESETS",
    "SCENE_PRESETS",
    "VAE_PRESETS",
    "CachedLatentTraining",
    "DataConfig",
    "JointTraining",
    "LDMRecipe",
    "SceneRecipe",
    "TrainConfig",
    "VAELossConfig",
    "VAERecipe",
    "VAETraining",
    "build_ldm",
    "build_vae",
    "cache_latents",
    "images",
    "is_main_process",
    "train",
    "train_ldm",
    "train_scenenet",
    "train_vae",
    "vae_loss",
    "whole",
]
