"""Stable Diffusion's autoencoder: its weights in our classes, ours in its format.

``load_vae`` reads a folder of the library diffusers (Stable Diffusion 1 to 3, XL, FLUX)
and gives a ``LatentCodec``; ``save_vae`` writes one that diffusers opens. Both networks
compute the same: only names differ, and the three projections of attention, which we
keep in one layer. diffusers itself is not needed.
"""

import json
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ldm_tutorial.codec import LatentCodec
from ldm_tutorial.disk import write_json
from ldm_tutorial.interop.diffusers_config import read_config, read_scale, write_config
from ldm_tutorial.layers import Attention, ResBlock
from ldm_tutorial.vae import AutoencoderKL

WEIGHTS = "diffusion_pytorch_model.safetensors"
RESBLOCK = {"norm1": "norm1", "conv1": "conv1", "norm2": "norm2", "conv2": "conv2"}
ATTENTION = {"norm": "group_norm", "qkv": "to_q to_k to_v", "out": "to_out.0"}
OLDER = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def load_vae(path: str | Path) -> LatentCodec:
    """Read an autoencoder in diffusers' format.

    Args:
        path: folder with ``config.json`` and a safetensors file, a pipeline's folder
            that holds such a folder ``vae``, or the file with the config beside it.

    Raises:
        FileNotFoundError: if there is no config, or no safetensors file.
        ValueError: if the files are damaged or describe another network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = find_weights(Path(path))
    try:
        config = json.loads((file.parent / "config.json").read_text("utf8"))
        tensors = load_file(file)
    except (ValueError, SafetensorError) as error:
        raise ValueError(f"the model in {file.parent} is damaged: {error}") from None
    return from_diffusers(config, tensors)


def save_vae(
    codec: LatentCodec, folder: str | Path, dtype: torch.dtype | None = None
) -> None:
    """Write a codec so that ``diffusers.AutoencoderKL.from_pretrained`` opens it.

    Raises:
        ValueError: if diffusers has no such network.
    """
    from safetensors.torch import save_file

    config, tensors = to_diffusers(codec)
    tensors = {k: v.to(dtype or v.dtype).cpu() for k, v in tensors.items()}
    Path(folder).mkdir(parents=True, exist_ok=True)
    save_file(tensors, Path(folder) / WEIGHTS, metadata={"format": "pt"})
    write_json(Path(folder) / "config.json", config)


@torch.no_grad()
def difference(folder: str | Path) -> float | None:
    """Largest relative difference between what diffusers computes with the autoencoder
    in a folder and what we do, moments and pictures; None if diffusers is missing."""
    if not find_spec("diffusers"):
        return None
    from diffusers import AutoencoderKL as Theirs

    vae = load_vae(folder).vae.eval()
    theirs: Any = Theirs.from_pretrained(folder, torch_dtype=torch.float32)
    theirs = theirs.eval()
    dice, side = torch.Generator().manual_seed(0), 4 * vae.config.downsampling
    x = torch.rand(2, vae.config.in_channels, side, side, generator=dice) * 2 - 1
    ours, posterior = vae.encode(x), theirs.encode(x).latent_dist
    pairs = [(ours.mu, posterior.mean), (ours.logvar, posterior.logvar)]
    pairs.append((vae.decode(ours.mu), theirs.decode(ours.mu).sample))
    return max(
        ((a - b).abs().max() / b.abs().max().clamp(min=1e-6)).item() for a, b in pairs
    )


def from_diffusers(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> LatentCodec:
    """A codec from the config and the state of a ``diffusers.AutoencoderKL``.

    Raises:
        ValueError: for another class, a network that ours cannot express, or tensors
            that are missing, unknown or of the wrong shape.
    """
    vae = AutoencoderKL(read_config(config))
    tensors = {renamed(name): tensor for name, tensor in tensors.items()}
    state = {}
    for ours, theirs in names(vae).items():
        if missing := [name for name in theirs if name not in tensors]:
            raise ValueError(f"tensor {missing[0]} is missing; get the weights again")
        wanted = vae.get_parameter(ours)
        found = torch.cat([tensors.pop(name).float() for name in theirs])
        if found.numel() != wanted.numel() or len(found) != len(wanted):
            raise ValueError(
                f"tensor {theirs[0]} does not fit config.json, which wants the shape "
                f"{tuple(wanted.shape)} for it; get both from one place"
            )
        state[ours] = found.view_as(wanted)  # older files keep 1x1 convolutions
    if tensors:
        raise ValueError(
            f"tensor {min(tensors)} belongs to no part of an AutoencoderKL as "
            "config.json describes it; get both from one place"
        )
    vae.load_state_dict(state)
    return LatentCodec(vae, *read_scale(config))


def to_diffusers(codec: LatentCodec) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The inverse of ``from_diffusers``; the tensors are copies.

    Raises:
        ValueError: if diffusers' ``AutoencoderKL`` cannot express the network.
    """
    config, vae = write_config(codec), codec.vae
    tensors: dict[str, Tensor] = {}
    for ours, theirs in names(vae).items():
        parts = vae.get_parameter(ours).detach().chunk(len(theirs))
        tensors |= {
            name: part.clone() for name, part in zip(theirs, parts, strict=True)
        }
    return config, tensors


