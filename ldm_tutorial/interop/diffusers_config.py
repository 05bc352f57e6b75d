"""diffusers' config.json of an autoencoder, read as ours and written from ours."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ldm_tutorial.codec import LatentCodec
from ldm_tutorial.vae_config import VAEConfig

DEFAULTS = {  # what diffusers assumes where its config.json is silent
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": [64],
    "layers_per_block": 1,
    "act_fn": "silu",
    "latent_channels": 4,
    "norm_num_groups": 32,
    "scaling_factor": 0.18215,
    "shift_factor": None,
    "latents_mean": None,
    "latents_std": None,
    "use_quant_conv": True,
    "use_post_quant_conv": True,
    "mid_block_add_attention": True,
}


def read_config(config: Mapping[str, Any]) -> VAEConfig:
    """Our config for one of diffusers' ``AutoencoderKL``."""
    if not isinstance(config, Mapping):
        raise ValueError("config.json holds no JSON object; get the folder again")
    if (kind := config.get("_class_name", "AutoencoderKL")) != "AutoencoderKL":
        raise ValueError(f"config.json describes a {kind}; give an AutoencoderKL")
    full = {**DEFAULTS, **config}
    check_types(full)
    C = full["in_channels"]
    plain = {
        "act_fn": {"silu", "swish"},
        "out_channels": {C},
        "down_block_types": {"DownEncoderBlock2D"},
        "up_block_types": {"UpDecoderBlock2D"},
    }
    for name, known in plain.items():
        value = full.get(name, [])
        if other := set(value if isinstance(value, list | tuple) else [value]) - known:
            raise ValueError(
                f"{name} {other.pop()!r} in config.json is none that our AutoencoderKL "
                f"has; it has {', '.join(map(str, sorted(known)))}"
            )
    channels = tuple(full["block_out_channels"])
    return VAEConfig(
        in_channels=C,
        latent_channels=full["latent_channels"],
        downsampling=2 ** (len(channels) - 1),
        encoder_patch=1,
        decoder_patch=1,
        channels=channels,
        num_res_blocks=full["layers_per_block"],
        mid_attention=full["mid_block_add_attention"],
        layout="stable-diffusion",
        norm_num_groups=full["norm_num_groups"],
        quant_conv=full["use_quant_conv"],
        post_quant_conv=full["use_post_quant_conv"],
    )


def check_types(config: Mapping[str, Any]) -> None:
    """Raise a ValueError for a value of another type than diffusers' own."""

    def is_count(value: Any) -> bool:
        return type(value) is int and value > 0

    def are_counts(value: Any) -> bool:
        return (
            isinstance(value, list | tuple)
            and bool(value)
            and all(map(is_count, value))
        )

    def is_numbers(value: Any) -> bool:
        several = isinstance(value, list | tuple) and value
        numbers = value if several else [0 if value is None else value]
        return all(type(one) in (int, float) for one in numbers)

    def is_switch(value: Any) -> bool:
        return type(value) is bool

    counts = ("in_channels", "latent_channels", "layers_per_block", "norm_num_groups")
    wanted = {name: (is_count, "a whole number from 1 on") for name in counts}
    wanted["block_out_channels"] = are_counts, "a list of whole numbers from 1 on"
    for name in ("use_quant_conv", "use_post_quant_conv", "mid_block_add_attention"):
        wanted[name] = is_switch, "true or false"
    for name in ("shift_factor", "latents_mean", "latents_std"):
        wanted[name] = is_numbers, "a number, a list of numbers, or null"
    for name, (fits, what) in wanted.items():
        if not fits(config[name]):
            raise ValueError(
                f"{name}={config[name]!r} in config.json is none of an AutoencoderKL, "
                f"which has {what}; get the folder again"
            )


def read_scale(config: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the raw latents, one or C numbers each.

    diffusers' pipelines take z = (raw - shift_factor) * scaling_factor, or, with
    statistics of each channel, z = (raw - latents_mean) * scaling_factor / latents_std.
    """
    config = {**DEFAULTS, **config}
    mean, std = config["latents_mean"], config["latents_std"]
    if mean is None or std is None:
        mean, std = config["shift_factor"] or 0.0, 1.0
    factor = config["scaling_factor"]
    if not isinstance(factor, int | float) or factor <= 0:
        raise ValueError(f"scaling_factor={factor!r} in config.json; give more than 0")
    mean, std = torch.tensor(mean).flatten(), torch.tensor(std).flatten() / factor
    if not {len(mean), len(std)} <= {1, C := config["latent_channels"]}:
        raise ValueError(
            f"latents_mean and latents_std in config.json have {len(mean)} and "
            f"{len(std)} numbers; give one for each of {C} channels"
        )
    return mean, std


def write_config(codec: LatentCodec) -> dict[str, Any]:
    """diffusers' config of a codec."""
    vae, config = codec.vae, codec.vae.config
    groups = {m.num_groups for m in vae.modules() if isinstance(m, nn.GroupNorm)}
    patches = config.encoder_patch, config.decoder_patch
    alike = patches == (1, 1) and not config.head_channels and len(groups) == 1
    if config.layout != "stable-diffusion" or not alike:
        raise ValueError(
            "diffusers' AutoencoderKL has no patches, head or compact blocks, and all "
            f"its norms are alike; this autoencoder has layout={config.layout!r}, "
            f"patches of {patches[0]} and {patches[1]}, head_channels="
            f"{config.head_channels} and {len(groups)} sorts of norms; train one with "
            "layout='stable-diffusion', both patches 1 and norm_num_groups set"
        )
    widths = [config.width(level) for level in config.levels(1)]
    mean, std = codec.mean.flatten().tolist(), codec.std.flatten().tolist()
    shared = len(set(mean)) == len(set(std)) == 1
    return {
        "_class_name": "AutoencoderKL",
        "in_channels": config.in_channels,
        "out_channels": config.in_channels,
        "down_block_types": ["DownEncoderBlock2D"] * len(widths),
        "up_block_types": ["UpDecoderBlock2D"] * len(widths),
        "block_out_channels": widths,
        "layers_per_block": config.num_res_blocks,
        "act_fn": "silu",
        "latent_channels": config.latent_channels,
        "norm_num_groups": groups.pop(),
        "scaling_factor": short(1 / std[0]) if shared else 1.0,
        "shift_factor": short(mean[0]) if shared and mean[0] else None,
        "latents_mean": None if shared else mean,
        "latents_std": None if shared else std,
        "use_quant_conv": config.quant_conv,
        "use_post_quant_conv": config.post_quant_conv,
        "mid_block_add_attention": config.mid_attention,
    }


def short(value: float) -> float:
    """The number with the seven digits that float32 holds."""
    return float(f"{value:.7g}")
