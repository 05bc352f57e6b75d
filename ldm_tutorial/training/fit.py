"""From a recipe to a trained model, saved to its folder."""

from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from ldm_tutorial.codec import Codec, LatentCodec, PixelCodec
from ldm_tutorial.data import NAMES, DataConfig, Images, batch_of, stream
from ldm_tutorial.disk import as_path, write_json
from ldm_tutorial.landscapes.dataset import Landscapes
from ldm_tutorial.landscapes.scenenet import SceneNet, Scenes, SceneTraining
from ldm_tutorial.machine import best_device
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.training import unfinished
from ldm_tutorial.training.config import Log
from ldm_tutorial.training.folder import check_folder, settings
from ldm_tutorial.training.items import Labelled
from ldm_tutorial.training.loop import is_main_process, train
from ldm_tutorial.training.recipes import (
    LDMRecipe,
    SceneRecipe,
    VAERecipe,
    build_ldm,
    build_vae,
    check_channels,
    check_counts,
    check_size,
)
from ldm_tutorial.training.tasks import (
    CachedLatentTraining,
    JointTraining,
    VAETraining,
    autoencoder,
)
from ldm_tutorial.unet import inherit
from ldm_tutorial.vae import AutoencoderKL, add_head, remove_checkerboard

OnLog = Callable[[Log], Any]
OnStart = Callable[[int], Any]


def train_vae(
    recipe: VAERecipe,
    out: str | Path | None = None,
    on_log: OnLog | None = None,
    on_start: OnStart | None = None,
    *,
    dataset: Dataset | None = None,
    validate: Dataset | None = None,
    show: Callable[[AutoencoderKL, int], Any] | None = None,
    show_every: int = 500,
) -> tuple[LatentCodec, list[Log]]:
    """Train an autoencoder, measure its latents, and save both to ``out``. With a
    frozen encoder the measures are those of ``recipe.init``. The autoencoder is frozen
    in the end; ``codec.requires_grad_(True)`` lets another training change it.

    Args:
        dataset: one's own, in place of the recipe's: images (3, H, W) in [-1, 1], or
            tuples (image, label).
        validate: a data set like it that is not trained on.
        show: called every ``show_every`` steps, and at the end, with the autoencoder,
            which then has its averaged weights, and the number of steps done.

    Other arguments as in ``training.train``.
    """
    data, held_out = chosen(recipe, dataset, validate)
    torch.manual_seed(recipe.train.seed)
    vae = build_vae(recipe)
    start = start_from(recipe, vae)
    module = VAETraining(vae.to(best_device()), recipe.loss, recipe.download)
    module.check(torch.empty(1, recipe.vae.in_channels, recipe.size, recipe.size))
    described = settings(recipe, start, dataset)
    described |= unfinished.model_of(LatentCodec(vae))
    shown = Shown(vae, show, show_every)
    run = Run(recipe, described, out, on_log, on_start, shown)
    log = run.train(module, data, held_out)
    if recipe.remove_checkerboard:
        remove_checkerboard(vae.decoder)
    if start and recipe.freeze_encoder:
        codec = LatentCodec(vae, start.mean, start.std).to(best_device())
    else:
        codec = LatentCodec.fit(vae, some_images(data))
    codec.freeze()
    if out is not None and is_main_process():
        codec.save(out)
    return codec, log


def some_images(dataset: Images, n: int = 2048) -> Iterator[Tensor]:
    """The first images of a data set, a batch at a time: enough to measure latents."""
    return (x for x, _ in stream(dataset, n))


def start_from(recipe: VAERecipe, vae: AutoencoderKL) -> LatentCodec | None:
    """Give ``vae`` the weights of ``recipe.init``, if any, and freeze its encoder if
    the recipe says so. The decoder may get a head that the one of ``init`` lacks.

    Raises:
        ValueError: if ``init`` is missing, damaged, or of another shape.
    """
    if recipe.init is None:
        if recipe.freeze_encoder:
            raise ValueError(
                "freeze_encoder=True without init would keep random weights; give "
                "init, a trained autoencoder"
            )
        return None
    codec = unfinished.load(LatentCodec, recipe.init)
    has = codec.vae.config
    grows = not has.head_channels and recipe.vae.head_channels
    asked = replace(recipe.vae, head_channels=0) if grows else recipe.vae
    for name, found in asdict(has).items():
        if found != getattr(asked, name):
            raise ValueError(
                f"init={recipe.init} has vae.{name}={found}, and vae.{name}="
                f"{getattr(recipe.vae, name)} was asked for; give {found}, or another "
                "autoencoder"
            )
    if grows:
        vae.encoder.load_state_dict(codec.vae.encoder.state_dict())
        add_head(vae.decoder, codec.vae.decoder)
    else:
        vae.load_state_dict(codec.vae.state_dict())
    if recipe.freeze_encoder:
        vae.encoder.requires_grad_(False)
    return codec


