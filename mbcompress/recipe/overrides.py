"""Override recipe values from the command line: `-o passes.prune.target_macs=0.4`."""

import re
from collections.abc import Iterable
from typing import Any

from mbcompress.errors import Location, MbcompressError, PathPart, RecipeError, brief, dotted, shown, unknown
from mbcompress.recipe.document import Document, read_value

PART = re.compile(r"[^.\[\]]+")
LONGEST_POSITION = 9  # digits; Python refuses to convert thousands of them


def override(document: Document, assignments: Iterable[str]) -> Document:
    """Apply `key=value` assignments to the document in order, and return it.

    Keys are dotted. A pass is addressed by name or 0-based index: `passes.prune.ratio`, `passes.0.ratio`.
    Values are YAML: `null`, `0.4`, `[onnx]`, `{source: mobilenet_v1}`.

    Raises:
        MbcompressError: an assignment is malformed, or its key does not exist.
    """
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        where = Location(f"-o {brief(assignment)}")
        parts = PART.findall(key.strip())
        if not equals or not parts:
            raise MbcompressError(f"{where}: must be key=value, for example passes.prune.target_macs=0.4")
        try:
            value = read_value(text, where)
        except RecipeError as error:
            raise MbcompressError(f"{where}: the value cannot be used: {error.problem}") from None
        _assign(document, parts, value, where)
    return document


def _assign(document: Document, parts: list[str], value: Any, where: Location) -> None:
    *parents, last = parts
    target, path = _descend(document, parents, where)
    if isinstance(target, list):
        index = _position(target, last, path, where)
        target[index] = value if last.isdecimal() else {last: value}
        path = (*path, index)
    elif isinstance(target, dict):
        if last == _entered(path):
            path = path[:-1]  # passes[0].prune={…} replaces the options
            target = _follow(document.data, path)
        target[last] = value
        path = (*path, last)
    else:
        raise MbcompressError(f"{where}: {dotted(path)} is {shown(target)}, which has no options inside")
    document.relocate(path, where)


def _descend(document: Document, parts: list[str], where: Location) -> tuple[Any, tuple[PathPart, ...]]:
    """Return the value at the dotted key and its path; missing mappings are created."""
    target: Any = document.data
    path: tuple[PathPart, ...] = ()
    for part in parts:
        if isinstance(target, list):
            index = _position(target, part, path, where)
            name, options = _entry(target[index], (*path, index), where)
            target[index] = {name: options}
            target, path = options, (*path, index, name)
        elif isinstance(target, dict):
            if part == _entered(path):
                continue  # passes[0].prune.ratio, as in error messages
            path = (*path, part)
            if target.get(part) is None:
                target[part] = {}
                document.keys[path] = document.values[path] = where
            target = target[part]
        else:
            break
    return target, path


def _follow(data: Any, path: tuple[PathPart, ...]) -> Any:
    for part in path:
        data = data[part]
    return data


def _entered(path: tuple[PathPart, ...]) -> PathPart | None:
    """Return the name of the list entry if `path` ends at its options."""
    return path[-1] if len(path) > 1 and isinstance(path[-2], int) else None


def _entry(entry: Any, path: tuple[PathPart, ...], where: Location) -> tuple[str, Any]:
    """Return name and options of an entry like `qat` or `qat: {…}`."""
    name = _name(entry)
    if name is None:
        raise MbcompressError(f"{where}: {dotted(path)} is {shown(entry)}, which has no options inside")
    options = entry[name] if isinstance(entry, dict) else None
    return name, {} if options is None else options


def _name(entry: Any) -> str | None:
    if isinstance(entry, str):
        return entry
    return next(iter(entry)) if isinstance(entry, dict) and len(entry) == 1 else None


def _position(entries: list[Any], part: str, path: tuple[PathPart, ...], where: Location) -> int:
    if part.isdecimal():
        if len(part) <= LONGEST_POSITION and int(part) < len(entries):
            return int(part)
        raise MbcompressError(f"{where}: {dotted(path)} has {len(entries)} entries, so there is no {brief(part)}")
    names = [_name(entry) for entry in entries]
    indices = [index for index, name in enumerate(names) if name == part]
    if not indices:
        raise MbcompressError(f"{where}: {unknown('entry of ' + dotted(path), part, (n for n in names if n))}")
    if len(indices) > 1:
        choices = " or ".join(f"{dotted(path)}.{index}" for index in indices)
        raise MbcompressError(f"{where}: {part!r} appears more than once; choose one by its position: {choices}")
    return indices[0]
