"""The command ``export``: a model for other programs."""

import torch
from jsonargparse import Namespace

from ldm_tutorial.cli.checks import check_writable, kind_of, read_model
from ldm_tutorial.codec import LatentCodec
from ldm_tutorial.interop import onnx
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.training import folder

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
    dtype = torch.float16 if options.fp16 else None
    size = folder.trained_on(options.model).get("size", 64)
    differences = onnx.export_onnx(model, options.out, dtype, size)
    for path in sorted(options.out.iterdir()):
        print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")
    for name, difference in differences.items():
        print(f"{name}: differs from PyTorch by {difference:.1e} at most")


# What --format may be, and what writes it.
FORMATS = {"onnx": to_onnx}
