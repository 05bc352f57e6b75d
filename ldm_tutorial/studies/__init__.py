"""The book's recorded experiments, one file each; ``reproduce`` runs them."""

from ldm_tutorial.studies import attribution, kl
from ldm_tutorial.studies.kl import WEIGHTS
from ldm_tutorial.studies.loss_ablation import LOSSES, loss_recipe
from ldm_tutorial.studies.reproduce import STUDIES, reproduce
from ldm_tutorial.studies.study import SCALES, Scale, Study

__all__ = [
    "LOSSES",
    "SCALES",
    "STUDIES",
    "WEIGHTS",
    "Scale",
    "Study",
    "attribution",
    "kl",
    "loss_recipe",
    "reproduce",
]
