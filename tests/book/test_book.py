"""The chapters: executed, equal to their sources, readable everywhere, and honest.

`make_notebooks` writes the notebooks; these tests hold what is stored to its rules.
"""

import ast
import base64
import io
import json
import re
import subprocess
import sys

import make_notebooks as maker
import mend_pages
import nbformat
import pytest
import yaml
from durations import folded

from ldm_tutorial.teach import check
from ldm_tutorial.teach.exercises import EXERCISES, NotRightYet

NOTEBOOKS = sorted(
    {path.stem for path in maker.BOOK.glob("*_*.ipynb")} | set(maker.sources())
)
CHAPTERS = [name for name in NOTEBOOKS if name[0].isdigit()]
MAX_LINES, MAX_SETUP_LINES, MAX_FOLDED_LINES = 15, 12, 24
SECTIONS = ("goals", "summary", "exercises", "references")  # in this order

every_notebook = pytest.mark.parametrize("name", NOTEBOOKS)
every_chapter = pytest.mark.parametrize("name", CHAPTERS)


def read(name):
    return nbformat.read(maker.notebook_path(name), as_version=4)


def cells(name, kind):
    """(number from 1, cell) for the cells of one kind."""
    return [
        (number, cell)
        for number, cell in enumerate(read(name).cells, 1)
        if cell.cell_type == kind
    ]


def headings(name):
    """(level, text) of every heading, outside code blocks."""
    text = "\n\n".join(cell.source for _, cell in cells(name, "markdown"))
    text = re.sub(r"^(```|~~~).*?^\1", "", text, flags=re.M | re.S)
    found = re.findall(r"^(#{1,6})\s+(.+?)\s*$", text, flags=re.M)
    return [(len(marks), words) for marks, words in found]


def test_there_are_chapters():
    assert CHAPTERS, "book/src holds no chapter"


def test_toc_lists_every_notebook_in_order():
    toc = yaml.safe_load((maker.BOOK / "_toc.yml").read_text("utf8"))
    files = [entry["file"] for part in toc["parts"] for entry in part["chapters"]]
    assert [file for file in files if file in NOTEBOOKS] == NOTEBOOKS
    stored = {
        path.stem for kind in ("*.md", "*.ipynb") for path in maker.BOOK.glob(kind)
    }
    assert {toc["root"], *files} <= stored


@every_notebook
def test_notebook_is_executed_and_equal_to_its_source(name):
    assert not maker.problems(name), "run: make notebooks"


@every_notebook
def test_notebook_is_small_and_names_no_path_of_a_machine(name):
    text = maker.notebook_path(name).read_text("utf8")
    assert len(text.encode()) <= maker.MAX_BYTES
    assert not maker.own_paths(text)


@every_notebook
def test_cells_are_short(name):
    install = maker.install_code()
    for number, cell in cells(name, "code"):
        limit = MAX_FOLDED_LINES if folded(cell) else MAX_LINES
        limit = MAX_SETUP_LINES if install in cell.source else limit
        lines = [line for line in cell.source.splitlines() if line.strip()]
        assert len(lines) <= limit, f"cell {number}: {len(lines)} lines"


@every_notebook
def test_code_fits_the_column(name):
    for number, cell in cells(name, "code"):
        if maker.install_code() not in cell.source:
            wide = [line for line in cell.source.splitlines() if len(line) > 78]
            assert not wide, f"cell {number}: {wide}"


DRAWS = re.compile(
    r"\b(print|table|lines|dots|curves|flipbook|show_rows|show_grid|plt|axis|axes|figure"
    r"|diagrams|toy|widgets|report_table)\b[.(]|\bdisplay\("
)


@every_chapter
def test_a_reader_sees_what_a_cell_is_about(name):
    """Drawing and tabulating is folded: of the code in sight, at most 15 % does it.

    A statement counts with all of its lines. Nothing in sight silences the linter or
    puts a function into a variable.
    """
    drawing = total = 0
    for number, cell in cells(name, "code"):
        if folded(cell):
            continue
        assert "noqa" not in cell.source, f"cell {number}"
        tree = ast.parse(cell.source)
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                named = isinstance(node.value, ast.Lambda)
                assert not named, f"cell {number}: a lambda with a name is a def"
        total += len([line for line in cell.source.splitlines() if line.strip()])
        for node in ast.walk(tree):
            if isinstance(node, ast.Expr | ast.Assign):
                text = ast.get_source_segment(cell.source, node)
                if DRAWS.match(text.split("=", 1)[-1].strip()):
                    drawing += len(text.splitlines())
    assert drawing <= 0.15 * total, f"{drawing} of {total} lines print or draw"


