"""Fenced code blocks of the documentation."""

import re
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
GUIDE = "plugins.md"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\S+\.(?:py|toml|yaml))\n")


@dataclass(frozen=True)
class Block:
    """A fenced block; `file` is the file name in its first line, if any."""

    language: str
    code: str
    line: int

    @property
    def file(self) -> str | None:
        first = FILE.match(self.code)
        return first[1] if first else None


def blocks(page: str, language: str) -> list[Block]:
    """Fenced blocks of one language, in order."""
    text = (DOCS / page).read_text(encoding="utf-8")
    fenced = [Block(m[1], m[2], text.count("\n", 0, m.start()) + 2) for m in FENCE.finditer(text)]
    return [block for block in fenced if block.language == language]


def modules() -> list[Block]:
    """The modules of the plugin author's guide."""
    return [block for block in blocks(GUIDE, "python") if (block.file or "").startswith("mb_")]
