"""Cards of the capstone side by side, in a JSON file."""

from pathlib import Path
from typing import Any

from ldm_tutorial.disk import read_json, write_json
from ldm_tutorial.evaluation.capstone import BUDGET, IMAGES, VERSION
from ldm_tutorial.records import fingerprint

Card = dict[str, Any]

NUMBERS = ("budget", "cpu_seconds", "parameters")
SAMPLES = ("n", "steps", "frechet", "frechet_ci95", "frechet_real", "class_agreement")


def read_card(path: Path) -> Card:
    """A card from its file.

    Raises:
        ValueError: if it is none, or was changed by hand.
    """
    card = read_json(path, "give the card.json of a capstone")
    check_card(card, str(path))
    return card


def check_card(card: Any, where: str = "this") -> None:
    """Raise a ValueError for anything but an unchanged card within the budget."""
    if not isinstance(card, dict) or card.get("version") != VERSION:
        raise ValueError(f"{where} is no card of version {VERSION} of the capstone")
    found = card.get("samples")
    samples = found if isinstance(found, dict) else {}
    parts = [(card, NUMBERS), (samples, SAMPLES)]
    for part, names in parts:
        for name in names:
            if not isinstance(part.get(name), int | float):
                raise ValueError(f"{where} lacks the number {name!r}; judge again")
    if not isinstance(card.get("name"), str) or not isinstance(
        card.get("weights"), str
    ):
        raise ValueError(f"{where} lacks a name, or the digest of its weights")
    if card.get("digest") != fingerprint(card):
        raise ValueError(f"{where} was changed by hand: its digest does not fit")
    if card["cpu_seconds"] > BUDGET or card["budget"] != BUDGET:
        raise ValueError(f"{where} was made for another budget than {BUDGET:g} seconds")
    if samples["n"] != IMAGES:
        raise ValueError(f"{where} was judged on {samples['n']} images, not {IMAGES}")


def read_board(path: Path) -> dict[str, Any]:
    """A leaderboard, or an empty one where there is no file.

    Raises:
        ValueError: if it is none, or holds what is no card.
    """
    if not path.exists():
        return {"version": VERSION, "budget": BUDGET, "images": IMAGES, "cards": []}
    try:
        board = read_json(path)
        cards = board["cards"]
        head = (board["version"], board["budget"], board["images"])
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is no leaderboard; give another file") from None
    if head != (VERSION, BUDGET, IMAGES) or not isinstance(cards, list):
        raise ValueError(f"{path} is a leaderboard of other rules; give another file")
    for i, card in enumerate(cards):
        check_card(card, f"card {i + 1} of {path}")
    return board


def add_card(path: Path, card: Card) -> dict[str, Any]:
    """Put a card on a board, in place of one of the same weights, and write the board:
    the smallest Fréchet distance first."""
    check_card(card)
    board = read_board(path)
    kept = [one for one in board["cards"] if one["weights"] != card["weights"]]
    cards = sorted([*kept, card], key=lambda one: one["samples"]["frechet"])
    board = board | {"cards": cards}
    write_json(path, board)
    return board


def places(cards: list[Card]) -> list[int]:
    """The place of each card, the best first. Whoever lies within the interval of the
    first of a place shares it: nobody can tell them apart."""
    found: list[int] = []
    limit = float("-inf")
    for i, card in enumerate(cards):
        distance, width = (card["samples"][k] for k in ("frechet", "frechet_ci95"))
        if distance > limit:
            place, limit = i + 1, distance + width
        found.append(place)
    return found


def board_text(board: dict[str, Any]) -> str:
    """A line for each card."""
    lines = [f"{'':>3}  {'Fréchet distance':18}{'CPU s':>7}{'parameters':>12}  name"]
    for place, card in zip(places(board["cards"]), board["cards"], strict=True):
        samples = card["samples"]
        distance = f"{samples['frechet']:.2f} ± {samples['frechet_ci95']:.2f}"
        counts = f"{card['cpu_seconds']:>7.0f}{card['parameters']:>12,}"
        lines.append(f"{place:>3}  {distance:18}{counts}  {card['name']}")
    return "\n".join(lines)


def card_text(card: Card) -> str:
    """A card to share, as text."""
    samples, factors = card["samples"], card["factors"]
    shown = {
        "Fréchet distance": (samples, "frechet"),
        "class as asked for": (samples, "class_agreement"),
        "trees, total variation": (factors, "tv_tree_count"),
        "houses, total variation": (factors, "tv_house"),
        "suns, total variation": (factors, "tv_sun_radius"),
        "forbidden by the world": (factors, "forbidden_any"),
    }
    lines = [f"Capstone: {card['name']}"]
    for words, (part, key) in shown.items():
        if key not in part:
            continue
        width, real = part.get(f"{key}_ci95"), part.get(f"{key}_real")
        line = f"  {words:25}{part[key]:8.3f}"
        line += f" ± {width:<7.2g}" if width is not None else " " * 10
        lines.append(line + (f"  real {real:.3f}" if real is not None else ""))
    parts = [f"{k} {run['cpu_seconds']:g} s" for k, run in card["runs"].items()]
    how = f"{samples['n']} samples, {samples['steps']} steps"
    cost = f"CPU seconds of {card['budget']:g}"
    lines += [
        f"  {cost:25}{card['cpu_seconds']:8g}   {', '.join(parts)}",
        f"  {'parameters':25}{card['parameters']:8,}   {how}",
        f"  digest {card['digest']}, weights {card['weights']}",
    ]
    return "\n".join(lines)
