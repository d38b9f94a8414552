"""Writes report.json, report.md and report.html into a run directory."""

from pathlib import Path
from typing import Any

from mbcompress.files import write_atomically, write_json
from mbcompress.report.render import render_html, render_markdown
from mbcompress.report.view import PICTURE, TABLE


def write_report(directory: Path, report: dict[str, Any]) -> None:
    """All three renderings of `report`."""
    written = {
        document["path"]: (directory / document["path"]).read_bytes()
        for document in report["documents"]
        if document["path"].endswith((PICTURE, TABLE))
    }
    write_json(directory / "report.json", report)
    write_atomically(directory / "report.md", render_markdown(report))
    write_atomically(directory / "report.html", render_html(report, written))
