"""Mechanical ways to spoil a right answer, for every exercise alike.

A spoiling makes of an exercise a list of (what was done, spoilt answer); an empty list
if it does not apply. HARMLESS says which ones the checker may accept, and why.
"""

import random
import sys

import numpy as np
import torch
from torch import Tensor

from ldm_tutorial.teach.guard import seeded
from ldm_tutorial.teach.task import parts


def results(exercise, case=-1):
    """What the reference returns of a case."""
    with seeded():
        return exercise.reference(*exercise.cases[case].make())


def after(exercise, change):
    """The reference, and a change of what it returns, part by part."""

    def answer(*args):
        found = exercise.reference(*args)
        if isinstance(found, tuple):
            return tuple(change(part) for part in found)
        return change(found)

    return answer


def wrapped(exercise, change):
    """The reference, and a change of all that it returns."""
    return lambda *args: change(exercise.reference(*args))


def tensors(exercise):
    return [part for part in parts(results(exercise)) if isinstance(part, Tensor)]


def numbers(exercise):
    """Whether it returns numbers or tensors, not words."""
    return not any(isinstance(part, str) for part in parts(results(exercise)))


def as_tensor(part):
    return part if isinstance(part, Tensor) else torch.tensor(part)


# What comes back


def in_a_tuple(e):
    return [("", wrapped(e, lambda r: (r,)))]


def in_a_list(e):
    return [("", wrapped(e, lambda r: [r]))]


def in_a_dictionary(e):
    return [("", wrapped(e, lambda r: {"result": r}))]


def as_list_of_numbers(e):
    lists = [t for t in tensors(e) if t.ndim]
    return [("", after(e, lambda r: as_tensor(r).tolist()))] if lists else []


def as_numpy(e):
    arrays = [t for t in tensors(e) if t.ndim]
    return [("", after(e, lambda r: as_tensor(r).detach().numpy()))] if arrays else []


def as_text(e):
    return [("", after(e, lambda r: f"{r}!"))]


def other_dtype(e):
    def change(r):
        if not isinstance(r, Tensor):
            return r
        return r.double() if r.dtype != torch.float64 else r.float()

    return [("", after(e, change))] if tensors(e) else []


def on_meta(e):
    if not numbers(e):
        return []
    return [("", after(e, lambda r: as_tensor(r).to("meta")))]


def sparse(e):
    if not numbers(e):
        return []
    return [("", after(e, lambda r: as_tensor(r).detach().to_sparse()))]


def complex_numbers(e):
    if not numbers(e):
        return []
    return [("", after(e, lambda r: as_tensor(r) + 0j))]


def one_more_dimension(e):
    if not numbers(e):
        return []
    return [
        (where, after(e, lambda r, d=d: as_tensor(r).unsqueeze(d)))
        for where, d in (("in front", 0), ("at the end", -1))
    ]


def transposed(e):
    """Where that changes anything."""
    with_planes = [
        t for t in tensors(e) if t.ndim >= 2 and not torch.equal(t, flipped(t))
    ]
    return [("", after(e, flipped))] if with_planes else []


def flipped(r):
    square = isinstance(r, Tensor) and r.ndim >= 2 and r.shape[-1] == r.shape[-2]
    return r.mT if square else r.flip(-1) if isinstance(r, Tensor) and r.ndim else r


def another_layout(e):
    """The same values behind other strides."""

    def change(r):
        return torch.stack([r, r], -1)[..., 0] if isinstance(r, Tensor) else r

    return [("", after(e, change))]


def detached(e):
    return [("", after(e, lambda r: r.detach()))] if tensors(e) else []


def with_a_nan(e):
    def change(r):
        r = torch.as_tensor(r, dtype=getattr(r, "dtype", torch.float64)).clone()
        r.view(-1)[0] = torch.nan
        return r

    floats = [t for t in tensors(e) if t.is_floating_point()]
    return [("", after(e, change))] if floats else []


def a_little_more(e):
    """Two per cent more of everything."""
    if not numbers(e) or any(not t.is_floating_point() for t in tensors(e)):
        return []
    return [("", after(e, lambda r: 1.02 * r))]


def rounded(e):
    def change(r):
        return torch.round(as_tensor(r).double()).to(as_tensor(r).dtype)

    whole = [torch.equal(change(p).double(), as_tensor(p).double()) for p in numeric(e)]
    return [] if all(whole) else [("", after(e, change))]


def numeric(e):
    """All results of all cases, as far as they are numbers."""
    found = [p for i in range(len(e.cases)) for p in parts(results(e, i))]
    return [p for p in found if not isinstance(p, str)]


def nothing(e):
    return [("", wrapped(e, lambda r: None))]


def yielded(e):
    def answer(*args):
        yield e.reference(*args)

    return [("", answer)]


def awaited(e):
    async def answer(*args):
        return e.reference(*args)

    return [("", answer), ("in a lambda", lambda *args: answer(*args))]


# What it does with its arguments


def given(e):
    """Names of the arguments that some case hands in."""
    return e.arguments[: max(len(case.make()) for case in e.cases)]


