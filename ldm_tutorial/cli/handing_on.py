"""The command ``export``: a model for other programs."""

from pathlib import Path

import torch
from jsonargparse import Namespace

from ldm_tutorial.cli.checks import check_writable, kind_of, read_model
from ldm_tutorial.codec import LatentCodec
from ldm_tutorial.interop import diffusers, onnx
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.training import folder as runs

KINDS = {"LatentDiffusion": LatentDiffusion, "LatentCodec": LatentCodec}


def export(options: Namespace) -> None:
    check_writable(options.out)
    FORMATS[options.format](options)


def to_onnx(options: Namespace) -> None:
    onnx.check_installed()
    kind = kind_of(options.model)
    if kind not in KINDS:
        raise ValueError(
            f"{options.model} holds a model of kind {kind!r}; give a diffusion model "
            "or an autoencoder"
        )
    model = read_model(KINDS[kind], options.model).cpu()
    dtype = dtype_of(options)
    size = runs.trained_on(options.model).get("size", 64)
    differences = onnx.export_onnx(model, options.out, dtype, size)
    list_files(options.out)
    for name, difference in differences.items():
        print(f"{name}: differs from PyTorch by {difference:.1e} at most")


def to_diffusers(options: Namespace) -> None:
    if (kind := kind_of(options.model)) != "LatentCodec":
        raise ValueError(
            f"{options.model} holds a model of kind {kind!r}, and diffusers' format "
            "takes autoencoders alone; give one, as train-vae saves it"
        )
    codec = read_model(LatentCodec, options.model).cpu()
    diffusers.save_vae(codec, options.out, dtype_of(options))
    list_files(options.out)
    difference = diffusers.difference(options.out)
    if difference is None:
        print("not compared: diffusers is not installed (pip install diffusers)")
    elif difference <= 1e-5:
        print(f"diffusers.AutoencoderKL differs from ours by {difference:.1e} at most")
    else:
        raise ValueError(
            f"diffusers computes something else from {options.out}, by {difference:.1e}"
            "; this version of it does not fit, try another"
        )


def dtype_of(options: Namespace) -> torch.dtype | None:
    return torch.float16 if options.fp16 else None


def list_files(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")


# What --format may be, and what writes it.
FORMATS = {"onnx": to_onnx, "diffusers": to_diffusers}