@every_chapter
def test_a_chapter_ends_with_three_questions_and_says_where_it_stands(name):
    prose = "\n".join(cell.source for _, cell in cells(name, "markdown"))
    quiz = re.split(r"^## ", prose.split("## Three questions\n")[1], flags=re.M)[0]
    assert (
        quiz.count("<details>") == len(re.findall(r"^\*\*.+\?\*\*$", quiz, re.M)) == 3
    )
    code = "\n".join(cell.source for _, cell in cells(name, "code"))
    assert f"diagrams.pipeline(chapter={int(name[:2])})" in code


@every_chapter
def test_chapter_has_its_parts(name):
    titles = headings(name)
    assert titles[0][0] == 1, "a chapter starts with its title"
    assert [level for level, _ in titles].count(1) == 1, "a chapter has one title"
    second = [words.lower() for level, words in titles if level == 2]
    places = []
    for section in SECTIONS:
        hits = [place for place, words in enumerate(second) if section in words]
        assert hits, f"no section '## ... {section} ...'"
        places.append(hits[-1])
    assert places == sorted(places), f"the order is {SECTIONS}"
    prose = "\n".join(cell.source for _, cell in cells(name, "markdown"))
    assert maker.colab_badge(name) in prose
    code = [cell.source for _, cell in cells(name, "code")]
    assert sum(maker.install_code() in source for source in code) == 1


NOT_PORTABLE = {
    "directive": r"^\s*(?:`{3,}|~{3,}|:{3,})\s*\{",
    "role": r"\{[A-Za-z][\w:.+-]*\}`",
    "target": r"^\([\w-]+\)=\s*$",
    "comment": r"^%\s",
    "placeholder": r"\{\{\s*[a-z_]+\s*\}\}",
    "image without a text": r"!\[\s*\]\(",
}


@every_notebook
def test_markdown_is_portable(name):
    """Colab and GitHub render plain Markdown with $math$ and HTML, nothing of MyST."""
    for number, cell in cells(name, "markdown"):
        text = re.sub(r"\$\$.*?\$\$|\$[^$\n]+\$", "", cell.source, flags=re.S)
        for what, pattern in NOT_PORTABLE.items():
            found = re.search(pattern, text, flags=re.M)
            assert not found, f"cell {number}: MyST {what} {found[0]!r}"


@every_notebook
def test_every_image_has_a_text(name):
    """Images get the cell's `mystnb.image.alt`; an <img> in HTML carries its own."""
    for number, cell in cells(name, "code"):
        alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
        for output in cell.outputs:
            data = output.get("data", {})
            if any(kind.startswith("image/") for kind in data):
                assert str(alt).strip(), f"cell {number}: no mystnb.image.alt"
            for tag in re.findall(r"<img\b[^>]*>", data.get("text/html", "")):
                named = re.search(r"""\balt=(["'])\s*(?!\1)\S""", tag)
                assert named, f"cell {number}: <img> without alt"


@every_notebook
def test_pictures_are_light(name):
    """What a phone has to load: no picture above 150 kB, in a file or in a page."""
    for number, cell in cells(name, "code"):
        for output in cell.outputs:
            data = output.get("data", {})
            pictures = [v for k, v in data.items() if k.startswith("image/")]
            inside = r"data:image/[\w+.-]+;base64,([A-Za-z0-9+/=]+)"
            pictures += re.findall(inside, data.get("text/html", ""))
            for picture in pictures:
                size = len(picture) * 3 // 4
                assert size <= maker.MAX_IMAGE_BYTES, f"cell {number}: {size / 1e3} kB"


# The pages around the chapters -----------------------------------------------------

PAGES = ("index", "notation", "glossary", "bibliography", "register", "teaching", "map")
PAGES += ("playground",)


def page(name):
    return (maker.BOOK / f"{name}.md").read_text("utf8")


def paper(address):
    """What names a paper in an address: its number, or its DOI."""
    return re.sub(r"^https?://(arxiv\.org/abs/|doi\.org/|dx\.doi\.org/)?", "", address)


