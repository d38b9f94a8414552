"""docs/api.md, from the source of the public modules: signatures as they are written, and docstrings.

The source is read, not imported: annotations stay as their authors wrote them, and strings below attributes, which
Python throws away, are documentation too.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from render.markdown import anchor, docstring, notice
from render.stubs import Definition, attributes, members, stub

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PACKAGE = "mbcompress"
INTRODUCTION = f"""\
# Python API

What programs and plugins may use. Whatever is not on this page, or begins with an underscore, may change at any time.
Names of the first section are imported as `from {PACKAGE} import …`; modules that need torch say so, and a plugin
imports those inside its verbs."""


def page() -> str:
    """The names of the package itself, then those of each public module."""
    named = dict(_exports(PACKAGE))
    sections = [notice("docstrings"), INTRODUCTION]
    for module in sorted(public_modules()):
        sections += [f"## `{module}`", docstring(_docstring(_tree(module)))]
        own = named if module == PACKAGE else dict(_exports(module))
        elsewhere = [] if module == PACKAGE else [name for name in own if own[name] == named.get(name)]
        if elsewhere:
            links = ", ".join(f"[`{name}`](#{anchor(f'{PACKAGE}.{name}')})" for name in elsewhere)
            sections.append(f"Described above: {links}.")
        for name, home in own.items():
            if name not in elsewhere:
                sections += _entry(f"{module}.{name}", _find(name, home))
    return "\n\n".join(section for section in sections if section) + "\n"


def public_modules() -> set[str]:
    """Those that the tests let plugins import."""
    tree = ast.parse((ROOT / "tests" / "test_boundaries.py").read_text(encoding="utf-8"))
    values = [n.value for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "PUBLIC"]
    modules: set[str] = ast.literal_eval(values[0])
    return modules


@cache
def _tree(module: str) -> ast.Module:
    path = ROOT.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"))


def _docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef) -> str:
    return ast.get_docstring(node) or ""


def _exports(module: str) -> Iterator[tuple[str, str]]:
    """Public names of a module, and the module that defines each: `__all__`, or what has documentation."""
    tree = _tree(module)
    listed = [n.value for n in ast.walk(tree) if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__"]
    if not listed:
        yield from ((name, module) for name, _ in members(tree))
        return
    imported = {
        alias.asname or alias.name: node.module
        for node in ast.walk(tree)  # lazy names are imported under TYPE_CHECKING
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    for name in ast.literal_eval(listed[0]):
        yield name, imported.get(name, module)


def _find(name: str, module: str) -> Definition:
    return dict(members(_tree(module), every=True))[name]


def _entry(title: str, definition: Definition) -> Iterator[str]:
    """Heading, signature, docstring, and what is inside a class."""
    yield f"### `{title}`"
    yield f"```python\n{stub(definition.node)}\n```"
    yield docstring(definition.text)
    if not isinstance(definition.node, ast.ClassDef):
        return
    described = [(name, text) for name, text in attributes(definition.node) if text]
    if described:
        yield "\n".join(f"- `{name}`: {text}" for name, text in described)
    for name, member in members(definition.node):
        if isinstance(member.node, ast.FunctionDef):
            yield f"#### `{title.rpartition('.')[2]}.{name}`"
            yield f"```python\n{stub(member.node)}\n```"
            yield docstring(member.text)
