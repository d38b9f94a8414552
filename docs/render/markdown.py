"""Pieces of Markdown."""

import inspect
import re
from collections.abc import Iterable, Sequence

SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields):")
ITEM = re.compile(r"    (\S[^:]*): (.*)")


def notice(source: str) -> str:
    """The comment at the head of a generated page."""
    return f"<!-- Generated from {source} by `make docs`; do not edit. -->"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; bars and line breaks in cells are escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(text) for text in line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def docstring(text: str) -> str:
    """A docstring as Markdown: its sections (`Args:`, `Raises:`, …) become lists."""
    lines: list[str] = []
    inside = False
    for line in inspect.cleandoc(text).splitlines():
        if section := SECTION.fullmatch(line):
            lines += [f"*{section[1]}*", ""]
            inside = True
        elif inside and (item := ITEM.fullmatch(line)):
            lines.append(f"- `{item[1]}`: {item[2]}")
        elif inside and line.startswith("    "):
            lines[-1] += f" {line.strip()}"
        else:
            inside = inside and not line
            lines.append(line)
    return "\n".join(lines)


def anchor(heading: str) -> str:
    """The fragment that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