def train_ldm(
    recipe: LDMRecipe,
    codec: Codec | None = None,
    out: str | Path | None = None,
    on_log: OnLog | None = None,
    on_start: OnStart | None = None,
    watch: Callable[[LatentDiffusion, Log], Any] | None = None,
    *,
    dataset: Dataset | None = None,
    validate: Dataset | None = None,
    denoiser: nn.Module | None = None,
    show: Callable[[LatentDiffusion, int], Any] | None = None,
    show_every: int = 500,
) -> tuple[LatentDiffusion, list[Log]]:
    """Train a diffusion model; without a codec it works on pixels. The codec itself is
    left as it is: the model gets a copy.

    Args:
        watch: called with the model as it is, not yet averaged, and every new line of
            the log.
        dataset: one's own, in place of the recipe's: images (C, H, W) in [-1, 1], or
            tuples (image, label), whose classes the model then learns.
        validate: a data set like it that is not trained on.
        denoiser: a network of one's own, in place of the recipe's.
        show: called every ``show_every`` steps, and at the end, with the model, which
            then has its averaged weights, and the number of steps done.

    Other arguments as in ``training.train``.

    Raises:
        ValueError: for a recipe that cannot be built, or an autoencoder that shall be
            trained along and is none.
    """
    data, held_out = chosen(recipe, dataset, validate)
    if dataset is None:
        check_channels(recipe, codec)
    codec = copied(codec or PixelCodec(getattr(data, "channels", recipe.channels)))
    described = settings(recipe, codec, dataset)
    torch.manual_seed(recipe.train.seed)
    classes = tuple(data.classes)
    model = build_ldm(recipe, codec, classes, denoiser=denoiser).to(best_device())
    if recipe.init is not None:
        start_denoiser(recipe.init, model)
    finished = None
    if recipe.decoder is not None:
        finished = other_decoder(recipe.decoder, codec)
    if out is not None:
        check_folder(as_path(out), described)
    frozen = recipe.autoencoder == "frozen"
    module: nn.Module = model
    if not frozen:
        module = JointTraining(model, recipe.autoencoder, recipe.loss)
    elif isinstance(codec, LatentCodec):
        module = CachedLatentTraining(model)
        data = cache_latents(codec, data)
        held_out = cache_latents(codec, held_out) if held_out else None

    def logged(line: Log) -> None:
        if watch:
            model.eval()
            watch(model, line)
            model.train()
        if on_log:
            on_log(line)

    if dataset is None and recipe.data not in NAMES:
        described["classes"] = list(classes)
    described |= unfinished.model_of(model)
    run = Run(recipe, described, out, logged, on_start, Shown(model, show, show_every))
    log = run.train(module, data, held_out)
    model.eval()
    if not frozen:
        finish_codec(autoencoder(model), recipe.autoencoder, some_images(data))
    if finished:
        model.codec = finished.to(best_device())
    if out is not None and is_main_process():
        model.save(out)
    return model, log


def chosen(
    recipe: DataConfig, dataset: Dataset | None, validate: Dataset | None
) -> tuple[Any, Any]:
    """The data to train on, and those to validate with: the caller's, if there are any,
    else the recipe's."""
    if dataset is None:
        data: Any = recipe.training_set()
    else:
        data = Labelled(dataset, recipe.size)
    return data, None if validate is None else Labelled(validate, recipe.size)


def copied(codec: Codec) -> Any:
    """A codec that a training may have: on its device, and, where it has weights, a
    frozen copy, so that the caller's stays what it is."""
    codec = deepcopy(codec)
    if isinstance(codec, nn.Module):
        codec = codec.requires_grad_(False).to(best_device())
    return codec


def start_denoiser(init: str, model: LatentDiffusion) -> None:
    """Give ``model`` the denoiser of the model ``init``.

    Raises:
        ValueError: if that model is of another shape, or its denoiser has learned to
            answer another question.
    """
    start = unfinished.load(LatentDiffusion, init)
    for name, of in {
        "prediction_type": lambda m: m.prediction_type,
        "schedule": lambda m: getattr(m.objective, "schedule", None),
        "classes": lambda m: m.classes,
        "denoiser": lambda m: getattr(m.denoiser, "kind", None),
    }.items():
        if (old := of(start)) != (new := of(model)):
            raise ValueError(
                f"init={init} has {name} {old}, and {new} was asked for; give "
                "the same, or another model"
            )
    deeper: Any = model.denoiser
    trained: Any = start.denoiser
    try:
        if trained.config == deeper.config:
            deeper.load_state_dict(trained.state_dict())
        elif trained.kind == "UNet":
            inherit(deeper, trained)
        else:
            raise ValueError(f"{trained.config} is not {deeper.config}; give the same")
    except ValueError as error:
        raise ValueError(f"init={init}: {error}") from None


