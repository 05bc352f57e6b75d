"""The conclusions of the book, as data: each with the records it rests on."""

from claims.claim import Claim, problems
from claims.efficiency import EFFICIENCY
from claims.judging import JUDGING
from claims.kl import KL
from claims.own_images import OWN_IMAGES
from claims.pages import OPENING
from claims.road import ROAD
from claims.vae import VAE

CLAIMS: list[Claim] = [*OPENING, *VAE, *KL, *JUDGING, *EFFICIENCY, *ROAD, *OWN_IMAGES]

__all__ = ["CLAIMS", "Claim", "problems"]
