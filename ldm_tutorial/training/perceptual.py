"""Perceptual distances: images compared in the features of a frozen network.

A blurred meadow is close to the sharp one pixel by pixel, and far from it for a network
that knows grass (Zhang et al. 2018, arXiv:1801.03924). SceneNet ships with the course;
the trunks of LPIPS were trained on photographs, and torchvision fetches them on request
into ``$TORCH_HOME/hub/checkpoints``.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm_tutorial.landscapes.scenenet import SceneNet
from ldm_tutorial.training.losses import perceptual_distance
from ldm_tutorial.training.processes import moments_over_processes

SCENENET = "scenenet"  # the shipped one that may be trained against

# name: the trunk as lpips calls it, its weights as torchvision does, and the smallest
# side of an image that leaves every layer a pixel
TRUNKS = {
    "lpips-squeeze": ("squeeze", "SqueezeNet1_1_Weights", 17),
    "lpips-alex": ("alex", "AlexNet_Weights", 31),
    "lpips-vgg": ("vgg", "VGG16_Weights", 16),
}


class FeatureDistance(nn.Module):
    """``distance(x_hat, x)`` -> (B,), for images (B, 3, H, W) in [-1, 1].

    The network is frozen and stays in evaluation mode. Gradients reach ``x_hat`` alone.
    """

    network: Any  # one with ``maps``, unless a subclass asks otherwise

    def __init__(self, network: nn.Module, smallest: int):
        super().__init__()
        self.network = network.requires_grad_(False)
        self.smallest = smallest
        self.eval()

    def maps(self, x: Tensor) -> Sequence[Tensor]:
        """The features that are compared, one tensor (B, C, H, W) a layer."""
        return self.network.maps(x)

    def weights(self) -> list[Tensor] | None:
        """How much each channel counts, one tensor (C,) a layer; None for 1."""
        return None

    def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """
        Raises:
            ValueError: for images that differ in shape or are too small.
        """
        self.check(x)
        if x_hat.shape != x.shape:
            raise ValueError(
                f"got images of shapes {tuple(x_hat.shape)} and {tuple(x.shape)}; give "
                "two batches of the same shape"
            )
        maps_hat, maps = self.maps(x_hat), self.maps(x.detach())
        return perceptual_distance(maps_hat, maps, self.weights())

    def check(self, x: Tensor) -> None:
        """Raise a ValueError for what are no images, or too small ones."""
        if x.ndim != 4 or x.shape[1] != 3 or min(x.shape[2:]) < self.smallest:
            raise ValueError(
                f"got images of shape {tuple(x.shape)}; this perceptual loss wants "
                f"(B, 3, H, W) with sides of {self.smallest} or more: give larger "
                "images, or another perceptual loss"
            )

    def train(self, mode: bool = True) -> "FeatureDistance":
        """Stay in evaluation mode: LPIPS has dropout."""
        return super().train(False)


class LPIPS(FeatureDistance):
    """The distance of Zhang et al.: an ImageNet trunk, and weights of its channels that
    were fitted to what people call similar."""

    def maps(self, x: Tensor) -> Sequence[Tensor]:
        return self.network.net(self.network.scaling_layer(x))

    def weights(self) -> list[Tensor]:
        return [head.model[-1].weight.flatten() for head in self.network.lins]


class Alignment(nn.Module):
    """How little the features of a denoiser, or a latent, say of what SceneNet sees in
    the clean image: the alignment loss of REPA (Yu et al. 2025, arXiv:2410.06940,
    eq. 8).

    A small network, trained along, translates the features, place by place. What all
    images and places have in common is taken out of the target first: it would be
    matched without looking.

    Args:
        channels: of the features, or of the latent.
    """

    def __init__(self, channels: int, width: int = 128):
        super().__init__()
        network = SceneNet.load(SCENENET)
        self.frozen = (network,)  # inside a tuple it is no submodule
        self.translate = nn.Sequential(
            nn.Conv2d(channels, width, 1),
            nn.SiLU(),
            nn.Conv2d(width, width, 1),
            nn.SiLU(),
            nn.Conv2d(width, network.config.channels[-1], 1),
        )

    def forward(self, h: Tensor, x: Tensor) -> Tensor:
        """1 minus the mean cosine between features h (B, channels, H', W'), translated,
        and those of the images x (B, 3, H, W) at the same places: a scalar, 0 to 2.

        Raises:
            ValueError: for images that are too small for SceneNet.
        """
        target = self.frozen[0].to(x.device).maps(x)[-1]
        target = F.adaptive_avg_pool2d(target, (h.shape[-2], h.shape[-1]))
        common, _ = moments_over_processes(target)
        target = target - common.view(-1, 1, 1)
        return 1 - F.cosine_similarity(self.translate(h), target, dim=1).mean()

    def check(self, x: Tensor) -> None:
        """Raise a ValueError for images that SceneNet cannot look at."""
        self.frozen[0].to(x.device).maps(x)


def load_perceptual(name: str, download: bool = False) -> FeatureDistance:
    """A perceptual distance by its name.

    Args:
        name: scenenet, lpips-squeeze (5 MB), lpips-alex (233 MB) or lpips-vgg (528 MB).
        download: fetch a trunk that is not on disk.

    Raises:
        FileNotFoundError: if the trunk is not on disk.
        OSError: if it could not be fetched.
        ValueError: for another name, or a damaged file.
    """
    if name == "scenenet":
        network = SceneNet.load(SCENENET)
        return FeatureDistance(network, network.smallest)
    if name not in TRUNKS:
        raise ValueError(
            f"perceptual loss {name!r} is unknown; choose scenenet, {', '.join(TRUNKS)}"
        )
    path = trunk_file(name)
    if path.is_file():
        check_trunk(path)
    elif not download:
        raise FileNotFoundError(
            f"{name} needs {path.name}, which is not in {path.parent}: fetch it with "
            "download=True (--download), or take perceptual='scenenet', which ships "
            "with the course"
        )
    trunk, _, smallest = TRUNKS[name]
    try:
        return LPIPS(lpips_network(trunk), smallest)
    except OSError as error:
        raise OSError(
            f"could not fetch {path.name} for {name} ({error}): go online, put the "
            f"file into {path.parent}, or take perceptual='scenenet', which ships with "
            "the course"
        ) from None
    except RuntimeError:  # other tensors than the trunk's, or a wrong checksum
        raise ValueError(damaged(path)) from None


def trunk_file(name: str) -> Path:
    """Where torchvision keeps the weights of a trunk; heeds ``TORCH_HOME``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchvision import models

    url = getattr(models, TRUNKS[name][1]).IMAGENET1K_V1.url
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


def check_trunk(path: Path) -> None:
    """Raise a ValueError for a file that is damaged, or could do harm when unpickled:
    torchvision reads it without asking."""
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # a broken file makes torch fail in many ways
        raise ValueError(damaged(path)) from None


def damaged(path: Path) -> str:
    return f"{path} is damaged or of another network; remove it and fetch it again"


def lpips_network(trunk: str) -> nn.Module:
    """The network of the lpips package. It asks torchvision in words that are out of
    date, and draws random numbers before it loads the weights; neither may show."""
    with warnings.catch_warnings(), torch.random.fork_rng([]):
        warnings.simplefilter("ignore")
        import lpips

        return lpips.LPIPS(net=trunk, verbose=False)
