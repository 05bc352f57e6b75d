"""``evaluate --capstone``: a card of one's own model, and the board it goes on."""

import json
import sys

from jsonargparse import Namespace

from ldm_tutorial.cli.checks import check_writable, read_model
from ldm_tutorial.cli.options import sampling
from ldm_tutorial.cli.progress import judging_bar
from ldm_tutorial.disk import write_json
from ldm_tutorial.evaluation.capstone import cpu_seconds, find_run, judge_capstone
from ldm_tutorial.evaluation.leaderboard import (
    add_card,
    board_text,
    card_text,
    read_board,
    read_card,
)
from ldm_tutorial.pipeline import LatentDiffusion
from ldm_tutorial.text import printable

FIXED: dict[str, int | None] = {"n": 512, "seed": 0}
FIXED |= dict.fromkeys(("data", "size", "features", "nearest"))


def capstone(options: Namespace) -> None:
    """Judge a model, or read a card; print it, keep it, put it on a board.

    Raises:
        ValueError: for options that do not go together, a run over budget, or a card or
            board that is none.
    """
    check_options(options)
    if options.card:
        card = read_card(options.card)
    else:
        folder = find_run(options.model)
        spent = cpu_seconds(folder, options.vae and find_run(options.vae))
        model = read_model(LatentDiffusion, options.model)
        with judging_bar() as progress:
            card = judge_capstone(
                model,
                spent,
                printable(options.name),
                progress=progress,
                **sampling(options),
            )
    if options.out:
        write_json(options.out, card)
    print(json.dumps(card, indent=2) if options.json else card_text(card))
    if options.board:
        board = add_card(options.board, card)
        out = sys.stderr if options.json else sys.stdout
        print(board_text(board), file=out)


def check_options(options: Namespace) -> None:
    """Before anything takes time."""
    for name, default in FIXED.items():
        if getattr(options, name) != default:
            raise ValueError(
                f"--{name}: the capstone judges all models alike; leave it out"
            )
    if options.card and not options.board:
        raise ValueError("--card reads a card for a board: add --board FILE")
    for path in (options.out, options.board):
        if path is not None:
            check_writable(path.parent)
            if path.is_dir():
                raise ValueError(f"cannot write to {path}: it is a folder; give a file")
    if options.board:
        read_board(options.board)
