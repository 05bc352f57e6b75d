"""What only the book uses: pictures, curves, and the library's own source on show."""

from ldm_tutorial.teach.plots import curves, setup, show_grid, show_rows
from ldm_tutorial.teach.source import show_source

__all__ = ["curves", "setup", "show_grid", "show_rows", "show_source"]
