"""Recipes: a whole training described by one frozen dataclass."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from torch import nn

from ldm_tutorial.codec import Codec, LatentCodec
from ldm_tutorial.data import DataConfig
from ldm_tutorial.diffusion import Objective
from ldm_tutorial.dit import DiT, DiTConfig
from ldm_tutorial.landscapes.scenenet import SceneNetConfig
from ldm_tutorial.limits import check_batch, check_limits, check_model
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.training.config import TrainConfig
from ldm_tutorial.training.losses import VAELossConfig
from ldm_tutorial.unet import UNet, UNetConfig
from ldm_tutorial.vae import AutoencoderKL, VAEConfig

Autoencoder = Literal[
    "frozen", "detached", "joint", "joint-normalised", "joint-aligned"
]


Network = Literal["unet", "dit"]


@dataclass(frozen=True)
class VAERecipe(DataConfig):
    """Training of an autoencoder.

    Attributes:
        init: a trained autoencoder of the same shape to start from, as a folder or by
            its shipped name; null for random weights.
        freeze_encoder: train the decoder of ``init`` alone, so that its latents stay
            what they are.
        remove_checkerboard: take from the finished decoder what its last convolution
            passes of a checkerboard of pixels (``vae.remove_checkerboard``).
    """

    init: str | None = None
    freeze_encoder: bool = False
    remove_checkerboard: bool = False
    vae: VAEConfig = field(default_factory=VAEConfig)
    loss: VAELossConfig = field(default_factory=VAELossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self):
        """One channel may be said of the images or of the autoencoder: both get it.

        Raises:
            ValueError: for a checkerboard to remove where there is no head.
        """
        if 1 in (self.channels, self.vae.in_channels):
            object.__setattr__(self, "channels", 1)
            object.__setattr__(self, "vae", replace(self.vae, in_channels=1))
        if self.remove_checkerboard and not self.vae.head_channels:
            raise ValueError(
                "remove_checkerboard=True needs a head at full resolution; give "
                "vae.head_channels, such as 16"
            )


@dataclass(frozen=True)
class LDMRecipe(DataConfig):
    """Training of a diffusion model in the space of a codec.

    ``in_channels`` and ``num_classes`` of the denoiser are set from the codec and the
    data.

    Attributes:
        init: a trained model whose denoiser to start from, as a folder or by its
            shipped name; of the same shape, or a UNet with fewer residual blocks per
            level. Null for random weights.
        decoder: an autoencoder with the same encoder whose decoder the finished model
            gets, as a folder or by its shipped name; null for that of the codec.
        denoiser: which network, a unet or a dit (a transformer); ``unet`` and ``dit``
            are their shapes.
        objective: the noise schedule, what the denoiser predicts, and how times and
            labels are drawn; or a ``FlowMatching``.
        autoencoder: what becomes of the autoencoder: frozen; trained along on its own
            ``loss``, which the diffusion loss leaves alone (detached); trained on both
            (joint); on both, with latents that every batch is normalised by
            (joint-normalised); or with such latents, on its own loss and on an
            alignment loss that reaches it through the UNet, while the diffusion loss
            does not (joint-aligned, after Leng et al. 2025, REPA-E, arXiv:2504.10483).
        loss: of an autoencoder that is trained along.
    """

    init: str | None = None
    decoder: str | None = None
    denoiser: Network = "unet"
    unet: UNetConfig = field(default_factory=UNetConfig)
    dit: DiTConfig = field(default_factory=DiTConfig)
    objective: Objective = field(default_factory=Objective)
    autoencoder: Autoencoder = "frozen"
    loss: VAELossConfig = field(default_factory=VAELossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


@dataclass(frozen=True)
class SceneRecipe(DataConfig):
    """Training of a network that names the factors of a landscape."""

    net: SceneNetConfig = field(default_factory=SceneNetConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


def build_vae(recipe: VAERecipe) -> AutoencoderKL:
    """The untrained autoencoder of a recipe."""
    check_size(recipe.size, recipe.vae.downsampling)
    check_batch(numbers_at_once(recipe))
    check_model(lambda: AutoencoderKL(recipe.vae))
    return AutoencoderKL(recipe.vae)


def build_ldm(
    recipe: LDMRecipe,
    codec: Codec,
    classes: Sequence[str] = (),
    *,
    denoiser: nn.Module | None = None,
) -> LatentDiffusion:
    """The untrained model of a recipe, with the channels and classes that fit; with a
    ``denoiser`` of one's own in place of the recipe's."""
    check_training(recipe, codec)
    check_batch(numbers_at_once(recipe))
    return LatentDiffusion(
        codec,
        denoiser or build_denoiser(recipe, codec, len(classes)),
        objective=recipe.objective,
        image_size=recipe.size,
        classes=classes,
    )


def build_denoiser(recipe: LDMRecipe, codec: Codec, num_classes: int) -> nn.Module:
    """The untrained network of a recipe, for the arrays of a codec."""
    channels, height, _ = codec.latent_shape(recipe.size)
    fitting: dict[str, Any] = {"in_channels": channels, "num_classes": num_classes}
    if recipe.denoiser == "dit":
        dit = replace(recipe.dit, **fitting)
        check_size(recipe.size, recipe.size // height * dit.patch_size)
        check_model(lambda: DiT(dit))
        return DiT(dit)
    unet = replace(recipe.unet, **fitting)
    halvings = unet.patch_size * 2 ** (len(unet.channels) - 1)
    check_size(recipe.size, recipe.size // height * halvings)
    check_model(lambda: UNet(unet))
    return UNet(unet)


def check_training(recipe: LDMRecipe, codec: Codec) -> None:
    """Raise a ValueError for a way of training that is unknown or does not fit."""
    ways = get_args(Autoencoder)
    if recipe.autoencoder not in ways:
        raise ValueError(
            f"autoencoder={recipe.autoencoder!r} is unknown; choose {', '.join(ways)}"
        )
    if recipe.denoiser not in get_args(Network):
        raise ValueError(
            f"denoiser={recipe.denoiser!r} is unknown; choose "
            f"{', '.join(get_args(Network))}"
        )
    flow = getattr(recipe.objective, "prediction_type", None) == "flow"
    if recipe.autoencoder == "joint-aligned" and (flow or recipe.denoiser != "unet"):
        raise ValueError(
            "autoencoder='joint-aligned' reads features of a UNet at the times of a "
            "diffusion; leave denoiser at unet, and prediction_type at eps, v or x0"
        )
    if recipe.autoencoder != "frozen" and not isinstance(codec, LatentCodec):
        raise ValueError(
            f"autoencoder={recipe.autoencoder!r} was asked of a pixel model, which has "
            "none; give an autoencoder (--vae), or leave it at 'frozen'"
        )
    if recipe.autoencoder != "frozen" and recipe.decoder:
        raise ValueError(
            f"decoder={recipe.decoder} was asked of an autoencoder that is trained "
            "along; leave it out, or leave autoencoder at 'frozen'"
        )
    for name in ("adversarial_weight", "equivariance_weight", "alignment_weight"):
        if recipe.autoencoder != "frozen" and getattr(recipe.loss, name):
            raise ValueError(
                f"loss.{name}={getattr(recipe.loss, name)}; an autoencoder that is "
                "trained along has no such term: leave it at 0"
            )


def check_channels(recipe: LDMRecipe, codec: Codec | None) -> None:
    """Raise a ValueError for an autoencoder of other images than the recipe's."""
    made_for = codec.vae.config.in_channels if isinstance(codec, LatentCodec) else None
    if made_for not in (None, recipe.channels):
        raise ValueError(
            f"the autoencoder knows images of {made_for} channels, and channels="
            f"{recipe.channels} was asked for; give {made_for}"
        )


def numbers_at_once(recipe: VAERecipe | LDMRecipe) -> int:
    """How many numbers the images have that are computed at once."""
    images = recipe.train.batch_size // recipe.train.accumulate
    return images * recipe.channels * recipe.size**2


def check_counts(config: Any, *names: str) -> None:
    """Raise a ValueError for a field with a number below 1, or without any, and for
    absurd sizes."""
    for name in names:
        value = getattr(config, name)
        if min(value if isinstance(value, tuple) else (value,), default=0) < 1:
            raise ValueError(f"{name}={value}; give 1 or more")
    check_limits(vars(config))


def check_size(size: int, multiple: int) -> None:
    """Raise a ValueError if the networks cannot halve images so often."""
    if size % multiple:
        raise ValueError(
            f"size={size}; this model halves its images to 1/{multiple}: "
            f"give a multiple of {multiple}"
        )
