"""What an argument may be, asked in one place.

Each check lets a good value pass and raises one line for any other: what was given, and
what to give instead. None of them looks at numbers on a device, for which a GPU would
have to be waited for.
"""

import math
from numbers import Integral, Real
from typing import Any

from torch import Tensor


def whole(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """A whole number in a range; NumPy's are taken as well, truth values are not.

    Raises:
        TypeError: for anything that is no whole number.
        ValueError: for a number outside the range.
    """
    wanted = f"{least} or more" if most is None else f"{least} to {most}"
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}={value!r}; give a whole number, {wanted}")
    found = int(value)
    if found < least:
        raise ValueError(f"{name}={value}; give {least} or more")
    if most is not None and found > most:
        raise ValueError(f"{name}={value}; give {wanted}")
    return found


def number(
    name: str, value: Any, least: float = -math.inf, most: float = math.inf
) -> float:
    """A finite number from ``least`` to ``most``.

    Raises:
        TypeError: for anything that is no number.
        ValueError: for nan, infinity, or a number outside the range.
    """
    wanted = "a finite number"
    if least > -math.inf:
        wanted = f"{least:g} or more" if most == math.inf else f"{least:g} to {most:g}"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}={value!r}; give {wanted}")
    found = float(value)
    if not least <= found <= most or not math.isfinite(found):
        raise ValueError(f"{name}={value}; give {wanted}")
    return found


def positive(name: str, value: Any) -> float:
    """A finite number above 0; raises as ``number`` does."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}={value!r}; give more than 0, a finite number")
    found = float(value)
    if not 0 < found < math.inf:
        raise ValueError(f"{name}={value}; give more than 0, a finite number")
    return found


def widths(name: str, value: Any, most: int = 2**16) -> None:
    """One whole number, 1 or more, for each level of a network: a tuple that is not
    empty; raises as ``whole`` does."""
    if not isinstance(value, tuple | list):
        raise TypeError(f"{name}={value!r}; give a tuple of whole numbers, (64, 96)")
    if not value:
        raise ValueError(f"{name}={value}; give 1 or more of them")
    for width in value:
        if isinstance(width, bool) or not isinstance(width, Integral):
            raise TypeError(f"{name}={value}; give whole numbers")
        if not 1 <= int(width) <= most:
            raise ValueError(f"{name}={value}; give 1 or more, up to {most}")


def has_numbers(x: Tensor) -> bool:
    """Whether there are numbers in a tensor to look at: on the meta device, or where a
    model is only traced, there is a shape and no more."""
    return type(x) is Tensor and not x.is_meta


def floating(name: str, value: Any, wanted: str) -> None:
    """A tensor of floating-point numbers; ``wanted`` says in the message of what.

    Raises:
        TypeError: for anything else.
    """
    if not isinstance(value, Tensor):
        what = f"of type {type(value).__name__}"
    elif value.is_floating_point():
        return
    else:
        what = f"{value.dtype}"
    raise TypeError(f"{name} is {what}; give {wanted}, a tensor of float32")


def alike(name: str, a: Any, other: str, b: Any) -> None:
    """Two tensors of floating-point numbers and of one shape: nothing is broadcast.

    Raises:
        TypeError: for anything else than such tensors.
        ValueError: if their shapes differ.
    """
    floating(name, a, f"what {other} is compared with")
    floating(other, b, f"what {name} is compared with")
    if a.shape != b.shape:
        raise ValueError(
            f"{name} has shape {tuple(a.shape)} and {other} {tuple(b.shape)}; give "
            "both the same shape"
        )