@every_chapter
def test_every_paper_that_a_chapter_links_to_is_in_the_bibliography(name):
    listed = (maker.BOOK / "references.bib").read_text("utf8")
    prose = "\n".join(cell.source for _, cell in cells(name, "markdown"))
    given = prose.split("## References", 1)[1]
    links = re.findall(r"\]\((https?://[^)\s]+)\)", given)
    papers = [link for link in links if "github.com" not in link]
    assert papers
    missing = [link for link in papers if paper(link) not in listed]
    assert not missing, f"book/references.bib lacks {missing}"


def test_the_glossary_is_in_order_and_each_word_is_there_once():
    entries = re.findall(r"^(?![ `#])(\S.*)\n  \S", page("glossary"), flags=re.M)
    terms = [one.lower().replace("é", "e").replace("-", " ") for one in entries]
    assert len(terms) > 50 and terms == sorted(set(terms))


@pytest.mark.parametrize("name", PAGES)
def test_a_page_loads_nothing_from_elsewhere(name):
    """Everything is readable from the disk: pictures and styles are the book's own."""
    text = page(name)
    shown = r"!\[[^\]]*\]\((\S+?)\)|\{(?:image|figure)\}\s*(\S+)|src=[\"']([^\"']+)"
    for found in re.findall(shown, text):
        source = "".join(found)
        assert "://" not in source, source
        size = (maker.BOOK / source).stat().st_size
        assert size <= maker.MAX_IMAGE_BYTES, f"{source}: {size / 1e3:.0f} kB"


def test_the_style_sheet_and_its_files_are_the_books_own():
    text = (maker.BOOK / "_assets" / "custom.css").read_text("utf8")
    assert "@import" not in text
    assert not re.findall(r"url\(\s*[\"']?(?:https?:)?//", text)


def test_pages_are_mended():
    """Against the HTML that the theme and its extensions write."""
    remote = (
        f'<a href="x"><img alt="Open in Colab" src="{mend_pages.REMOTE_BADGE}" /></a>'
    )
    summary = '<summary aria-label="Toggle hidden content">\n<p>Show</p></summary>'
    entry = '<div role="list"><div class="citation" id="id1" role="doc-biblioentry">'
    body = mend_pages.mended(remote + summary + entry, "_static/colab-badge.svg")
    assert "https://" not in body and 'src="_static/colab-badge.svg"' in body
    assert "<summary>\n<p>Show</p></summary>" in body
    assert 'id="id1" role="listitem">' in body
    badge = (maker.BOOK / "_assets" / "colab-badge.svg").read_text("utf8")
    assert 'width="117" height="20"' in badge and 'width="117" height="20"' in body


def test_the_number_of_an_equation_stands_behind_its_lines():
    """Sphinx wraps an equation with line breaks; two of them, the second numbered."""
    plain = r"\[\begin{split}a \\ b\end{split}\]"
    lines = r"\[\begin{split}\begin{aligned}a &amp;= b \\ &amp;= c\end{aligned}"
    wrong = plain + lines + "\n" + r"\tag{2.1}\end{split}\]"
    right = plain + lines + "\n" + r"\end{split}\tag{2.1}\]"
    assert mend_pages.mended(wrong, "") == right
    alone = r"\[a = b . \tag{3.2}\]"
    assert mend_pages.mended(alone, "") == alone


def test_a_plot_has_a_box_that_a_keyboard_reaches():
    """Pictures inside a line, such as a badge, have none."""
    plot = '<img alt="Two curves." src="_images/0a.png" />'
    boxed = mend_pages.mended(f"<div>\n{plot}\n</div>", "")
    assert re.fullmatch(
        rf'<div>\n<div class="ldm-plot"[^>]* tabindex="0">{plot}</div>\n</div>', boxed
    )
    inline = f"<p>{plot}</p>"
    assert mend_pages.mended(inline, "") == inline


def test_the_badge_that_is_mended_is_the_one_that_chapters_have():
    assert f"({mend_pages.REMOTE_BADGE})" in maker.colab_badge("x")


def test_the_opening_page_shows_a_message_as_it_is():
    with pytest.raises(NotRightYet) as caught:
        check("kl", EXERCISES["kl"].misconceptions["sign"][0])
    assert str(caught.value) in page("index")


# The page for teachers -------------------------------------------------------------


