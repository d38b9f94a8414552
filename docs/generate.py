"""Write the pages of docs/ that are generated from code; with --check, list the stale ones.

`make docs` runs this; `make lint` runs it with --check.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from render import api, architecture, cli, recipes, rooms

DOCS = Path(__file__).parent
PAGES = {
    "api.md": api.page,
    "architecture.md": architecture.page,
    "cli.md": cli.page,
    "recipes.md": recipes.page,
    "rooms.svg": rooms.picture,
}


def main(arguments: list[str] | None = None) -> int:
    """Write the pages, or return 1 if --check finds a stale one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page is stale")
    parser.add_argument("--into", type=Path, default=DOCS, metavar="DIR", help="where the pages are (default: here)")
    options = parser.parse_args(arguments)
    stale = []
    for name, page in PAGES.items():
        path: Path = options.into / name
        text = formatted(page(), name) if name.endswith(".md") else page()
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(path)
        if not options.check:
            path.write_text(text, encoding="utf-8")
            print(f"{path}: written")
    if not (options.check and stale):
        return 0
    for path in stale:
        print(f"{path}: is stale; run `make docs` and commit what it writes", file=sys.stderr)
    return 1


def formatted(text: str, name: str) -> str:
    """Format the page with `ruff format`, which also formats Python inside Markdown."""
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(DOCS / name), "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True, encoding="utf-8").stdout


if __name__ == "__main__":
    sys.exit(main())
