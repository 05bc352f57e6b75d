"""The commands of ``ldm-tutorial`` and their parser; see ``start`` for what is around
them."""

import argparse
import shlex
from dataclasses import fields
from typing import Any, NoReturn

from jsonargparse import ArgumentParser

from ldm_tutorial.cli.checks import plain
from ldm_tutorial.cli.costs import benchmark, reproduce
from ldm_tutorial.cli.handing_on import export
from ldm_tutorial.cli.judging import data, evaluate
from ldm_tutorial.cli.options import (
    FLAGS,
    FlowRecipe,
    benchmark_options,
    data_options,
    evaluate_options,
    export_options,
    flags,
    ldm_options,
    reproduce_options,
    sample_options,
    scene_options,
    train_options,
)
from ldm_tutorial.cli.sampling import sample
from ldm_tutorial.cli.start import fail, main
from ldm_tutorial.cli.training import train_ldm, train_scenenet, train_vae
from ldm_tutorial.data import DataConfig
from ldm_tutorial.diffusion import Objective
from ldm_tutorial.storage import config_to_dict
from ldm_tutorial.training import presets, recipes

__all__ = ["COMMANDS", "main", "run"]


class OneLineParser(ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        fail(plain(message))


def run(arguments: list[str]) -> None:
    """Run one command; ``start.main`` turns what goes wrong into one line."""
    arguments = [in_new_words(argument) for argument in arguments]
    given = shlex.join(["ldm-tutorial", *arguments])
    arguments, preset, pixels, flow = first_look(arguments)
    asked = arguments[0] if arguments else None
    parser, commands = build_parser(preset, pixels, flow, asked)
    options = parser.parse_args(arguments)
    function, subparser = commands[options.command]
    ready = subparser.instantiate(options[options.command])
    ready.command_line = given
    function(ready)


def in_new_words(argument: str) -> str:
    """An option of the objective as it is called since objectives have a place of their
    own; its old name goes on working."""
    name, equals, value = argument.partition("=")
    if name in OBJECTIVE or name.startswith("--schedule."):
        return f"--objective.{name[2:]}{equals}{value}"
    return argument


def first_look(arguments: list[str]) -> tuple[list[str], str, bool, bool]:
    """The preset, whether ``--vae none`` and whether the objective is a flow: they
    decide the other options and their defaults, so they are read first. The arguments
    come back without the prediction type of a flow, which says no more than that."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ("--preset", "--vae", "--objective.prediction_type"):
        first.add_argument(name, nargs="?", dest=name[2:].partition(".")[0])
    found = first.parse_known_args(arguments)[0]
    preset = found.preset or "cpu"
    asked = presets.LDM_PRESETS.get(preset, presets.LDM_PRESETS["cpu"]).objective
    flow = (found.objective or asked.prediction_type) == "flow"
    if found.objective == "flow":
        kept = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        kept.add_argument("--objective.prediction_type")
        arguments = kept.parse_known_args(arguments)[1]
    return arguments, preset, found.vae == "none", flow


def defaults(recipe: Any, flow: bool) -> dict[str, Any]:
    """The defaults that a preset gives; it leaves out an objective of another kind
    than was asked for."""
    values = config_to_dict(recipe)
    if "objective" in values and (recipe.objective.prediction_type == "flow") != flow:
        del values["objective"]
    return values


def build_parser(preset: str, pixels: bool, flow: bool, asked: str | None):
    """The parser, and for each command its function and its own parser; where one was
    ``asked`` for, the others get no options, which take their time."""
    parser = OneLineParser(
        prog="ldm-tutorial",
        description="Train, sample and judge latent diffusion models.",
    )
    commands = parser.add_subcommands(dest="command")
    made = {}
    for name, (function, add_options, config, text) in COMMANDS.items():
        sub = OneLineParser(description=text)
        made[name] = (function, sub)
        if asked in COMMANDS and asked != name:
            commands.add_subcommand(name, sub, help=text)
            continue
        if name == "train-ldm" and flow:
            config = FlowRecipe
        add_options(sub)
        if config:
            sub.add_class_arguments(config, skip=set(FLAGS))
            flags(sub, *FLAGS)
        table = PRESETS.get(name, {})
        if name == "train-ldm" and pixels:
            table = presets.PIXEL_PRESETS
        if preset in table:
            sub.set_defaults(defaults(table[preset], flow))
        commands.add_subcommand(name, sub, help=text)
    return parser, made


OBJECTIVE = {f"--{field.name}" for field in fields(Objective)}

PRESETS: dict[str, dict[str, Any]] = {
    "train-vae": presets.VAE_PRESETS,
    "train-ldm": presets.LDM_PRESETS,
    "train-scenenet": presets.SCENE_PRESETS,
}

# name: function, what adds its own options, dataclass of further options, help
COMMANDS = {
    "train-vae": (train_vae, train_options, recipes.VAERecipe, "train an autoencoder"),
    "train-ldm": (train_ldm, ldm_options, recipes.LDMRecipe, "train a diffusion model"),
    "train-scenenet": (
        train_scenenet,
        scene_options,
        recipes.SceneRecipe,
        "train a network that names what a landscape shows",
    ),
    "sample": (sample, sample_options, None, "draw images from a model"),
    "evaluate": (evaluate, evaluate_options, None, "judge reconstructions and samples"),
    "export": (export, export_options, None, "hand a model on to other programs"),
    "benchmark": (
        benchmark,
        benchmark_options,
        None,
        "measure what latent and pixel diffusion cost",
    ),
    "reproduce": (
        reproduce,
        reproduce_options,
        None,
        "run a study of the book again and record it",
    ),
    "data": (
        data,
        data_options,
        DataConfig,
        "show a data set and how fast it is made",
    ),
}
