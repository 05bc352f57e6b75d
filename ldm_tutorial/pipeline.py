"""Latent diffusion = diffusion + a codec.

    x   --codec.encode-->  z    --noise-->  z_t  --denoiser-->  prediction   (training)
    z_T --sampler-->       z_0  --codec.decode-->  x                         (sampling)

The four parts are plugs. With a ``PixelCodec`` in place of the ``LatentCodec`` the same
class is a pixel DDPM; any ``denoiser(z_t, t, y)`` takes the place of the UNet; the
``Objective`` says what is learned; and a sampler is a function.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ldm_tutorial.arguments import floating, whole
from ldm_tutorial.codec import Codec, LatentCodec, PixelCodec
from ldm_tutorial.diffusion import Objective
from ldm_tutorial.dit import DiT
from ldm_tutorial.flow import FlowMatching
from ldm_tutorial.guidance import check_guidance, guided
from ldm_tutorial.limits import check_limits
from ldm_tutorial.noise import Generators, drawn, in_float32, normal_like
from ldm_tutorial.samplers import Sampler, check_finite, find_sampler, last, named
from ldm_tutorial.schedule import NoiseSchedule
from ldm_tutorial.storage import built, describe, load_model, rebuild, save_model
from ldm_tutorial.unet import UNet

# What a model on disk may be made of, by the ``kind`` in its config.json.
KINDS: dict[str, Any] = {
    part.kind: part
    for part in (PixelCodec, LatentCodec, UNet, DiT, Objective, FlowMatching)
}

NO_NUMBERS = (torch.bool, torch.complex64, torch.complex128)  # no classes, that is

Classes = Tensor | Sequence[int | str] | int | str | None


class Denoiser(Protocol):
    """The network of a diffusion model: any callable with this signature.

    A model whose denoiser also has a ``kind`` and a ``config`` can be saved; see
    ``LatentDiffusion.load``. In a model of half precision it gets z_t in that, or in
    float32 if it says that its ``precise_ends`` know what to do with it.
    """

    def __call__(self, z_t: Tensor, t: Tensor, y: Tensor | None = None, /) -> Tensor:
        """The prediction (B, C, h, w) for noisy arrays z_t (B, C, h, w), times t int64
        (B,) and classes y int64 (B,); ``y=None`` means "no class" for all, and so does
        the label that comes after the last class."""
        ...


class LatentDiffusion(nn.Module):
    """A codec, a denoiser and what the denoiser is trained on.

    Args:
        codec: brings images to arrays and back; see ``codec.Codec``.
        denoiser: the network, for arrays of as many channels as the codec's.
        objective: how z_t is made and what is predicted.
        image_size: side of the images in pixels.
        classes: names of the classes, empty for an unconditional model.

    Raises:
        ValueError: if the denoiser's ``config`` speaks of other channels or classes.
    """

    def __init__(
        self,
        codec: Codec,
        denoiser: Callable[..., Tensor],
        *,
        objective: Objective | None = None,
        image_size: int = 64,
        classes: Sequence[str] = (),
    ):
        super().__init__()
        whole("image_size", image_size, 1, 2**16)
        if isinstance(classes, str):
            raise TypeError(f"classes={classes!r}; give a tuple of names")
        check_fit(denoiser, codec.latent_shape(image_size)[0], len(classes))
        self.codec, self.denoiser = codec, denoiser
        self.objective = objective or Objective()
        self.image_size, self.classes = image_size, tuple(classes)
        # An empty array that goes where the model goes, and says where that is.
        self.register_buffer("_place", torch.empty(0), persistent=False)
        self._place: Tensor

    @property
    def device(self) -> torch.device:
        return self._place.device

    @property
    def unet(self) -> Any:
        """The denoiser, by the name of the one that ships."""
        return self.denoiser

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__("denoiser" if name == "unet" else name, value)

    @property
    def schedule(self) -> NoiseSchedule:
        return self.objective.noise_schedule

    @property
    def prediction_type(self) -> str:
        return self.objective.prediction_type

    def forward(
        self,
        x: Tensor,
        y: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Training loss for images (B, 3, H, W) and classes (B,), and its log."""
        return self.loss(self.codec.encode(x, generator), y, generator=generator)

    def loss(
        self,
        z_0: Tensor,
        y: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The same for arrays that are encoded already; the classes of an
        unconditional model are not looked at."""

        def denoiser(z_t: Tensor, t: Tensor) -> Tensor:
            if not self.classes or y is None:
                return self._in_its_dtype(z_t, t)
            return self._in_its_dtype(z_t, t, self._hide(y, generator))

        loss = self.objective.loss(denoiser, z_0, generator=generator)
        return loss, {"diffusion": loss.detach()}

    def _hide(self, y: Tensor, generator: torch.Generator | None) -> Tensor:
        """Replace a share of the labels by "no class"."""
        chance = drawn(torch.rand, y.shape, generator, y.device).to(y.device)
        return y.masked_fill(chance < self.objective.label_dropout, len(self.classes))

    def sample(
        self, n: int | None = None, *, y: Classes = None, **options: Any
    ) -> Tensor:
        """Draw images.

        Args:
            n: how many; may be left out where ``y`` has one entry for each.
            y: classes, as numbers or names: one for each image, one for all, or None:
                each class in turn (an unconditional model has no classes).
            options: as in ``sample_latents``.

        Returns:
            Images (n, 3, H, W) in float32, clamped to [-1, 1].

        Raises:
            TypeError, ValueError: for a class, number, sampler or step count that does
                not fit, and for a model whose images are not finite.
        """
        z_0 = last(self.sample_latents(n, y=y, **options))
        with torch.no_grad():
            x = in_float32(self.codec.decode(z_0))
        check_finite(x)
        return x.clamp(-1, 1)

    def sample_latents(
        self,
        n: int | None = None,
        *,
        y: Classes = None,
        steps: int = 50,
        sampler: str | Sampler = "ddim",
        eta: float = 0.0,
        guidance_scale: float = 1.0,
        guidance_rescale: float = 0.0,
        schedule: NoiseSchedule | None = None,
        z_T: Tensor | None = None,
        generator: Generators | None = None,
    ) -> Iterator[Tensor]:
        """The sampler's arrays (n, C, h, w) in float32, one a step.

        Args:
            n, y: as in ``sample``.
            steps: denoiser calls, 1 to T.
            sampler: ddpm, ddim, dpm-solver++ (for a flow: euler, which is its ddim,
                and heun), or a function of one's own with the signature of these; of
                the options it gets those that it names.
            eta: how noisy DDIM's steps are, 0 to 1.
            guidance_scale: 1 is the plain model; see ``guidance.guided``.
            guidance_rescale: 0 to 1, for large guidance scales.
            schedule: noise levels to sample on, in place of those of the training.
            z_T: the noise to start from, (n, C, h, w); drawn if it is left out.
            generator: of the noise; a list of one for each image, as
                ``noise.generators`` gives them, makes every image the same in a
                batch of any size.
        """
        draw = find_sampler(sampler, self.objective, eta)
        check_guidance(guidance_scale, guidance_rescale)
        if z_T is not None:
            floating("z_T", z_T, "standard normal noise")
            if z_T.ndim == 4 and n not in (None, len(z_T)):
                raise ValueError(
                    f"z_T has shape {tuple(z_T.shape)} and n={n}; give (n, C, h, w)"
                )
            n = z_T.shape[0] if z_T.ndim == 4 else n or 1
        labels = self._labels(n, y)
        shape = self.codec.latent_shape(self.image_size)
        count = labels.shape[0] if labels is not None else n
        if guidance_scale != 1.0 and labels is None:
            raise ValueError(
                f"guidance_scale={guidance_scale} was asked of an unconditional model; "
                "leave it at 1"
            )
        if z_T is None:
            empty = torch.empty(count or 0, *shape, device=self.device)
            z_T = normal_like(empty, generator)
        elif tuple(z_T.shape[1:]) != tuple(shape):
            raise ValueError(
                f"z_T has shape {tuple(z_T.shape)}; this model starts from (n, "
                f"{', '.join(map(str, shape))})"
            )
        schedule = schedule or self.schedule
        schedule.timesteps(steps)  # complains about a number that does not fit
        options = {
            "steps": steps,
            "prediction_type": self.prediction_type,
            "clip": self.codec.clip,
            "generator": generator,
        } | ({"eta": eta} if eta else {})
        denoiser = guided(
            self._in_its_dtype,
            labels,
            guidance_scale,
            guidance_rescale,
            len(self.classes),
        )
        return draw(denoiser, schedule, z_T, **named(draw, options))

    def _in_its_dtype(self, z_t: Tensor, t: Tensor, *y: Tensor) -> Tensor:
        """The denoiser of float32 arrays, whatever it computes in itself."""
        dtype = self._place.dtype
        if getattr(self.denoiser, "precise_ends", False):
            dtype = torch.promote_types(dtype, torch.float32)
        found = self.denoiser(z_t.to(dtype), t, *y)
        if getattr(found, "shape", None) != z_t.shape:
            what = getattr(found, "shape", type(found).__name__)
            raise ValueError(
                f"the denoiser returned {what} for arrays of shape {tuple(z_t.shape)}; "
                "let it return a tensor of that shape"
            )
        return in_float32(found)

    def _labels(self, n: int | None, y: Classes) -> Tensor | None:
        """Classes of ``n`` samples, int64 (n,), or None for an unconditional model."""
        if y is not None and not self.classes:
            raise ValueError("this model is unconditional; leave the classes out")
        one = y is None or isinstance(y, int | str) or getattr(y, "ndim", 1) == 0
        if one and (n is None or (isinstance(n, int) and n < 1)):
            raise ValueError(f"n={n} samples were asked for; give a number from 1 on")
        if n is not None:
            whole("n", n)
        if not self.classes:
            return None
        if y is None:
            return torch.arange(n or 0, device=self.device) % len(self.classes)
        given: Any = y
        if not isinstance(y, Tensor) and hasattr(y, "tolist"):
            given = y.tolist()  # NumPy's arrays and scalars, names among them
        given = [given] if isinstance(given, int | str) else given
        if isinstance(given, Sequence):
            given = [self._number(c) if isinstance(c, str) else c for c in given]
        try:
            labels = torch.as_tensor(given)
        except (TypeError, RuntimeError, ValueError):
            raise TypeError(
                f"classes of type {type(y).__name__} were given; give whole numbers, "
                "or names"
            ) from None
        if not labels.numel():
            raise ValueError("no classes were given; give one for each sample, or n")
        if labels.dtype.is_floating_point or labels.dtype in NO_NUMBERS:
            raise TypeError(
                f"classes of type {labels.dtype} were given; give whole numbers, or "
                "names"
            )
        if labels.ndim > 1:
            raise ValueError(
                f"classes of shape {tuple(labels.shape)} were given; give one for each "
                "sample, (n,)"
            )
        labels = labels.expand(n) if one and n else labels
        if n not in (None, len(labels)):
            raise ValueError(
                f"{len(labels)} classes were given for n={n} samples; give one for "
                "each, or leave n out"
            )
        least, most = int(labels.min()), int(labels.max())
        if least < 0 or most >= len(self.classes):
            raise ValueError(
                f"classes from {least} to {most} were given; "
                f"this model knows 0 to {len(self.classes) - 1}"
            )
        return labels.to(self.device, torch.int64)

    def _number(self, name: str) -> int:
        if name not in self.classes:
            raise ValueError(
                f"class {name!r} is unknown; choose from {', '.join(self.classes)}"
            )
        return self.classes.index(name)

    def save(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write the whole model, codec and all, to a folder; ``dtype`` as in
        ``storage.save_model``.

        Raises:
            TypeError: for a part of one's own that would not come back as what it is:
                it needs a ``kind`` of its own, a ``config`` and a ``from_config``.
        """
        config = {
            "codec": describe(self.codec, "codec", KINDS),
            "denoiser": describe(self.denoiser, "denoiser", KINDS),
            "objective": describe(self.objective, "objective", KINDS),
            "image_size": self.image_size,
            "classes": self.classes,
        }
        tensors = {k.replace("_orig_mod.", ""): v for k, v in self.state_dict().items()}
        save_model(folder, "LatentDiffusion", config, tensors, dtype)  # not compiled

    @classmethod
    def load(
        cls, folder: str | Path, kinds: Mapping[str, Any] | None = None
    ) -> "LatentDiffusion":
        """Read a model from a folder, or a shipped one by its name (``ldm-f8``).

        Args:
            kinds: classes of one's own, by the ``kind`` under which they were saved;
                each has a class method ``from_config(config)``.

        Raises:
            ValueError: for a kind that is not known.
        """
        config, tensors = load_model(folder, "LatentDiffusion")
        config, tensors = upgrade(config, tensors)
        check_limits(config)
        known = KINDS | dict(kinds or {})
        parts = ("codec", "denoiser", "objective")
        others = {k: v for k, v in config.items() if k not in parts}

        def build() -> "LatentDiffusion":
            codec, denoiser, objective = (rebuild(config[p], known) for p in parts)
            return cls(codec, denoiser, objective=objective, **others)

        if not kinds:
            return built(build, tensors, folder).eval()
        model = build()  # with parts of one's own, which may ask for real memory
        model.load_state_dict(tensors)
        return model.eval()


def check_fit(denoiser: Any, channels: int, classes: int) -> None:
    """Raise a ValueError if a denoiser says of itself that it takes arrays of other
    channels than ``channels``, or knows another number of classes."""
    config: Any = getattr(denoiser, "config", None)
    if getattr(config, "in_channels", channels) != channels:
        raise ValueError(
            f"the codec gives {channels} channels and the denoiser takes "
            f"{config.in_channels}; build it with in_channels={channels}"
        )
    if getattr(config, "num_classes", classes) != classes:
        raise ValueError(
            f"{classes} class names for a denoiser of {config.num_classes} "
            "classes; give one name for each"
        )


def upgrade(
    config: dict[str, Any], tensors: dict[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A model as it is written today, from one that was written before its parts had
    kinds of their own."""
    if "denoiser" in config:
        return config, tensors
    vae, unet = config.pop("vae"), config.pop("unet")
    old = ("schedule", "prediction_type", "min_snr_gamma", "logit_normal")
    objective = {k: config.pop(k) for k in (*old, "label_dropout") if k in config}
    codec = {"kind": "LatentCodec", "vae": vae}
    if vae is None:
        codec = {"kind": "PixelCodec", "channels": unet["in_channels"]}
    parts = {
        "codec": codec,
        "denoiser": {"kind": "UNet", **unet},
        "objective": {"kind": "Objective", **objective},
    }
    renamed = {k.replace("unet.", "denoiser.", 1): v for k, v in tensors.items()}
    return config | parts, renamed
