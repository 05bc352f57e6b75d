"""Everything that judges: reconstructions, sets of images, latents."""

from ldm_tutorial.evaluation.batched import (
    decoded,
    draw,
    each_class,
    in_batches,
    share,
    through,
)
from ldm_tutorial.evaluation.distances import frechet_distance, precision_recall
from ldm_tutorial.evaluation.features import (
    FEATURES,
    feature_function,
    features_for,
    judged_classes,
    load_judge,
    trunk_on_disk,
)
from ldm_tutorial.evaluation.reports import (
    evaluate_codec,
    evaluate_details,
    image_values,
)
from ldm_tutorial.evaluation.samples import evaluate_samples, judge_samples
from ldm_tutorial.evaluation.sets import set_quality

__all__ = [
    "FEATURES",
    "decoded",
    "draw",
    "each_class",
    "evaluate_codec",
    "evaluate_details",
    "evaluate_samples",
    "feature_function",
    "features_for",
    "frechet_distance",
    "image_values",
    "in_batches",
    "judge_samples",
    "judged_classes",
    "load_judge",
    "precision_recall",
    "set_quality",
    "share",
    "through",
    "trunk_on_disk",
]
