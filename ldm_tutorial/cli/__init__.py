"""The command ``ldm-tutorial``."""

from ldm_tutorial.cli.start import main

__all__ = ["main"]
