"""What the checks in a real browser share: where things are, and what is missing."""

import os
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "_build" / "html"
MODULES = Path(
    os.environ.get("NODE_PATH", ROOT / "_build" / "browser" / "node_modules")
)
PICTURES = ROOT / "_build" / "pages"  # what the browser has shown


def missing():
    """Why the pages cannot be looked at; empty if they can."""
    for program in ("node", "chromium"):
        if not shutil.which(program) and not os.environ.get(program.upper()):
            return f"{program} is not installed"
    for module in ("playwright-core", "axe-core"):
        if not (MODULES / module).is_dir():
            return f"the node module {module} is not installed; run: make pages"
    return "" if (BOOK / "index.html").exists() else "no book is built; run: make book"