def test_the_page_for_teachers_lists_every_exercise_with_its_minutes():
    row = r"^\| (\d) \| `(\w+)` \| (\d) \| (\d+) \| (.+) \|$"
    listed = re.findall(row, page("teaching"), flags=re.M)
    wanted = [
        (str(e.chapter), e.name, str(e.difficulty), str(e.minutes), e.title)
        for e in EXERCISES.values()
    ]
    assert listed == wanted
    (hours,) = re.findall(r"about (\d+) hours", page("teaching"))
    assert int(hours) == round(sum(e.minutes for e in EXERCISES.values()) / 60)


def test_the_plans_add_up_and_name_exercises_of_their_chapters():
    short, long = page("teaching").split("## Six hours")
    times = re.findall(r"^\| (\d+)–(\d+) \|", short, flags=re.M)
    assert [end for _, end in times[:-1]] == [start for start, _ in times[1:]]
    assert (times[0][0], times[-1][1]) == ("0", "90")
    blocks = re.findall(r"^\| (\d) \| (\d+) \|(.*)\|$", long, flags=re.M)
    blocks = [one for one in blocks if "`" not in one[2].split("|")[0]][:6]
    assert sum(int(minutes) for _, minutes, _ in blocks) == 360
    for chapter, _, text in blocks[:5]:
        names = re.findall(r"`(\w+)`", text)
        assert names and {EXERCISES[name].chapter for name in names} == {int(chapter)}
    for name in re.findall(r"`(\w+)`", short.split("## Ninety minutes")[1]):
        assert EXERCISES[name].chapter == 3


def test_the_marks_of_a_class_are_added_up_as_the_page_says(tmp_path):
    """The page's own program, on the files of two students."""
    programs = re.findall(r"```python\n(.*?)```", page("teaching"), flags=re.S)
    (program,) = (one for one in programs if "most_common" in one)
    (tmp_path / "marks").mkdir()
    kl = {"name": "kl", "minutes": EXERCISES["kl"].minutes, "misconceptions": ["sign"]}
    for student, status in {"ada": "right", "max": "wrong"}.items():
        marks = {"right": 0, "of": 1, "exercises": [kl | {"status": status}]}
        (tmp_path / "marks" / f"{student}.json").write_text(json.dumps(marks))
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    ada, max_, mistake = done.stdout.splitlines()
    assert ada.split() == ["ada", "1", "right,", "worth", str(kl["minutes"]), "minutes"]
    assert max_.split()[:3] == ["max", "0", "right,"]
    assert mistake.split(None, 2) == ["2", "×", "kl: sign"]


# Numbers in prose ------------------------------------------------------------------

NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?", flags=re.I)
CLAIM = re.compile(
    r"(?<![\w.,])(?<!\w-)(?P<value>\d[\d,]*(?:\.(?P<digits>\d+))?)"
    r"(?:e(?P<power>[+-]?\d+))?(?![\d.]*\d|\w*\d)"
    r"(?P<unit>\s?%|\s?×(?!\s*\d)|x\b)?"
)
LABEL = re.compile(  # Section 3.2, Python 3.11: names, not measurements
    r"\b(?:sec|secs|section|fig|figure|table|chapter|eq|eqs|equation|alg|algorithm|app"
    r"|appendix|version|python|pytorch|torch|colab)\.?\s*\(?$|§\s*$",
    flags=re.I,
)


def prose_of(markdown):
    """Markdown less what no reader takes for a measurement of this chapter: code,
    maths, links, HTML tags, and everything from the heading "References" on."""
    text = re.split(r"^##[^\n]*references[^\n]*$", markdown, flags=re.M | re.I)[0]
    for pattern in (
        r"^(```|~~~).*?^\1",
        r"\$\$.*?\$\$",
        r"\$[^$\n]+\$",
        r"`[^`\n]+`",
        r"!?\[[^\]]*\]\([^)]*\)",
        r"https?://\S+",
        r"<!--.*?-->",
        r"<[^>]+>",
    ):
        text = re.sub(pattern, " … ", text, flags=re.M | re.S)
    return text


def claims(prose):
    """(text, value, half of its last digit, is a percentage) of the numbers that must
    be backed: with a decimal point, a per cent sign or a times sign (4.5×, 12x)."""
    found = []
    for match in CLAIM.finditer(prose):
        unit = (match["unit"] or "").strip()
        if LABEL.search(prose[: match.start()]) or not (match["digits"] or unit):
            continue
        scale = 10.0 ** int(match["power"] or 0)
        value = float(match["value"].replace(",", "")) * scale
        half = 0.5000001 * scale * 10.0 ** -len(match["digits"] or "")
        found.append((match[0].strip(), value, half, unit == "%"))
    return found


