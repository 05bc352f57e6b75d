"""Features by which sets of images are compared, and the networks that give them."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from ldm_tutorial.data import DataConfig
from ldm_tutorial.landscapes.factors import BIOMES
from ldm_tutorial.landscapes.scenenet import SceneNet
from ldm_tutorial.machine import best_device
from ldm_tutorial.metrics import (
    thumbnails,
)
from ldm_tutorial.records import to_bytes
from ldm_tutorial.storage import shipped
from ldm_tutorial.training.perceptual import (
    TRUNKS,
    check_trunk,
    damaged,
    trunk_file,
)

FeatureFunction = Callable[[Tensor], Tensor]  # (B, 3, H, W) -> (B, d) on the CPU

JUDGE = "scenenet-judge"  # kept for evaluation: nothing was trained to please it
JUDGE_SIZE = 64  # side of the images that it was trained on
FEATURES = (JUDGE, "thumbnails", "inception")


def trunk_on_disk(size: int) -> str | None:
    """The first of the LPIPS trunks that is there and takes images of this size."""
    fit = [name for name, (_, _, smallest) in TRUNKS.items() if size >= smallest]
    return next((name for name in fit if trunk_file(name).is_file()), None)


def features_for(data: DataConfig) -> str:
    """The features by which these images are best compared without a download."""
    known = data.data == "landscapes" and data.size == JUDGE_SIZE
    return JUDGE if known and JUDGE in shipped() else "thumbnails"


def feature_function(name: str) -> FeatureFunction:
    """Features by name: images (B, 3, H, W) in [-1, 1] -> (B, d) on the CPU.

    scenenet-judge: of the SceneNet that is kept for evaluation. thumbnails: the images
    shrunk to 8 x 8 pixels. inception: the 2048 features of the Inception network of FID
    (Heusel et al. 2017), from the package torch-fidelity.

    Raises:
        ValueError: for another name, a missing package or a damaged file.
        FileNotFoundError: if the weights are not on disk.
    """
    if name == "thumbnails":
        return lambda x: thumbnails(x).cpu()
    device = best_device()
    if name == JUDGE:
        return lambda x: load_judge().features(x.to(device)).cpu()
    if name == "inception":
        inception = load_inception().to(device)
        return lambda x: inception(to_bytes(x).expand(-1, 3, -1, -1).to(device))[
            0
        ].cpu()
    raise ValueError(f"features {name!r} are unknown; choose {', '.join(FEATURES)}")


def load_inception() -> nn.Module:
    """The Inception network of FID: bytes (B, 3, H, W) -> ((B, 2048),)."""
    try:
        from torch_fidelity import feature_extractor_inceptionv3 as inception
    except ImportError:
        raise ValueError(
            "inception features need the package torch-fidelity: pip install "
            "torch-fidelity, or take features 'thumbnails'"
        ) from None
    url = inception.URL_INCEPTION_V3
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not path.is_file():
        raise FileNotFoundError(
            f"inception features need {path.name}, which is not in {path.parent}: "
            f"download it from {url}, or take features 'thumbnails'"
        )
    check_trunk(path)
    try:
        return inception.FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path)
        )
    except RuntimeError:  # other tensors than the network's
        raise ValueError(damaged(path)) from None


def judged_classes(features: Tensor) -> Tensor:
    """Classes (n,) of landscapes by their features (n, d) in the evaluation network."""
    judge = load_judge()
    said = judge.name(features.to(judge.spread.device) * judge.spread)
    return (len(BIOMES) * said["time"].argmax(1) + said["biome"].argmax(1)).cpu()


@cache
def load_judge() -> SceneNet:
    """The network that is kept for evaluation."""
    return SceneNet.load(JUDGE).to(best_device())
