"""Models without PyTorch: a trained model as ONNX graphs.

A folder that ``export_onnx`` wrote is an ordinary model of this library, with its
``config.json`` and ``model.safetensors``, and beside them what other runtimes need:

    encoder.onnx     x (B, 3, H, W) -> mean and std of q(z | x), at unit scale
    denoiser.onnx    z_t (B, C, h, w), t (B,), y (B,) -> prediction (B, C, h, w);
                     t is int64, or float32 from 0 to T for a flow
    decoder.onnx     z (B, C, h, w) at unit scale -> x (B, 3, H, W)
    model.json       objective, schedule, prediction type, classes, shapes, statistics

But for the scales of norms, the graphs hold no weights: they point into
``model.safetensors``, so all of them share one file, and that file is the one that
PyTorch reads. Weights saved as float16 are cast when a graph is loaded; every graph
takes, computes and gives float32.
"""

import json
import math
import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ldm_tutorial.codec import LatentCodec
from ldm_tutorial.disk import write_json
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.storage import describe

NEEDED = ("onnx", "onnxscript", "onnxruntime")
WEIGHTS = "model.safetensors"
TOGETHER = "these versions of torch and onnx do not go together, try others"
TYPES = {"F32": 1, "F16": 10}  # names in safetensors, numbers in ONNX
MOST = 1e-3  # largest difference from PyTorch that counts as equal


def check_installed() -> None:
    """Raise a ValueError if a package that the export needs is missing."""
    if missing := [name for name in NEEDED if not find_spec(name)]:
        raise ValueError(
            f"the export to ONNX needs {', '.join(missing)}: "
            "pip install 'ldm-tutorial[onnx]'"
        )


def export_onnx(
    model: LatentDiffusion | LatentCodec,
    folder: str | Path,
    dtype: torch.dtype | None = None,
    size: int = 64,
) -> dict[str, float]:
    """Write a model to a folder, with a graph for each of its networks.

    Args:
        model: a diffusion model, or an autoencoder alone.
        dtype: of the weights on disk; ``torch.float16`` halves the file.
        size: side of the images of an autoencoder alone; a diffusion model knows its.

    Returns:
        For each graph the largest difference between what ONNX Runtime and PyTorch
        compute from the weights that were written.

    Raises:
        ValueError: if a package is missing, or if a graph computes something else.
    """
    check_installed()
    folder = Path(folder)
    model.save(folder, dtype)
    model = type(model).load(folder).eval()  # with the weights as they were rounded
    places = tensor_places(folder / WEIGHTS)
    differences = {}
    for name, (network, inputs) in networks(model, size).items():
        path = folder / f"{name}.onnx"
        path.write_bytes(graph(network, inputs, places))
        difference = compare(path, network, inputs)
        if not difference <= MOST:
            raise ValueError(
                f"{path} differs from PyTorch by {difference:.1e}; {TOGETHER}"
            )
        differences[name] = difference
    write_json(folder / "model.json", description(model, size))
    return differences


# --- the networks -------------------------------------------------------------------


class Encode(nn.Module):
    """x -> mean and standard deviation of q(z | x), at unit scale."""

    takes, gives = ("x",), ("mean", "std")

    def __init__(self, model: LatentDiffusion | LatentCodec):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        codec = codec_of(self.model)
        posterior = codec.vae.encode(x)
        return codec.normalise(posterior.mu), posterior.std / codec.std


class Decode(nn.Module):
    """z at unit scale -> x."""

    takes, gives = ("z",), ("x",)

    def __init__(self, model: LatentDiffusion | LatentCodec):
        super().__init__()
        self.model = model

    def forward(self, z: Tensor) -> Tensor:
        codec = codec_of(self.model)
        return codec.vae.decode(z * codec.std + codec.mean)