def numbers_in(text):
    return [float(one.replace(",", "")) for one in NUMBER.findall(text)]


def numbers_in_json(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for one in value for number in numbers_in_json(one)]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return [abs(float(value))] if is_number else []


def unbacked(prose, evidence):
    """The claims in prose that no number of the evidence rounds to."""
    missing = []
    for text, value, tolerance, percentage in claims(prose):
        scales = (1.0, 100.0) if percentage else (1.0,)
        if not any(
            abs(number * scale - value) <= tolerance
            for number in evidence
            for scale in scales
        ):
            missing.append(text)
    return missing


@every_notebook
def test_numbers_in_prose_are_backed(name):
    """Numbers that read like measurements come from somewhere.

    A number in the prose with a decimal point, a per cent sign or a times sign must be
    the rounding, to the digits shown, of a number in one of the chapter's outputs or
    code cells, or in a recorded result data/results/NAME.json whose NAME the chapter
    mentions (in code or prose). A percentage may also be backed by its fraction.
    Exempt are maths, code spans, links, the references, and numbers that belong to a
    name such as "Section 3.2" or "Python 3.11".
    """
    prose = "\n\n".join(cell.source for _, cell in cells(name, "markdown"))
    evidence, everything = [], prose
    for _, cell in cells(name, "code"):
        evidence += numbers_in(cell.source)
        everything += cell.source
        for output in cell.outputs:
            data = output.get("data", {})
            texts = [output.get("text", ""), data.get("text/plain", "")]
            texts.append(data.get("text/markdown", ""))
            # Of HTML, what a reader sees: no tags, styles, scripts, embedded images.
            hidden = r"<(style|script)\b.*?</\1>|<[^>]+>"
            texts.append(re.sub(hidden, " ", data.get("text/html", ""), flags=re.S))
            evidence += [number for text in texts for number in numbers_in(text)]
    for path in sorted((maker.ROOT / "data" / "results").glob("*.json")):
        if re.search(rf"\b{re.escape(path.stem)}\b", everything):
            evidence += numbers_in_json(json.loads(path.read_text("utf8")))
    missing = unbacked(prose_of(prose), evidence)
    assert not missing, (
        f"no output, code cell or named data/results/*.json holds {missing}"
    )


@pytest.mark.parametrize(
    ("prose", "evidence", "missing"),
    [
        ("27.3 dB", [27.31], []),
        ("27.3 dB", [27.36], ["27.3"]),
        ("a speed-up of 4.5×, or 12x", [4.52, 11.8], []),
        ("a speed-up of 4.5×", [0.45], ["4.5×"]),
        ("12.5 % of it, or 48%", [0.1249, 48], []),
        ("64×64 pixels, 8 × 8 latents, 3 channels, a 64x64 image", [], []),
        ("1,234.5 values", [1234.5], []),
        ("a weight of 2.5e-4, then -3.5", [0.000251], ["3.5"]),
        ("Section 3.2 of the paper, Python 3.11, eq. 4.1, release 2.11.0", [], []),
        ("`0.18215` and $0.5$ and [2.7](https://a.b/1.5)", [], []),
        ("it ends at 0.7.\n\n## References\n\n1. Page 3.5", [0.7], []),
    ],
)
def test_the_rule_for_numbers(prose, evidence, missing):
    assert unbacked(prose_of(prose), evidence) == missing


# The tool itself -------------------------------------------------------------------

SOURCE = """# A chapter

{{colab_badge}}

```{code-cell} ipython3
:tags: [hide-input]

{{install}}
```

```{code-cell} ipython3
1 + 1
```

```{code-cell} ipython3
1 + 1
```
"""


@pytest.fixture
def small_book(tmp_path, monkeypatch):
    (tmp_path / "src").mkdir()
    monkeypatch.setattr(maker, "BOOK", tmp_path)
    return tmp_path


def store(book, source, executed=True):
    """A chapter as if `make notebooks` had run, without starting a kernel."""
    (book / "src" / "01_small.md").write_text(source, "utf8")
    notebook = maker.generate(maker.sources()["01_small"])
    for count, cell in enumerate(notebook.cells):
        if cell.cell_type == "code" and executed:
            cell.execution_count = count
    maker.write(notebook, maker.notebook_path("01_small"))
    return notebook


