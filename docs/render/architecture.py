"""docs/architecture.md: a text beside this file, then the rooms and plugins with their docstrings."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

from render.markdown import docstring, notice, table
from render.rooms import CORE, ROOMS, edges, layers

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = CORE.parent
TEXT = Path(__file__).with_suffix(".md")


def page() -> str:
    """The text with the lists of rooms and plugins."""
    text = TEXT.read_text(encoding="utf-8")
    parts = [notice("docs/render/architecture.md and docstrings"), text.strip(), "## Rooms", *_rooms()]
    parts += ["## Plugins", table(["module", "purpose"], _plugins())]
    return "\n\n".join(parts) + "\n"


def _rooms() -> Iterator[str]:
    """The rooms from the top layer down; then the modules that every room may import."""
    level, counted = layers(edges(lazy=False)), edges(lazy=True)
    for room in sorted(ROOMS, key=lambda room: (-level.get(room, -1), room)):
        folder = CORE / room
        yield f"### `{room}`" if folder.is_dir() else f"### `{room}.py`"
        yield docstring(_docstring(folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")))
        used = [f"{target} ({count})" for (source, target), count in sorted(counted.items()) if source == room]
        if used:
            yield f"Imports from: {', '.join(used)}."


def _plugins() -> Iterator[tuple[str, str]]:
    for path in sorted((ROOT / "plugins").iterdir()):
        source = path / "__init__.py" if path.is_dir() else path
        if source.suffix == ".py" and source.is_file():
            yield f"`{path.name}{'/' if path.is_dir() else ''}`", _docstring(source).partition("\n\n")[0]


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
