"""The exercises of the course, a file a topic; names are unique.

CHAPTERS lists them as the pages ask for them.
"""

from ldm_tutorial.teach.task import Exercise
from ldm_tutorial.teach.tasks.adversary import ADAPTIVE, HINGE
from ldm_tutorial.teach.tasks.ancestral import DDPM_STEP, POSTERIOR
from ldm_tutorial.teach.tasks.comparing import COMPARE
from ldm_tutorial.teach.tasks.debugging import FIND_THE_BUG
from ldm_tutorial.teach.tasks.decisions import CHOOSE_WEIGHT
from ldm_tutorial.teach.tasks.deterministic import DDIM_STEP, SAMPLER
from ldm_tutorial.teach.tasks.equivariance import EQUIVARIANCE
from ldm_tutorial.teach.tasks.features import FRECHET, PERCEPTUAL
from ldm_tutorial.teach.tasks.flows import EULER_STEP, FLOW_TARGET, TIME_SHIFT
from ldm_tutorial.teach.tasks.gaussians import KL, REPARAMETERISE
from ldm_tutorial.teach.tasks.guidance import CLASS_DROPOUT, GUIDANCE
from ldm_tutorial.teach.tasks.latents import NORMALISE, SCALING, SLERP
from ldm_tutorial.teach.tasks.loop import TRAIN
from ldm_tutorial.teach.tasks.measures import COMPRESSION, PSNR, RECALL
from ldm_tutorial.teach.tasks.networks import TIME_EMBEDDING
from ldm_tutorial.teach.tasks.noising import ADD_NOISE, V_TARGET, X0
from ldm_tutorial.teach.tasks.objective import DIFFUSION_LOSS
from ldm_tutorial.teach.tasks.operations import (
    ACTIVATIONS,
    ATTENTION_FLOPS,
    CONV_FLOPS,
)
from ldm_tutorial.teach.tasks.rates import ACTIVE, BITS, FREE_BITS, KL_WEIGHT
from ldm_tutorial.teach.tasks.reading import READ_CURVES
from ldm_tutorial.teach.tasks.savings import AMDAHL, BREAK_EVEN, SPEEDUP
from ldm_tutorial.teach.tasks.solvers import DPM_SOLVER
from ldm_tutorial.teach.tasks.tokens import MODULATION, PATCHIFY
from ldm_tutorial.teach.tasks.training import CACHED, EMA, MIN_SNR
from ldm_tutorial.teach.tasks.wiring import UNET_FORWARD

CHAPTERS: dict[int, tuple[Exercise, ...]] = {
    1: (
        PSNR,
        COMPRESSION,
        REPARAMETERISE,
        RECALL,
        PERCEPTUAL,
        FRECHET,
        HINGE,
        ADAPTIVE,
    ),
    2: (
        KL,
        KL_WEIGHT,
        BITS,
        ACTIVE,
        CHOOSE_WEIGHT,
        FREE_BITS,
        SCALING,
        NORMALISE,
        SLERP,
    ),
    3: (
        ADD_NOISE,
        POSTERIOR,
        X0,
        DIFFUSION_LOSS,
        TIME_EMBEDDING,
        UNET_FORWARD,
        CACHED,
        EMA,
        TRAIN,
        DDPM_STEP,
        DDIM_STEP,
        SAMPLER,
        DPM_SOLVER,
        CLASS_DROPOUT,
        GUIDANCE,
    ),
    4: (V_TARGET, MIN_SNR, COMPARE, FIND_THE_BUG, READ_CURVES),
    5: (CONV_FLOPS, ATTENTION_FLOPS, SPEEDUP, ACTIVATIONS, BREAK_EVEN, AMDAHL),
    6: (FLOW_TARGET, EULER_STEP, TIME_SHIFT, PATCHIFY, MODULATION, EQUIVARIANCE),
}

EXERCISES: dict[str, Exercise] = {
    exercise.name: exercise for chapter in CHAPTERS.values() for exercise in chapter
}
