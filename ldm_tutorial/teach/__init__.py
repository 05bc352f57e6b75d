"""What only the book uses: pictures, curves, tables, diagrams, the library's own source
on show, and exercises that answer."""

from ldm_tutorial.teach.charts import dots, lines
from ldm_tutorial.teach.exercises import check, hint, progress, solution
from ldm_tutorial.teach.flipbook import flipbook
from ldm_tutorial.teach.pictures import show_grid, show_rows
from ldm_tutorial.teach.plots import LivePlot, curves, setup
from ldm_tutorial.teach.runs import run_folder
from ldm_tutorial.teach.source import show_source
from ldm_tutorial.teach.table import table

__all__ = [
    "LivePlot",
    "check",
    "curves",
    "dots",
    "flipbook",
    "hint",
    "lines",
    "progress",
    "run_folder",
    "setup",
    "show_grid",
    "show_rows",
    "show_source",
    "solution",
    "table",
]
