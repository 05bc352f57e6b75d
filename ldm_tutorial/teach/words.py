"""Words and numbers for what the checker says."""

import inspect
import math
from typing import Any

import torch
from torch import Tensor

from ldm_tutorial.teach.task import Exercise, Run, is_number

# What torch says of common slips, and the same in other words.
ERRORS = {
    "must match the size of tensor": "two shapes do not fit together (view, None and "
    "keepdim=True add dimensions of size 1)",
    "backward through the graph a second time": "the first gradient freed the graph; "
    "retain_graph=True keeps it",
    "must be Tensor, not": "a torch function was given a plain number (try math, or "
    "** 0.5)",
    "Input dtype must be either a floating": "the mean of true and false, or of whole "
    "numbers, wants .float() first",
    "check_uniform_bounds": "random numbers between 0 and 1 need a float dtype, as "
    "torch.rand(y.shape) has",
    "modified by an inplace operation": "an in-place operation overwrites what the "
    "gradient needs",
    "Can't call numpy() on Tensor that requires grad": "NumPy's functions know no "
    "gradient; torch has one of the same name (torch.exp for np.exp)",
    "Dimension out of range": "a dimension is named that the input does not have; "
    "inputs may have fewer of them",
    "only one element tensors can be converted": "a tensor of many numbers was used as "
    "one number",
    "only integer tensors of a single element": "a tensor of many numbers was used as "
    "one number",
    "Boolean value of Tensor with more than one": "`if` wants one truth value and was "
    "given a tensor of many (torch.where chooses element by element)",
    "view size is not compatible": "after permute or transpose the values lie in "
    "another order in memory: .reshape in place of .view",
    "'tuple' object has no attribute": "a tuple was used as if it were its element; "
    "take it out first: (g,) = ..., or ...[0]",
    "The shape of the mask": "a mask was used on a tensor of other dimensions; it "
    "chooses from one of its own shape",
    "Expected reduction dim to be specified for input.numel() == 0": "nothing was left "
    "to choose from: the condition before it holds nowhere",
    "stack expects each tensor to be equal size": "pieces of different shapes were "
    "stacked",
    "stack expects a non-empty TensorList": "nothing was collected: the list is empty",
    "the denoiser was given t": "the denoiser was not given times as it wants them",
    "not enough values to unpack": "fewer parts came than there are names for them",
    "a leaf Variable that requires grad is being used in an in-place": "a parameter "
    "was written into outside torch.no_grad()",
    "pop from empty list": "more was taken from the list than was put into it",
    "Sizes of tensors must match except in dimension": "arrays of different sizes were "
    "joined",
    "Expected weight to be a vector of size equal to the number of channels": "a layer "
    "was given another number of channels than it is made for",
    "mat1 and mat2 shapes cannot be multiplied": "a linear layer was given another "
    "number of features than it is made for",
    "list index out of range": "the loop asks for an element after the last one",
    "is out of bounds for dimension": "an index is larger than the array is long",
    "is invalid for input of size": ".view was asked for a shape of another number of "
    "elements",
    "required positional argument": "a function was called with too few arguments",
    "positional arguments but": "a function was called with too many arguments",
    "object has no attribute": "something was asked for that it does not have",
    "object is not subscriptable": "something without elements was indexed",
}


def in_other_words(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return "it ends Python (sys.exit, quit); leave that out"
    if isinstance(error, KeyError):
        return "a dictionary was asked for a key that it does not have"
    found = [words for piece, words in ERRORS.items() if piece in message_of(error)]
    return found[0] if found else ""


def message_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return ""


def raised(error: BaseException) -> str:
    """An exception in a line: its kind and its text, of which both ends are kept."""
    text = " ".join(message_of(error).split())
    return f"{type(error).__name__}: {abridge(text, 240)}"


def abridge(text: str, width: int) -> str:
    """Without its middle, if it is long: the end often says what to do."""
    if len(text) <= width:
        return text
    return f"{text[: width // 3].rstrip()} … {text[-(2 * width // 3) :].lstrip()}"


def shapes_given(exercise: Exercise, run: Run) -> str:
    """The shapes of the tensors that a call was given, by name."""
    given = zip(exercise.arguments, run.case.make(), strict=False)
    found = [f"{n} {tuple(a.shape)}" for n, a in given if isinstance(a, Tensor)]
    return ", ".join(found)


def given_as(exercise: Exercise, run: Run) -> str:
    """The inputs of a case in words: its note, or names and values."""
    if run.case.note:
        return run.case.note
    args = run.case.make()
    names = exercise.arguments
    return ", ".join(f"{n} = {show(a)}" for n, a in zip(names, args, strict=False))


def difference(got: Tensor, want: Tensor) -> str:
    """Expected and given values, or those farthest apart where there are many."""
    if want.numel() <= 6:
        wanted, came = told_apart(want, got)
        return f"{wanted} is expected and {came} came"
    place = int((got - want).abs().nan_to_num(math.inf).argmax())
    wanted, came = told_apart(want.flatten()[place], got.flatten()[place])
    index: list[int] = []
    for size in reversed(want.shape):
        place, i = divmod(place, size)
        index.insert(0, i)
    return f"at {index}, {wanted} is expected and {came} came"


def told_apart(want: Tensor, got: Tensor) -> tuple[str, str]:
    """Both in words, in more digits where four show no difference."""
    short = show(want), show(got)
    return short if short[0] != short[1] else (show(want, 8), show(got, 8))


def figure(value: Any, digits: int = 4) -> str:
    """A number in a few digits, or a whole number in all of them."""
    value = float(value)
    if abs(value) < 1e-12:
        return "0"
    whole = value.is_integer() and abs(value) < 1e12
    return f"{value:,.0f}" if whole else f"{value:.{digits}g}"


def show(value: Any, digits: int = 4) -> str:
    """A value in a line: numbers, lists of few numbers, or the shape of a tensor."""
    if isinstance(value, Tensor):
        if value.numel() > 8:
            return f"random {shape(value)}"
        if value.numel() == 1:
            return figure(value, digits)
        return "[" + ", ".join(show(part, digits) for part in value) + "]"
    if isinstance(value, bool | str | None.__class__):
        return repr(value)
    return figure(value, digits) if is_number(value) else kind(value)


def shape(value: Tensor) -> str:
    return str(tuple(value.shape)) if value.ndim else "() (a single number)"


def kind(value: Any) -> str:
    """What something is, in words."""
    if value is None:
        return "None"
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, tuple | list):
        return f"{plural(len(value))} in a {type(value).__name__}"
    if isinstance(value, str):
        return f'the text "{shorten(value, 40)}"'
    if is_number(value):
        return "a number"
    if inspect.isgenerator(value):
        return "a generator (`return` gives one result, `yield` many)"
    article = "an" if type(value).__name__[0].lower() in "aeiou" else "a"
    return f"{article} {type(value).__name__}"


def plural(n: int) -> str:
    return "one result" if n == 1 else f"{n} results"


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def shorten(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
