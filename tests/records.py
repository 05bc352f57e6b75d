"""What tests of recorded results share."""

from typing import Any


def filled(recorded: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Recorded settings, with the defaults of fields that are younger than they."""
    return defaults | {
        name: filled(value, defaults[name]) if isinstance(value, dict) else value
        for name, value in recorded.items()
    }
