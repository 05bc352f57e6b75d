"""The command ``ldm-tutorial``."""

from ldm_tutorial.cli.main import COMMANDS, main

__all__ = ["COMMANDS", "main"]
