"""What tests of recorded results share."""

from typing import Any

OBJECTIVE = {"schedule", "prediction_type", "min_snr_gamma", "logit_normal"}
OBJECTIVE |= {"label_dropout"}


def filled(recorded: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Recorded settings, with the defaults of fields that are younger than they, and
    those of the objective where they stand now."""
    if "objective" in defaults and "objective" not in recorded:
        objective = {k: v for k, v in recorded.items() if k in OBJECTIVE}
        rest = {k: v for k, v in recorded.items() if k not in OBJECTIVE}
        recorded = rest | {"objective": objective}
    return defaults | {
        name: filled(value, defaults[name]) if isinstance(value, dict) else value
        for name, value in recorded.items()
    }


def flat(value, path=""):
    """Every field of nested settings under ``a.b.c``."""
    if not isinstance(value, dict):
        return {path: value}
    found = {}
    for key, part in value.items():
        found |= flat(part, f"{path}.{key}" if path else key)
    return found
