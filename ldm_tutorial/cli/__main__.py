"""``python -m ldm_tutorial.cli``: the command line."""

from ldm_tutorial.cli.start import main

main()