def names(vae: AutoencoderKL) -> dict[str, list[str]]:
    """For each of our parameters diffusers' name, or the names of the three whose rows
    ours stacks."""
    n, modules = vae.config.num_res_blocks, {}
    last = len(vae.config.levels(1)) - 1
    middle = ["mid_block.resnets.0", "mid_block.resnets.1"]
    if vae.config.mid_attention:
        middle.insert(1, "mid_block.attentions.0")
    down, up = [], []
    for level in range(last + 1):
        down += [f"down_blocks.{level}.resnets.{i}" for i in range(n)]
        up += [f"up_blocks.{level}.resnets.{i}" for i in range(n + 1)]
        if level < last:
            down.append(f"down_blocks.{level}.downsamplers.0")
            up.append(f"up_blocks.{level}.upsamplers.0")
    for side, prefixes, stem, quant in (
        ("encoder", down + middle, "stem.1", "quant_conv"),
        ("decoder", middle + up, "stem", "post_quant_conv"),
    ):
        blocks: Any = vae.get_submodule(f"{side}.blocks")
        modules[f"{side}.{stem}"] = f"{side}.conv_in"
        modules[f"{side}.out.0"] = f"{side}.conv_norm_out"
        modules[f"{side}.out.2"] = f"{side}.conv_out"
        if getattr(vae.config, quant):
            modules[f"{side}.{quant}"] = quant
        for i, (block, prefix) in enumerate(zip(blocks, prefixes, strict=True)):
            for ours, theirs in layers_of(block):
                modules[f"{side}.blocks.{i}.{ours}"] = " ".join(
                    f"{side}.{prefix}.{name}" for name in theirs.split()
                )
    return {
        f"{ours}.{kind}": [f"{name}.{kind}" for name in theirs.split()]
        for ours, theirs in modules.items()
        for kind in ("weight", "bias")
    }


def layers_of(block: nn.Module) -> Iterator[tuple[str, str]]:
    """The layers of a block and diffusers' names of them."""
    if isinstance(block, ResBlock):
        yield from RESBLOCK.items()
        if isinstance(block.skip, nn.Conv2d):
            yield "skip", "conv_shortcut"
    elif isinstance(block, Attention):
        yield from ATTENTION.items()
    else:  # what halves or doubles the resolution
        yield "conv", "conv"


def renamed(name: str) -> str:
    """Today's name of a tensor: the files of Stable Diffusion 1 say ``query``."""
    parts = name.split(".")
    if "attentions" in parts:
        parts = [OLDER.get(part, part) for part in parts]
    return ".".join(parts)


def find_weights(path: Path) -> Path:
    """The one safetensors file that ``path`` means, with a config.json beside it."""
    folder = path.parent if path.is_file() else path
    if not (folder / "config.json").is_file() and (folder / "vae").is_dir():
        folder = folder / "vae"
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"no model of diffusers at {str(path)!r}: give a folder that holds "
            f"config.json and {WEIGHTS}"
        )
    files = [path] if path.is_file() else sorted(folder.glob("*.safetensors"))
    if folder / WEIGHTS in files:
        return folder / WEIGHTS
    if len(files) == 1 and files[0].suffix == ".safetensors":
        return files[0]
    if next(folder.glob("*.safetensors.index.json"), None):
        reason = "is cut into several files (shards)"
    elif files and files != [path]:
        reason = f"holds {len(files)} safetensors files, none of that name"
    else:
        reason = "holds weights as a pickle, or none"
    raise FileNotFoundError(
        f"{folder} {reason}; give a folder with one file {WEIGHTS}, as diffusers' "
        "save_pretrained writes it"
    )