def test_generation_is_repeatable_and_fills_the_placeholders(small_book):
    first, second = store(small_book, SOURCE), store(small_book, SOURCE)
    assert first == second
    ids = [cell.id for cell in first.cells]
    assert len(set(ids)) == len(ids)
    assert maker.colab_badge("01_small") in first.cells[0].source
    assert f"%pip install -q git+{maker.repository()}" in first.cells[1].source
    assert first.cells[1].metadata.tags == ["hide-input"]
    edited = store(small_book, SOURCE.replace("# A chapter", "# Another"))
    assert [cell.id for cell in edited.cells][1:] == ids[1:]


def test_check_finds_what_is_wrong(small_book, capsys):
    store(small_book, SOURCE)
    assert maker.main(["--check"]) == 0
    store(small_book, SOURCE, executed=False)
    assert maker.main(["--check"]) == 1
    assert "cell 2 was never executed" in capsys.readouterr().out
    store(small_book, SOURCE)
    changed = SOURCE.replace("1 + 1", "1 + 2")
    (small_book / "src" / "01_small.md").write_text(changed, "utf8")
    assert maker.main(["--check"]) == 1
    assert "cell 3 differs from the source" in capsys.readouterr().out
    (small_book / "src" / "01_small.md").unlink()
    assert maker.main(["--check"]) == 1
    assert "has no source" in capsys.readouterr().out


def test_a_notebook_too_large_is_refused(small_book):
    notebook = store(small_book, SOURCE)
    before = maker.notebook_path("01_small").read_bytes()
    notebook.cells[0].source = "x" * (maker.MAX_BYTES + 1)
    with pytest.raises(maker.ChapterError, match="MB are allowed"):
        maker.write(notebook, maker.notebook_path("01_small"))
    assert maker.notebook_path("01_small").read_bytes() == before


def png(side):
    """A picture of noise, as a notebook stores it."""
    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), "uint8")
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def with_picture(book, side):
    notebook = store(book, SOURCE)
    data = {"image/png": png(side)}
    output = nbformat.v4.new_output("display_data", data=data)
    notebook.cells[2].outputs = [output]
    maker.write(notebook, maker.notebook_path("01_small"))
    stored = nbformat.read(maker.notebook_path("01_small"), as_version=4)
    return data["image/png"], stored.cells[2].outputs[0].data["image/png"]


def test_a_picture_too_large_is_stored_in_fewer_colours(small_book):
    small, stored = with_picture(small_book, 100)
    assert stored.strip() == small
    large, stored = with_picture(small_book, 300)
    assert len(stored) * 3 // 4 <= maker.MAX_IMAGE_BYTES < len(large) * 3 // 4
    with pytest.raises(maker.ChapterError, match="the picture of cell 3 takes"):
        with_picture(small_book, 600)


def test_a_failing_cell_is_shown_and_leaves_the_notebook(small_book, capsys):
    store(small_book, SOURCE)
    before = maker.notebook_path("01_small").read_bytes()
    failing = SOURCE.replace("1 + 1", "1 / 0", 1)
    (small_book / "src" / "01_small.md").write_text(failing, "utf8")
    assert maker.main(["01_small"]) == 1
    said = capsys.readouterr().out
    assert "cell 3 raised ZeroDivisionError" in said
    assert "1 / 0" in said and "\x1b" not in said
    assert maker.notebook_path("01_small").read_bytes() == before


def test_prose_may_change_without_an_execution(tmp_path):
    source, path = tmp_path / "09_toy.md", tmp_path / "09_toy.ipynb"
    cell = "```{code-cell} ipython3\n1 + 1\n```\n"
    source.write_text(f"Before.\n\n{cell}")
    stored = maker.generate(source)
    stored.cells[1].execution_count = 7
    nbformat.write(stored, path)
    source.write_text(f"After.\n\n{cell}")
    notebook = maker.generate(source)
    maker.keep_outputs(notebook, path)
    assert notebook.cells[0].source == "After."
    assert notebook.cells[1].execution_count == 7


def test_code_may_not(tmp_path):
    source, path = tmp_path / "09_toy.md", tmp_path / "09_toy.ipynb"
    source.write_text("```{code-cell} ipython3\n1 + 1\n```\n")
    nbformat.write(maker.generate(source), path)
    source.write_text("```{code-cell} ipython3\n1 + 2\n```\n")
    with pytest.raises(maker.ChapterError, match="a code cell has changed"):
        maker.keep_outputs(maker.generate(source), path)
