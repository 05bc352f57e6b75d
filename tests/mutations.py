"""Mutants of a Python file: the same program but for one small fault.

A comparison is turned, a bound moved, plus is minus, a number or a truth value another,
a call or a decorator gone, a keyword forgotten, a condition upside down. Texts of
errors, annotations, docstrings and imports are no behaviour and stay as they are.
"""

import ast
import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

COMPARISONS = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
DECORATORS = ("torch.no_grad()", "sampler", "property", "cached_property")
# The texts among the arguments of these name a value in the line of an error.
CHECKS = ("whole", "number", "positive", "floating", "alike", "check_statistic")
CHECKS += ("check_beta",)


@dataclass(frozen=True)
class Mutant:
    """One fault: where it is, in words and as a path of fields, and what stands there
    in place of what was."""

    label: str
    path: tuple[tuple[str, int | None], ...]
    new: ast.AST | None


def mutants(source: str) -> list[Mutant]:
    """All mutants of a file, each with a label of its own that names no line."""
    tree = ast.parse(source)
    modules = imported(tree)
    counts: Counter[str] = Counter()
    found = []
    for node, path, scope in nodes(tree, (), ""):
        for words, new in faults(node, modules):
            label = f"{scope or 'module'}: {words}"
            counts[label] += 1
            label += f" #{counts[label]}" if counts[label] > 1 else ""
            found.append(Mutant(label, path, new))
    return found


def mutated(source: str, mutant: Mutant) -> ast.Module:
    """The tree of a file with that fault."""
    tree = ast.parse(source)
    place: ast.AST = tree
    for name, index in mutant.path[:-1]:
        place = getattr(place, name) if index is None else getattr(place, name)[index]
    name, index = mutant.path[-1]
    old = getattr(place, name) if index is None else getattr(place, name)[index]
    new = ast.copy_location(copy.deepcopy(mutant.new), old)
    if index is None:
        setattr(place, name, new)
    else:
        getattr(place, name)[index] = new
    return ast.fix_missing_locations(tree)


def imported(tree: ast.Module) -> set[str]:
    """Names that stand for modules: `x` of `x.f(...)` is then no value."""
    found = {"cls", "self", "super"}
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= {
                (alias.asname or alias.name).split(".")[0] for alias in node.names
            }
    return found


def nodes(node, path, scope) -> Iterator[tuple[ast.AST, tuple, str]]:
    """Every node that may be at fault, with its path and the function it is in."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        if any(ast.unparse(b) == "Protocol" for b in getattr(node, "bases", ())):
            return
        scope = f"{scope}.{node.name}" if scope else node.name
    if path:
        yield node, path, scope
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "bases", "type_params"):
            continue
        for index, child in (
            enumerate(value) if isinstance(value, list) else [(None, value)]
        ):
            if isinstance(child, ast.AST) and not silent(node, child):
                yield from nodes(child, (*path, (name, index)), scope)


def silent(parent: ast.AST, child: ast.AST) -> bool:
    """Whether nothing below `child` is behaviour that a test could see."""
    if isinstance(child, ast.Raise | ast.Import | ast.ImportFrom | ast.JoinedStr):
        return True
    if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
        return True  # a docstring, or the dots of a protocol
    if isinstance(child, ast.Call) and called(child).endswith("Error"):
        return True
    if isinstance(parent, ast.Call) and called(parent) in CHECKS:
        return isinstance(child, ast.Constant) and isinstance(child.value, str)
    if isinstance(parent, ast.Assign):
        names = [ast.unparse(target) for target in parent.targets]
        return names == ["__all__"] or isinstance(child, ast.Subscript)
    return isinstance(parent, ast.AnnAssign) and child is parent.annotation


def called(call: ast.Call) -> str:
    return ast.unparse(call.func)


def faults(node: ast.AST, modules: set[str]) -> Iterator[tuple[str, ast.AST]]:
    """What could be wrong at this node: (words, the node that takes its place)."""
    if isinstance(node, ast.Compare):
        for i, operator in enumerate(node.ops):
            for other in COMPARISONS[type(operator)]:
                new = copy.deepcopy(node)
                new.ops[i] = other()
                yield turned(node, new)
    elif isinstance(node, ast.BinOp | ast.AugAssign):
        if type(node.op) in ARITHMETIC and not has_text(node):
            new = copy.deepcopy(node)
            new.op = ARITHMETIC[type(node.op)]()
            yield turned(node, new)
    elif isinstance(node, ast.BoolOp):
        new = copy.deepcopy(node)
        new.op = ast.And() if isinstance(node.op, ast.Or) else ast.Or()
        yield turned(node, new)
    elif isinstance(node, ast.UnaryOp):
        yield turned(node, node.operand)
    elif isinstance(node, ast.Constant):
        yield from constants(node)
    elif isinstance(node, ast.If | ast.IfExp | ast.While):
        if isinstance(node.test, ast.Name | ast.Attribute | ast.Call):
            new = copy.deepcopy(node)
            new.test = ast.UnaryOp(ast.Not(), new.test)
            yield f"if {ast.unparse(node.test)} -> if not ...", new
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield f"{ast.unparse(node.value)} is not called", ast.Pass()
    elif isinstance(node, ast.Call):
        yield from calls(node, modules)
    elif isinstance(node, ast.FunctionDef):
        for i, decorator in enumerate(node.decorator_list):
            if ast.unparse(decorator) in DECORATORS:
                new = copy.deepcopy(node)
                del new.decorator_list[i]
                yield f"without @{ast.unparse(decorator)}", new


def turned(old: ast.AST, new: ast.AST) -> tuple[str, ast.AST]:
    return f"{ast.unparse(old)} -> {ast.unparse(new)}", new


def has_text(node: ast.AST) -> bool:
    """Whether a sum is one of texts."""
    kinds = [child for child in ast.walk(node) if isinstance(child, ast.Constant)]
    return any(isinstance(child.value, str) for child in kinds)


def constants(node: ast.Constant) -> Iterator[tuple[str, ast.AST]]:
    value = node.value
    if isinstance(value, bool):
        yield turned(node, ast.Constant(not value))
    elif isinstance(value, int):
        yield turned(node, ast.Constant(value + 1))
    elif isinstance(value, float):
        yield turned(node, ast.Constant(value * 2 if value else 0.5))
    elif isinstance(value, str) and value:
        yield turned(node, ast.Constant(value + "!"))


def calls(node: ast.Call, modules: set[str]) -> Iterator[tuple[str, ast.AST]]:
    """A keyword is forgotten, or the call is, and what it would change stays."""
    for i, keyword in enumerate(node.keywords):
        if keyword.arg is not None:
            new = copy.deepcopy(node)
            del new.keywords[i]
            yield f"{called(node)}(...) without {keyword.arg}=", new
    if not isinstance(node.func, ast.Attribute):
        return
    value = root = node.func.value
    while isinstance(root, ast.Attribute):
        root = root.value
    known = isinstance(root, ast.Name) and root.id in modules
    if not known or (root.id == "self" and value is not root):
        yield f"{called(node)}(...) -> {ast.unparse(value)}", value
    elif root.id in ("torch", "math", "F") and node.args:
        first = node.args[0]
        yield f"{called(node)}(...) -> {ast.unparse(first)}", first
