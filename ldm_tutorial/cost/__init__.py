"""Everything that prices: parameters, operations, time and memory."""

from ldm_tutorial.cost.efficiency import (
    Timing,
    activation_bytes,
    count_flops,
    count_parameters,
    peak_bytes,
    time_side_by_side,
    training_step,
)
from ldm_tutorial.cost.spaces import SPACES, Space

__all__ = [
    "SPACES",
    "Space",
    "Timing",
    "activation_bytes",
    "count_flops",
    "count_parameters",
    "peak_bytes",
    "time_side_by_side",
    "training_step",
]
