"""`package.module:callable`: checked without running code when a recipe is validated, imported on first use.

The current directory is searched last, so a file there never shadows an installed package.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import inspect
import pkgutil
import re
import sys
import traceback
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbcompress import MbcompressError
from mbcompress.errors import brief, first_line, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

FORM = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
DYNAMIC = {"__getattr__", "exec", "globals", "setattr", "vars"}
"""A module that uses one of these names may define attributes dynamically."""


def check(target: str) -> str:
    """Return `target` if its module and attribute exist, as far as can be told without importing it.

    Raises:
        ValueError: it does not have this form, or there is no such module or attribute.
    """
    if not FORM.fullmatch(target):
        raise ValueError(f"must be 'package.module:callable', got {shown(target)}")
    name, _, path = target.partition(":")
    spec = _find(name)
    wanted = path.partition(".")[0]
    names = _attributes(spec)
    if names is not None and wanted not in names:
        raise ValueError(f"module {name!r} ({spec.origin}) has no {wanted!r}{_near(wanted, names)}")
    return target


def call(target: str, args: Mapping[str, Any]) -> Any:
    """Import the callable and return its result.

    Raises:
        MbcompressError: it cannot be imported, is not callable, does not take `args`, or raised.
    """
    function = _load(target)
    try:
        inspect.signature(function).bind(**args)
    except TypeError as error:
        raise MbcompressError(f"{target}: cannot be called with these args: {error}") from None
    except ValueError:
        pass  # some built-in callables have no signature
    try:
        return function(**args)
    except Exception as error:
        raise MbcompressError(f"{target}: {_raised(error)}") from error


def _load(target: str) -> Callable[..., Any]:
    name, _, path = target.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # not removed: the callable may import more modules
    try:
        target_object: Any = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise MbcompressError(f"{target}: importing {name} {_raised(error)}") from error
    for part in path.split("."):
        try:
            target_object = getattr(target_object, part)
        except AttributeError:
            near = _near(part, [attribute for attribute in dir(target_object) if not attribute.startswith("_")])
            raise MbcompressError(f"{target}: there is no {part!r}{near}") from None
    if not callable(target_object):
        raise MbcompressError(f"{target}: must be callable, got {shown(target_object)}")
    return target_object  # type: ignore[no-any-return]


def _raised(error: BaseException) -> str:
    """Text such as 'raised KeyError: 'x' (net.py:12)'."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"raised {type(error).__name__}: {brief(first_line(error))}{place}"


def _find(name: str) -> ModuleSpec:
    """Find the module's spec; unlike importlib.util.find_spec, does not import its parent packages."""
    path: list[str] | None = [*sys.path, str(Path.cwd())]
    so_far = ""
    spec: Any = None
    for part in name.split("."):
        before, so_far = so_far, f"{so_far}.{part}" if so_far else part
        spec = _loaded(so_far) or PathFinder.find_spec(so_far, path) or _special(so_far)
        if spec is None:
            where = f"in package {before!r}" if before else f"in sys.path or in {Path.cwd()}"
            choices = [module.name for module in pkgutil.iter_modules(path)] if path else []
            raise ValueError(f"there is no module {so_far!r} {where}{_near(part, choices)}")
        path = list(spec.submodule_search_locations) if spec.submodule_search_locations else []
    found: ModuleSpec = spec
    return found


def _loaded(name: str) -> ModuleSpec | None:
    return getattr(sys.modules.get(name), "__spec__", None)


def _special(name: str) -> ModuleSpec | None:
    """The spec of a module that is not on sys.path: built in, or found by the finder of an editable install."""
    if "." in name:
        return None  # find_spec would import the package
    for finder in sys.meta_path:
        if finder is not PathFinder and (spec := finder.find_spec(name, None)) is not None:
            return spec
    return None


def _attributes(spec: ModuleSpec) -> set[str] | None:
    """Names that a module binds at its top level; None if it may define more."""
    if spec.origin is None or not spec.origin.endswith(".py"):
        return None
    try:
        tree = ast.parse(Path(spec.origin).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None  # importing it will raise
    if any(isinstance(node, ast.Name) and node.id in DYNAMIC for node in ast.walk(tree)):
        return None
    names = set(_bound(tree.body))
    if spec.submodule_search_locations:
        names |= {module.name for module in pkgutil.iter_modules(spec.submodule_search_locations)}
    return None if names & {"*", "__getattr__"} else names


def _bound(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
            case ast.Import() | ast.ImportFrom():
                yield from ((alias.asname or alias.name).partition(".")[0] for alias in node.names)
            case _:
                yield from (
                    name.id for name in ast.walk(node) if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
                )
                yield from _bound([child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)])
                yield from _bound([s for h in getattr(node, "handlers", []) for s in h.body])


def _near(name: str, choices: Any) -> str:
    near = difflib.get_close_matches(name, list(choices), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