class Denoise(nn.Module):
    """z_t, t and, if the model knows classes, y -> prediction."""

    gives = ("prediction",)

    def __init__(self, model: LatentDiffusion):
        super().__init__()
        self.model = model
        self.takes = ("z_t", "t", "y") if model.classes else ("z_t", "t")

    def forward(self, z_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return self.model.denoiser(*(v for v in (z_t, t, y) if v is not None))


Network = Encode | Decode | Denoise


def codec_of(model: LatentDiffusion | LatentCodec) -> Any:
    return model.codec if isinstance(model, LatentDiffusion) else model


def networks(
    model: LatentDiffusion | LatentCodec, size: int = 64
) -> dict[str, tuple[Network, tuple[Tensor, ...]]]:
    """The networks of a model by name, each with a batch of two to try it on. Without
    an autoencoder, in pixel space, there is only the denoiser."""
    dice = torch.Generator().manual_seed(0)
    found: dict[str, tuple[Network, tuple[Tensor, ...]]] = {}
    size = getattr(model, "image_size", size)
    shape = codec_of(model).latent_shape(size)
    z = torch.randn(2, *shape, generator=dice)
    if isinstance(codec_of(model), LatentCodec):
        channels = codec_of(model).vae.config.in_channels
        x = torch.rand(2, channels, size, size, generator=dice) * 2 - 1
        found["encoder"] = Encode(model), (x,)
        found["decoder"] = Decode(model), (z,)
    if isinstance(model, LatentDiffusion):
        t = times_of(model)
        classes = (torch.tensor([0, len(model.classes)]),) if model.classes else ()
        found["denoiser"] = Denoise(model), (z, t, *classes)
    return {name: (network.eval(), given) for name, (network, given) in found.items()}


def times_of(model: LatentDiffusion) -> Tensor:
    """An early and a late time, in the type in which the denoiser gets them."""
    schedule = schedule_of(model)
    most = schedule["num_train_timesteps"]
    return torch.tensor(
        [0.3, 0.9 * most] if schedule["name"] == "flow" else [1, most - 2]
    )


def schedule_of(model: LatentDiffusion) -> dict[str, Any]:
    """The schedule of a model as JSON values; that of a flow has the name "flow".

    Raises:
        ValueError: for an objective of one's own.
    """
    objective = json.loads(json.dumps(describe(model.objective, "objective")))
    if objective["kind"] == "Objective":
        return objective["schedule"]
    if objective["kind"] == "FlowMatching":
        names = ("num_train_timesteps", "shift", "last")
        return {"name": "flow"} | {name: objective[name] for name in names}
    raise ValueError(
        f"an objective of kind {objective['kind']!r} cannot be exported, for nobody "
        "would know how to sample it; export a model with Objective or FlowMatching"
    )


def description(model: LatentDiffusion | LatentCodec, size: int = 64) -> dict[str, Any]:
    """What a program has to know beside the graphs, as JSON values."""
    size = getattr(model, "image_size", size)
    codec = codec_of(model)
    known: dict[str, Any] = {
        "graphs": {
            name: {"inputs": list(net.takes), "outputs": list(net.gives)}
            for name, (net, _) in networks(model, size).items()
        },
        "image_size": size,
        "latent_shape": list(codec.latent_shape(size)),
        "clip": codec.clip,
    }
    if isinstance(codec, LatentCodec):  # the graphs apply these themselves
        known["mean"] = codec.mean.flatten().tolist()
        known["std"] = codec.std.flatten().tolist()
    if isinstance(model, LatentDiffusion):
        known["classes"] = list(model.classes)
        known["objective"] = model.objective.kind
        known["prediction_type"] = model.prediction_type
        known["schedule"] = schedule_of(model)
        if known["schedule"]["name"] != "flow":
            known["alpha_bar"] = model.schedule.alpha_bar.tolist()
    return known


# --- graphs that point into a file of weights ---------------------------------------


def tensor_places(path: Path) -> dict[str, tuple[str, int, int]]:
    """For each tensor of a safetensors file: its type, its first byte and its length.

    The file starts with the length of a header, as 8 bytes, and the header, in JSON.
    """
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    places = {}
    for name, entry in header.items():
        first, end = entry["data_offsets"]
        places[name] = (entry["dtype"], 8 + length + first, end - first)
    return places


def graph(
    network: Network,
    inputs: tuple[Tensor, ...],
    places: dict[str, tuple[str, int, int]],
) -> bytes:
    """The ONNX graph of a network for batches of any size, its weights elsewhere."""
    import onnx

    batch = torch.export.Dim("batch")
    try:
        with quiet():
            program: Any = torch.onnx.export(
                network,
                inputs,
                dynamo=True,
                input_names=list(network.takes),
                output_names=list(network.gives),
                dynamic_shapes=tuple({0: batch} for _ in inputs),
                verbose=False,
            )
    except Exception as error:
        if not type(error).__module__.startswith(("onnx_ir", "onnxscript")):
            raise
        what = type(error).__name__
        raise ValueError(f"the exporter stopped with {what}; {TOGETHER}") from error
    made = program.model_proto
    turned = {
        (weight.T.shape, weight.T.contiguous().numpy().tobytes()): name
        for name, weight in network.state_dict().items()
        if weight.ndim == 2
    }
    before, stored = [], []  # nodes that read weights, and the weights

    def read(name: str, shape: Sequence[int]) -> None:
        """Let the value ``name`` come from the file."""
        key = name.removeprefix("model.")
        dtype, offset, length = places[key]
        made_of = onnx.TensorProto(name=name, dims=shape, data_type=TYPES[dtype])
        made_of.data_location = onnx.TensorProto.EXTERNAL
        where = {"location": WEIGHTS, "offset": offset, "length": length}
        for what, value in where.items():
            made_of.external_data.add(key=what, value=str(value))
        if dtype == "F16":
            made_of.name = f"float16.{key}"
            cast = node("Cast", [made_of.name], [name], to=onnx.TensorProto.FLOAT)
            before.append(cast)
        stored.append(made_of)

    node = onnx.helper.make_node
    for tensor in made.graph.initializer:
        source = turned.get((tuple(tensor.dims), tensor.raw_data))
        if tensor.name.removeprefix("model.") in places:
            read(tensor.name, tensor.dims)
        elif source:  # the exporter has transposed a weight: leave that to the graph
            read(source, tensor.dims[::-1])
            before.append(node("Transpose", [source], [tensor.name], perm=[1, 0]))
        else:
            stored.append(tensor)
    nodes = [*before, *made.graph.node]
    del made.graph.node[:], made.graph.initializer[:], made.graph.value_info[:]
    made.graph.node.extend(nodes)
    made.graph.initializer.extend(stored)
    for one in made.graph.node:  # where in the source it comes from
        one.ClearField("metadata_props")
        one.ClearField("doc_string")
    return made.SerializeToString(deterministic=True)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporter's remarks, which say nothing about the model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def compare(path: Path, network: Network, inputs: tuple[Tensor, ...]) -> float:
    """Largest difference between a graph and its network, on batches of 2 and of 1."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    worst = 0.0
    for given in (inputs, tuple(value[:1] for value in inputs)):
        with torch.no_grad():
            wanted = network(*given)
        arrays = [value.numpy() for value in given]
        found = session.run(None, dict(zip(network.takes, arrays, strict=True)))
        wanted = (wanted,) if isinstance(wanted, Tensor) else wanted
        for one, other in zip(found, wanted, strict=True):
            difference = (torch.from_numpy(one) - other).abs().max().item()
            worst = difference if math.isnan(difference) else max(worst, difference)
    return worst