def other_decoder(name: str, codec: Codec) -> LatentCodec:
    """The autoencoder ``name``, if it decodes the latents of ``codec``.

    Raises:
        ValueError: if its encoder is another one.
    """
    found = unfinished.load(LatentCodec, name)
    encoders = [c.vae.encoder.state_dict() for c in (found, codec) if hasattr(c, "vae")]
    same = len(encoders) == 2 and encoders[0].keys() == encoders[1].keys()
    if not same or any(  # weights on disk may be rounded
        not torch.allclose(encoders[0][k], encoders[1][k].cpu(), rtol=2e-3, atol=1e-3)
        for k in encoders[0]
    ):
        raise ValueError(
            f"decoder={name} has another encoder than the autoencoder that the model "
            "is trained on; train it with init and freeze_encoder"
        )
    return found


def finish_codec(codec: LatentCodec, kind: str, batches: Iterable[Tensor]) -> None:
    """Freeze an autoencoder that was trained along, and measure its latents once more,
    unless the diffusion model has seen them at another scale."""
    fitted = LatentCodec.fit(codec.vae, batches)
    if kind != "joint":
        codec.load_state_dict(fitted.state_dict())


def train_scenenet(
    recipe: SceneRecipe,
    out: str | Path | None = None,
    on_log: OnLog | None = None,
    on_start: OnStart | None = None,
) -> tuple[SceneNet, list[Log]]:
    """Train a network that names the factors of a landscape.

    Arguments after the first as in ``training.train``.
    """
    if recipe.data != "landscapes":
        raise ValueError(
            f"data={recipe.data!r}; only of landscapes are the factors known: leave it "
            "at landscapes"
        )
    check_counts(recipe.net, "patch", "channels", "features")
    torch.manual_seed(recipe.train.seed)
    net = SceneNet(recipe.net)
    check_size(recipe.size, net.smallest)
    landscapes = recipe.load("train", recipe.length)
    assert isinstance(landscapes, Landscapes)
    scenes = Scenes(landscapes)
    module = SceneTraining(net).to(best_device())
    log = Run(recipe, settings(recipe), out, on_log, on_start).train(module, scenes)
    net.eval().requires_grad_(False)
    net.fit_spread(some_images(scenes.landscapes))
    if out is not None and is_main_process():
        net.save(out)
    return net, log


@dataclass(frozen=True)
class Shown:
    """A model that is shown to a function while it is trained."""

    model: Any
    function: Callable[[Any, int], Any] | None
    every: int

    def __call__(self, step: int) -> None:
        if self.function:
            self.function(self.model, step)


@dataclass(frozen=True)
class Run:
    """One training of a recipe, in its folder if there is one; ``recipe.json`` says
    from the start what the folder holds."""

    recipe: VAERecipe | LDMRecipe | SceneRecipe
    described: dict[str, Any]
    out: str | Path | None
    on_log: OnLog | None
    on_start: OnStart | None
    shown: "Shown | None" = None

    def train(
        self, module: nn.Module, dataset: Dataset, validate: Dataset | None = None
    ) -> list[Log]:
        """Train, or go on with a training that was stopped."""
        config, out = self.recipe.train, self.out
        if out is not None:
            check_folder(as_path(out), self.described)
        shown = self.shown
        return train(
            module,
            dataset,
            config,
            out,
            self.on_log,
            self._start,
            validate=validate,
            show=shown if shown and shown.function else None,
            show_every=shown.every if shown else 1,
        )

    def _start(self, step: int) -> None:
        if self.out is not None and is_main_process():
            write_json(as_path(self.out) / "recipe.json", self.described)
        if self.on_start:
            self.on_start(step)


@torch.no_grad()
def cache_latents(codec: LatentCodec, dataset: Images) -> TensorDataset:
    """Encode a data set once: moments (n, 2C, h, w) and classes (n,)."""
    device = codec.mean.device
    moments, classes = [], []
    size = dataset[0][0].shape[-1]  # any data set of images will do
    for x, y in stream(dataset, len(dataset), batch_of(size, 256)):
        q = codec.posterior(x.to(device))
        moments.append(torch.cat([q.mu, q.logvar], dim=1).cpu())
        classes.append(y)
    return TensorDataset(torch.cat(moments), torch.cat(classes))
