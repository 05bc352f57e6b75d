"""The leaderboard of the capstone: its schema, its order, and what is kept off it."""

import json
from pathlib import Path

import pytest
from cards import a_card

from ldm_tutorial.evaluation.capstone import BUDGET, IMAGES, VERSION
from ldm_tutorial.evaluation.leaderboard import (
    add_card,
    board_text,
    card_text,
    check_card,
    places,
    read_board,
    read_card,
)

SHIPPED = Path(__file__).parents[2] / "data" / "leaderboard.json"


def test_the_shipped_board_keeps_the_rules():
    board = read_board(SHIPPED)
    assert set(board) == {"version", "budget", "images", "cards"}
    found = [card["samples"]["frechet"] for card in board["cards"]]
    assert found == sorted(found)
    weights = [card["weights"] for card in board["cards"]]
    assert len(set(weights)) == len(weights)


def test_the_page_says_of_the_reference_what_its_card_says():
    cards = read_board(SHIPPED)["cards"]
    (card,) = (c for c in cards if c["name"] == "the course's reference")
    s, spent = card["samples"], card["cpu_seconds"]
    told = f"{s['frechet']:.2f} ± {s['frechet_ci95']:.2f} after {spent:.0f} CPU seconds"
    assert told in (SHIPPED.parents[1] / "book" / "capstone.md").read_text("utf8")


def test_the_best_card_comes_first_and_the_same_weights_count_once(tmp_path):
    path = tmp_path / "new" / "board.json"
    for card in (a_card("Ada", 4.0), a_card("Max", 3.0), a_card("Eve", 9.0)):
        board = add_card(path, card)
    assert [card["name"] for card in board["cards"]] == ["Max", "Ada", "Eve"]
    assert read_board(path) == board
    again = add_card(path, a_card("Ada again", 3.5, weights="Ada"))
    assert [card["name"] for card in again["cards"]] == ["Max", "Ada again", "Eve"]


def test_who_cannot_be_told_apart_shares_a_place():
    cards = [a_card(frechet=f, width=0.5) for f in (3.0, 3.4, 3.6, 4.0, 9.0)]
    assert places(cards) == [1, 1, 3, 3, 5]


def test_a_card_is_text_to_share():
    text = card_text(a_card())
    assert "Capstone: Ada" in text and "4.000 ± 0.5" in text and "real 0.300" in text
    assert "1,234,567" in text and "321.5" in text and f"of {BUDGET:g}" in text
    board = {"cards": [a_card(), a_card("Max", 9.0)]}
    assert [line.split()[0] for line in board_text(board).splitlines()[1:]] == [
        "1",
        "2",
    ]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (a_card() | {"cpu_seconds": 1.0}, "changed by hand"),
        (a_card(cpu_seconds=BUDGET + 1), "another budget"),
        (a_card(budget=2 * BUDGET), "another budget"),
        (a_card(version=VERSION + 1), "no card of version"),
        (a_card(samples={"n": IMAGES}), "lacks the number 'steps'"),
        (a_card(samples=3), "lacks the number 'n'"),
        (a_card(name=None), "lacks a name"),
        ([], "no card of version"),
    ],
)
def test_what_is_no_card_stays_off_the_board(changed, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        check_card(changed)
    path = tmp_path / "board.json"
    with pytest.raises(ValueError, match=words):
        add_card(path, changed)
    assert not path.exists()
    (tmp_path / "card.json").write_text(json.dumps(changed))
    with pytest.raises(ValueError, match=f"{words}|a list and no object"):
        read_card(tmp_path / "card.json")


@pytest.mark.parametrize("text", ["{", 100_000 * "[", "\0"])
def test_a_file_that_holds_no_card_gets_one_line(text, tmp_path):
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(ValueError, match=r"is no JSON; give the card\.json"):
        read_card(tmp_path / "card.json")
    with pytest.raises(ValueError, match=r"is no regular file; give the card\.json"):
        read_card(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"cards": []}', "null"])
def test_what_is_no_board_is_left_as_it_is(text, tmp_path):
    path = tmp_path / "board.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"is no leaderboard"):
        add_card(path, a_card())
    assert path.read_text() == text