def first_row_for_all(e):
    """An argument's first row in place of every row."""
    found = []
    for i, name in enumerate(given(e)):

        def answer(*args, i=i):
            args = list(args)
            if i < len(args) and isinstance(args[i], Tensor) and args[i].ndim:
                args[i] = args[i][:1].expand_as(args[i])
            return e.reference(*args)

        several = [
            case.make()[i]
            for case in e.cases
            if i < len(case.make()) and isinstance(case.make()[i], Tensor)
        ]
        if any(a.ndim and len(a) > 1 for a in several):
            found.append((name, answer))
    return found


def argument_ignored(e):
    """An argument's value in the first case that has it, whatever is handed in."""
    found = []
    for i, name in enumerate(given(e)):
        first = next(case for case in e.cases if i < len(case.make()))

        def answer(*args, i=i, first=first):
            args = list(args)
            if i < len(args):
                args[i] = first.make()[i]
            return e.reference(*args)

        found.append((name, answer))
    return found


def default_ignored(e):
    """The last, optional argument left out."""
    fewest = min(len(case.make()) for case in e.cases)
    if fewest == len(given(e)):
        return []
    return [("", lambda *args: e.reference(*args[:fewest]))]


def into_its_arguments(e):
    """The result, written into an argument of the same shape. (Where a gradient is
    asked for, torch itself may object.)"""

    def answer(*args):
        found = e.reference(*args)
        for a in args:
            same = isinstance(a, Tensor) and isinstance(found, Tensor)
            if same and a.shape == found.shape and a.dtype == found.dtype:
                return a.copy_(found)
        return found

    traced = e.gradient or any(
        getattr(a, "requires_grad", 0) for a in e.cases[0].make()
    )
    return [("", answer)] if len(tensors(e)) == 1 and not traced else []


def into_shared_objects(e):
    """Whatever is no tensor by itself is written into, after all is computed."""

    def answer(*args):
        found = e.reference(*args)
        for name, a in zip(e.arguments, args, strict=False):
            if name not in e.changes:
                spoil(a)
        return found

    def spoil(a):
        if hasattr(a, "alpha_bar"):
            a.alpha_bar.mul_(0.5)
        elif isinstance(a, torch.nn.Module):
            for p in a.parameters():
                p.data.add_(1.0)
        elif isinstance(a, list) and a:
            a.pop()
        elif isinstance(a, dict) and a:
            a.clear()

    shared = [
        a
        for name, a in zip(e.arguments, e.cases[0].make(), strict=False)
        if (hasattr(a, "alpha_bar") or isinstance(a, torch.nn.Module | list | dict))
        and name not in e.changes
    ]
    return [("", answer)] if shared else []


# What it leaves behind


def reseeding(e):
    def by(seed):
        def answer(*args):
            seed(0)
            return e.reference(*args)

        return answer

    return [
        ("torch", by(torch.manual_seed)),
        ("numpy", by(np.random.seed)),
        ("python", by(random.seed)),
    ]


def settings_changed(e):
    def dtype(*args):
        found = e.reference(*args)
        torch.set_default_dtype(torch.float64)
        return found

    def grad(*args):
        found = e.reference(*args)
        torch.set_grad_enabled(False)
        return found

    return [("default dtype", dtype), ("gradients off", grad)]


def exits(e):
    def leave(*args):
        sys.exit(0)

    def close(*args):
        raise GeneratorExit

    return [("sys.exit", leave), ("GeneratorExit", close)]


def always_the_same(e):
    """The answer to the first case, whatever is asked."""
    return [("", lambda *args: results(e, 0))]


SPOILINGS = [
    in_a_tuple,
    in_a_list,
    in_a_dictionary,
    as_list_of_numbers,
    as_numpy,
    as_text,
    other_dtype,
    on_meta,
    sparse,
    complex_numbers,
    one_more_dimension,
    transposed,
    another_layout,
    detached,
    with_a_nan,
    a_little_more,
    rounded,
    nothing,
    yielded,
    awaited,
    first_row_for_all,
    argument_ignored,
    default_ignored,
    into_its_arguments,
    into_shared_objects,
    reseeding,
    settings_changed,
    exits,
    always_the_same,
]


# What would be harmless elsewhere: here a property of the exercise forbids it, for the
# gradient is followed, or the sampler's own array is written over between two steps.
FORBIDDEN = {
    ("diffusion_loss", detached),
    ("unet_forward", detached),
    ("unet_forward", into_its_arguments),
    ("dpm_solver_2m", into_its_arguments),
}


def harmless(exercise, spoiling, what):
    """Why the checker may accept it; "" if it must not."""
    always = {
        another_layout: "torch reads it as any other tensor",
        into_its_arguments: "check hands out copies of what is written over",
    }
    known = {
        ("compression", argument_ignored, "size"): "the size cancels",
        ("frechet", other_dtype, ""): "one number, of which no gradient is asked",
        ("diffusion_loss", other_dtype, ""): "one number; the gradient is looked at",
    }
    if (exercise.name, spoiling) in FORBIDDEN:
        return ""
    if spoiling is detached and not exercise.gradient:
        return "no gradient is asked for"
    return always.get(spoiling) or known.get((exercise.name, spoiling, what), "")
