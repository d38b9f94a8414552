"""docs/architecture.md: a text beside this file, and every module with the first sentence of its docstring."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

from render.markdown import notice, table

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
TEXT = Path(__file__).with_suffix(".md")


def page() -> str:
    """The text with the list of modules."""
    text = TEXT.read_text(encoding="utf-8")
    parts = [notice("docs/render/architecture.md and the docstrings of modules"), text.strip()]
    for folder in ("mbcompress", "plugins"):
        parts += [f"### `{folder}/`", table(["module", "what it does"], _modules(ROOT / folder))]
    return "\n\n".join(parts) + "\n"


def _modules(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.iterdir()):
        source = path / "__init__.py" if path.is_dir() else path
        if source.suffix == ".py" and source.is_file():
            summary = (ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or "").partition("\n\n")[0]
            yield f"`{path.name}{'/' if path.is_dir() else ''}`", summary
