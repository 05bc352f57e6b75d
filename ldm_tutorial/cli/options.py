"""The options of every command."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from ldm_tutorial import evaluation
from ldm_tutorial.cli.handing_on import FORMATS
from ldm_tutorial.cost.peers import PEERS
from ldm_tutorial.cost.spaces import SPACES
from ldm_tutorial.disk import as_path
from ldm_tutorial.flow import FlowMatching
from ldm_tutorial.samplers import SAMPLERS
from ldm_tutorial.studies.reproduce import STUDIES
from ldm_tutorial.studies.study import SCALES
from ldm_tutorial.training import presets
from ldm_tutorial.training.recipes import LDMRecipe

BEST = "ldm-f8-sharp"  # of the shipped models, for whoever names none
FLAGS = {
    "download": "fetch a named data set, or a trunk for LPIPS, that is not on disk",
    "flip": "train on the mirror image of every image as well",
    "skip_bad": "go on without the files of a folder that cannot be read",
}


@dataclass(frozen=True)
class FlowRecipe(LDMRecipe):
    """The options of a recipe whose objective is flow matching."""

    objective: FlowMatching = field(  # type: ignore[assignment]
        default_factory=FlowMatching
    )


def flags(parser: ArgumentParser, *names: str) -> None:
    """Options that are given or not, and take no value."""
    for name in names:
        parser.add_argument(f"--{name}", action="store_true", help=FLAGS[name])


def train_options(
    parser: ArgumentParser, presets: dict[str, Any] = presets.VAE_PRESETS
) -> None:
    parser.add_argument(
        "--out",
        type=path,
        required=True,
        help="folder for weights, log and checkpoint; the same command again resumes",
    )
    parser.add_argument(
        "--fp16", action="store_true", help="save the final weights as float16"
    )
    parser.add_argument(
        "--tensorboard",
        action="store_true",
        help="write log and pictures for TensorBoard as well, to OUT/tensorboard",
    )
    parser.add_argument(
        "--samples_every",
        type=int,
        default=0,
        help="write a picture to OUT/samples every so many steps; 0 for none",
    )
    parser.add_argument(
        "--preset",
        choices=list(presets),
        default="cpu",
        help="where the defaults of all other options come from",
    )


def scene_options(parser: ArgumentParser) -> None:
    train_options(parser, presets.SCENE_PRESETS)


def ldm_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--vae",
        default="vae-f8",
        help="folder of an autoencoder, vae-f8 (shipped), or none for pixel space",
    )
    train_options(parser, presets.LDM_PRESETS)


class UserPath:
    """A path as a user writes it, for the parser, which calls it by its name."""

    def __call__(self, text: str) -> Path:
        return as_path(text)

    def __repr__(self) -> str:
        return "path"


path = UserPath()


SAMPLING = {
    "steps": 50,
    "sampler": "ddim",
    "eta": 0.0,
    "guidance_scale": 1.0,
    "guidance_rescale": 0.0,
}  # options of a sampler, and what they are by default


def sampling_options(parser: ArgumentParser, n: int, text: str) -> None:
    parser.add_argument("-n", type=int, default=n, help=text)
    parser.add_argument("--steps", type=int, default=50, help="denoiser calls")
    parser.add_argument(
        "--guidance_scale",
        type=float,
        default=1.0,
        help="1 is the plain model, more exaggerates the class",
    )
    parser.add_argument(
        "--sampler",
        choices=list(SAMPLERS | FlowMatching.samplers),
        default="ddim",
        help="euler and heun are for flows, whose ddim is euler",
    )
    parser.add_argument(
        "--eta", type=float, default=0.0, help="noise of DDIM's steps, 0 to 1"
    )
    parser.add_argument(
        "--guidance_rescale",
        type=float,
        default=0.0,
        help="0 to 1: keeps contrast in check at large guidance scales",
    )
    parser.add_argument("--seed", type=int, default=0)


def sampling(options: Namespace) -> dict[str, Any]:
    """Those options as arguments of ``LatentDiffusion.sample``."""
    return {name: getattr(options, name) for name in SAMPLING}


def refuse_sampling(options: Namespace, what: str) -> None:
    """Raise a ValueError for an option of a sampler where nothing is sampled."""
    for name, default in SAMPLING.items():
        if (given := getattr(options, name)) != default:
            raise ValueError(
                f"--{name} {given}: {what} is not sampled; leave --{name} out"
            )


def sample_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--model", default=BEST, help=f"folder of a model, or {BEST} (shipped)"
    )
    parser.add_argument(
        "--out", type=path, default=Path("grid.png"), help="the picture to write"
    )
    parser.add_argument("--label", type=str, help="class, as number or name")
    sampling_options(parser, 16, "number of images")


def evaluate_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        default=BEST,
        help="folder of a diffusion model or of an autoencoder, a shipped name, or "
        "real: held-out images in place of samples, for the floors",
    )
    parser.add_argument(
        "--data", type=str, help="data set or folder; by default what it was trained on"
    )
    parser.add_argument(
        "--size", type=int, help="side of the images; by default as in training"
    )
    flags(parser, "download", "skip_bad")
    parser.add_argument(
        "--features",
        choices=list(evaluation.FEATURES),
        help="what sets of images are compared by; by default what fits the data",
    )
    parser.add_argument(
        "--nearest",
        type=path,
        help="are samples copies? Compare them with all training images, and write a "
        "picture of the eight most alike above the images that they are like",
    )
    sampling_options(parser, 512, "images to judge by")
    parser.add_argument("--json", action="store_true", help="print JSON")
    capstone_options(parser)


def capstone_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--capstone",
        action="store_true",
        help="judge a model of ten CPU minutes on hidden seeds, and print its card",
    )
    parser.add_argument(
        "--vae", type=str, help="capstone: folder of its autoencoder, if not shipped"
    )
    parser.add_argument(
        "--name", type=str, default="", help="capstone: your name on the card"
    )
    parser.add_argument("--out", type=path, help="capstone: file for the card (JSON)")
    parser.add_argument(
        "--board", type=path, help="capstone: leaderboard (JSON) to put the card on"
    )
    parser.add_argument(
        "--card", type=path, help="capstone: a card to put on --board, unjudged"
    )


def data_options(parser: ArgumentParser) -> None:
    parser.add_argument("-n", type=int, default=64, help="images in the picture")
    parser.add_argument(
        "--split", choices=["train", "validation", "test"], default="train"
    )
    parser.add_argument("--out", type=path, help="write a grid of images here")
    parser.add_argument("--json", action="store_true", help="print JSON")


def export_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        default=BEST,
        help="folder of a diffusion model or of an autoencoder, or a shipped name",
    )
    parser.add_argument(
        "--format",
        choices=list(FORMATS),
        default="onnx",
        help="onnx: for ONNX Runtime, in a browser or without PyTorch; diffusers: an "
        "autoencoder for diffusers.AutoencoderKL",
    )
    parser.add_argument("--out", type=path, required=True, help="folder to write to")
    parser.add_argument(
        "--fp16", action="store_true", help="save the weights as float16: half the size"
    )


def benchmark_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--spaces",
        default=",".join(SPACES),
        help="what to diffuse in, with commas between; none to leave this part out",
    )
    parser.add_argument("--size", type=int, default=64, help="side of the images")
    parser.add_argument("-n", type=int, default=16, help="images in a batch")
    parser.add_argument("--repeats", type=int, default=5, help="of every measurement")
    parser.add_argument(
        "--against",
        default="",
        help="other libraries to do the same work: " + ",".join(PEERS),
    )
    parser.add_argument(
        "--race",
        type=float,
        default=0.0,
        help="with --against diffusers: seconds that each of twelve trainings gets",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--out", type=path, help="folder for benchmark.json and benchmark.png"
    )


def reproduce_options(parser: ArgumentParser) -> None:
    parser.add_argument("name", choices=list(STUDIES), help="which study")
    parser.add_argument(
        "--scale",
        choices=list(SCALES),
        default="cpu",
        help="smoke shows that it works, cpu and gpu are for the record",
    )
    parser.add_argument(
        "--out", type=path, help="its trainings; by default runs/studies/NAME-SCALE"
    )
    parser.add_argument(
        "--results",
        type=path,
        help="folder of the record; by default data/results, for smoke that of --out",
    )
    parser.add_argument("--arms", nargs="*", default=[], help="only these")
    parser.add_argument(
        "--data",
        type=str,
        help="of own_images: a data set or a folder of pictures; landscapes by default",
    )


def without(options: Namespace, *names: str) -> dict[str, Any]:
    left_out = {*names, "command_line"}
    return {k: v for k, v in vars(options).items() if k not in left_out}


def recipe_options(options: Namespace, *names: str) -> dict[str, Any]:
    """The options of a training that are fields of its recipe."""
    return without(
        options, "preset", "out", "fp16", "tensorboard", "samples_every", *names
    )
