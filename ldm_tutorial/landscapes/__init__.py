"""Procedural landscapes, the course's world, and the networks that read them."""

from ldm_tutorial.landscapes.dataset import (
    DETAILS,
    LENGTHS,
    Landscapes,
    detail_masks,
    render,
    render_with_masks,
)
from ldm_tutorial.landscapes.factors import (
    BIOMES,
    CLASS_NAMES,
    DAWN,
    DAY,
    DESERT,
    DUSK,
    FOREST,
    NIGHT,
    SEA,
    SNOW,
    TIMES,
    Factors,
    sample_factors,
)
from ldm_tutorial.landscapes.scenenet import SceneNet, SceneNetConfig

__all__ = [
    "BIOMES",
    "CLASS_NAMES",
    "DAWN",
    "DAY",
    "DESERT",
    "DETAILS",
    "DUSK",
    "FOREST",
    "LENGTHS",
    "NIGHT",
    "SEA",
    "SNOW",
    "TIMES",
    "Factors",
    "Landscapes",
    "SceneNet",
    "SceneNetConfig",
    "detail_masks",
    "render",
    "render_with_masks",
    "sample_factors",
]
