"""Every time that a page states comes from one place: `book/durations.py`.

Chapters have their sentence filled in from it. Other pages state the same numbers, and
whatever a text says in words, "a minute of training", is listed below with what was
measured. A statement of a time that is not listed is an error.
"""

import json
import re

import durations
import make_notebooks as maker
import pytest

MOST_MINUTES = 45
CHAPTERS = maker.chapters()
PAGES = [
    "README.md",
    *(f"book/{path.name}" for path in sorted(maker.BOOK.glob("*.md"))),
]
PAGES += [f"book/src/{path.name}" for path in maker.sources().values()]
NUMBER = r"(?:\d[\d,.–]*|an?|one|two|three|four|five|six|ten|twenty|half|few|several)"
UNIT = r"(?:seconds?|minutes?|hours?)"
TIME = re.compile(
    rf"\b{NUMBER}(?: (?:an?|or|to|and) {NUMBER})*(?: CPU)?[ -]{UNIT}\b", re.I
)
ORDINAL = re.compile(r"\ba second\b(?! each)", re.I)  # a second network, say


def cells(name, times=True):
    return maker.generate(maker.sources()[name], times).cells


def parts(name):
    return durations.minutes(name, cells(name, times=False))


def result(name):
    return json.loads((maker.ROOT / f"data/results/{name}.json").read_text("utf8"))


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_is_read_in_an_evening_and_says_what_it_takes(name):
    """The sentence states what was counted, and what is not in it."""
    found = parts(name)
    assert found["read"] <= MOST_MINUTES and found["run"] <= 5
    prose = "\n".join(one.source for one in cells(name) if one.cell_type == "markdown")
    reading, writing, answering, running = re.search(
        r"Reading takes about (\d+) minutes, without the exercises .*? take about (\d+)"
        r" minutes more, the questions at the end (\d+)\. Running takes about (\d+)",
        prose,
    ).groups()
    stated = {"read": reading, "write": writing, "answer": answering, "run": running}
    assert found == {key: int(value) for key, value in stated.items()}


def test_every_question_at_the_end_of_a_chapter_says_its_minutes():
    for name in CHAPTERS:
        prose = "\n".join(c.source for c in cells(name) if c.cell_type == "markdown")
        end = prose.split("\n## Exercises\n")[-1]
        asked = re.findall(r"^\*\*\d+\. ", end, flags=re.M)
        assert len(durations.questions(cells(name))) == len(asked) > 0, name


def test_the_first_page_states_the_same_minutes():
    page = (maker.BOOK / "index.md").read_text("utf8")
    total = 0
    for number, name in enumerate(CHAPTERS, 1):
        found = parts(name)
        row = re.search(rf"^\| {number} \| \[.*$", page, flags=re.M)[0]
        minutes = [found[key] for key in ("read", "write", "run")]
        assert row.endswith("| " + " | ".join(map(str, minutes)) + " |"), minutes
        total += sum(minutes)
    assert f"… {round(total, -1)} minutes\n" in page


def test_the_readme_states_the_same_minutes():
    text = (maker.ROOT / "README.md").read_text("utf8")
    for name in CHAPTERS:
        (said,) = re.findall(rf"\(book/{name}.ipynb\) \|.*\| (\d+) min \|", text)
        assert int(said) == durations.running(name)


def test_what_the_page_for_teachers_says_of_running():
    page = (maker.BOOK / "teaching.md").read_text("utf8")
    assert f"takes about {durations.running('03_latent_ddpm')} minutes;" in page


def printed(name, pattern):
    """A number in an output of a chapter's notebook."""
    text = maker.notebook_path(name).read_text("utf8")
    return float(re.search(pattern, text)[1])


# What was measured: the page, its words, the seconds that they may stand for, and those
# that are on record.
MEASURED = [
    (
        "book/src/01_vae.md",
        "half a minute on two cores",
        (20, 45),
        lambda: printed("01_vae", r"(\d+) s, \d+ images seen"),
    ),
    (
        "book/src/05_efficiency.md",
        "Twenty seconds only show a direction",
        (20, 20),
        lambda: printed("05_efficiency", r"SECONDS = (\d+)"),
    ),
    (
        "book/src/appendix_speed.md",
        "takes more than a minute to do it",
        (60, 120),
        lambda: result("speed")["rows"]["compile"]["compile_seconds"],
    ),
    (
        "book/capstone.md",
        "after 317 CPU seconds",
        (316.5, 317.5),
        lambda: json.loads((maker.ROOT / "data/leaderboard.json").read_text("utf8"))[
            "cards"
        ][0]["cpu_seconds"],
    ),
    (
        "book/teaching.md",
        "about 3 minutes;",
        (150, 210),
        lambda: durations.recorded()["03_latent_ddpm"]["seconds"],
    ),
]

# Checked elsewhere (`book/claims`, or the numbers in a chapter's prose), or nothing
# that was run here: budgets, plans, the hours of others.
OTHERS = {
    "README.md": "90 minutes and six hours; ten CPU minutes; took 3.2 hours",
    "book/capstone.md": "Two to four hours; Ten minutes of one core; 600 CPU seconds; "
    "Ten minutes are little; steps are ten minutes; Ten minutes: measure; "
    "Half an hour: guess; An hour: try; 150 seconds a try; Half an hour: be sure; "
    "Ten minutes: the run; with ten minutes more",
    "book/cluster.md": "150,000 hours",
    "book/index.md": "after 3.2 hours; … 5 minutes; … 30 "
    "minutes; … 570 minutes; 90 minutes and for six hours",
    "book/register.md": "for half an hour or longer",
    "book/teaching.md": "Six hours; from three minutes to half an hour; about 6 "
    "hours; For half an hour at home; For two to four hours; ten minutes of one core",
    "book/src/05_efficiency.md": "verdict on 320 seconds; In the same 320 seconds",
    "book/src/06_road.md": "took 25 minutes of one core",
    "book/src/appendix_speed.md": "for the same two minutes; Two minutes are what; "
    "wins in an hour was not asked",
}


@pytest.mark.parametrize(
    ("page", "words", "limits", "measured"), MEASURED, ids=[one[1] for one in MEASURED]
)
def test_words_for_a_time_agree_with_what_was_measured(page, words, limits, measured):
    assert words in prose(page)
    assert limits[0] <= measured() <= limits[1]


@pytest.mark.parametrize("page", PAGES)
def test_no_page_states_a_time_that_is_not_accounted_for(page):
    text = prose(page)
    others = [one for one in OTHERS.get(page, "").split("; ") if one]
    for phrase in [one[1] for one in MEASURED if one[0] == page] + others:
        assert phrase in text, f"{phrase!r} is no longer there: take it off the list"
        text = text.replace(phrase, " ")
    found = [text[max(0, m.start() - 40) : m.end() + 20] for m in TIME.finditer(text)]
    assert not found, found


def prose(page):
    """A page in one line, without its code and without the minutes of exercises."""
    text = (maker.ROOT / page).read_text("utf8")
    text = re.sub(r"^```(?!\{admon).*?^```", " ", text, flags=re.M | re.S)
    text = re.sub(r"\(\d+ minutes[),]", "(", text)
    text = re.sub(r"<svg.*?</svg>", " ", text, flags=re.S)
    text = re.sub(r"\s+", " ", text)
    return ORDINAL.sub(" ", text)
