"""The map of the field: its drawing, its tables and the bibliography agree."""

import re

import make_notebooks as maker

from ldm_tutorial.teach.field import PARTS, YEARS, field_map

PAGE = (maker.BOOK / "map.md").read_text("utf8")


def test_the_page_shows_the_map_that_the_library_draws():
    assert field_map()._repr_html_() in PAGE


def test_every_work_on_the_map_stands_in_the_table_with_its_paper():
    table = PAGE.split("## What each work changed")[1].split("##")[0]
    long = {"SD 3": "Stable Diffusion 3", "v": "v-prediction", "SE": "scale equiv"}
    long |= {"UNet": "UNet", "Euler": "Euler", "consistency": "consistency models"}
    for *_, years in PARTS:
        assert len(years) == len(YEARS)
        for name in (work[0] for works in years for work in works):
            for one in name.split(", "):
                assert long.get(one, one) in table, one


def test_every_paper_on_the_page_is_in_the_bibliography():
    listed = (maker.BOOK / "references.bib").read_text("utf8")
    groups = re.findall(r"\{cite:p\}`([^`]+)`", PAGE)
    cited = {key for group in groups for key in group.split(",")}
    assert len(cited) > 12
    assert not {key for key in cited if f"{{{key}," not in listed}
