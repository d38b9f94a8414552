"""Definitions in a module's or a class's source, and what is shown of them: a signature without its body."""

from __future__ import annotations

import ast
import copy
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SHOWN_DECORATORS = {
    "abstractmethod",
    "classmethod",
    "contextmanager",
    "dataclass",
    "hookspec",
    "property",
    "staticmethod",
}
Node = ast.ClassDef | ast.FunctionDef | ast.Assign | ast.AnnAssign


@dataclass(frozen=True)
class Definition:
    """A class, function or assignment, and its documentation."""

    node: Node
    text: str


def members(scope: ast.Module | ast.ClassDef, *, every: bool = False) -> Iterator[tuple[str, Definition]]:
    """Public classes and functions, and the assignments that are documented (with `every`, all assignments)."""
    for node, after in pairwise([*scope.body, ast.Pass()]):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            name, text = node.name, ast.get_docstring(node) or ""
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            name, text = _target(node), _string(after)
            if not (text or every):
                continue
        else:
            continue
        if not name.startswith("_"):
            yield name, Definition(node, text)


def attributes(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """Public attributes of a class body with their documentation: a string below, or a field's description."""
    for each, after in pairwise([*node.body, ast.Pass()]):
        if isinstance(each, ast.Assign | ast.AnnAssign) and _is_public(each):
            yield _target(each), _string(after) or _description(each.value)


def stub(node: Node) -> str:
    """Source of the definition as a reader needs it: decorators that matter, signature, attributes, no bodies."""
    shown = copy.deepcopy(node)
    if isinstance(shown, ast.FunctionDef | ast.ClassDef):
        kept = [each for each in shown.decorator_list if ast.unparse(each).split("(")[0] in SHOWN_DECORATORS]
        shown.decorator_list = kept
        shown.body = list(_inside(shown)) or [ast.Expr(ast.Constant(...))]
    return ast.unparse(ast.fix_missing_locations(shown))


def _inside(node: ast.ClassDef | ast.FunctionDef) -> Iterator[ast.stmt]:
    """Attributes of a class, and how it is constructed."""
    for each in node.body if isinstance(node, ast.ClassDef) else ():
        if isinstance(each, ast.Assign | ast.AnnAssign) and _is_public(each):
            yield _without_description(each)
        elif isinstance(each, ast.FunctionDef) and each.name == "__init__":
            each.body = [ast.Expr(ast.Constant(...))]
            yield each


def _is_public(node: ast.Assign | ast.AnnAssign) -> bool:
    return not _target(node).startswith(("_", "model_config"))


def _target(node: ast.Assign | ast.AnnAssign) -> str:
    return ast.unparse(node.target if isinstance(node, ast.AnnAssign) else node.targets[0])


def _string(node: ast.stmt) -> str:
    match node:
        case ast.Expr(ast.Constant(str(text))):
            return " ".join(text.split())
    return ""


def _description(value: ast.expr | None) -> str:
    match value:
        case ast.Call(keywords=keywords):
            found = [each.value for each in keywords if each.arg == "description"]
            return str(ast.literal_eval(found[0])) if found and isinstance(found[0], ast.Constant) else ""
    return ""


def _without_description(node: ast.Assign | ast.AnnAssign) -> ast.stmt:
    if isinstance(node.value, ast.Call):
        node.value.keywords = [each for each in node.value.keywords if each.arg != "description"]
    return node
