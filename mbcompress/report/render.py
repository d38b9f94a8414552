"""report.json, report.md and report.html; the templates compute nothing."""

from __future__ import annotations

import re
from base64 import b64encode
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mbcompress.files import write_atomically, write_json
from mbcompress.report.view import PICTURE, TABLE, table_of, view_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from jinja2 import Environment
    from markupsafe import Markup


def write_report(directory: Path, report: dict[str, Any]) -> None:
    """Write the report in all three formats into a run directory."""
    written = {
        document["path"]: (directory / document["path"]).read_bytes()
        for document in report["documents"]
        if document["path"].endswith((PICTURE, TABLE))
    }
    write_json(directory / "report.json", report)
    write_atomically(directory / "report.md", render_markdown(report))
    write_atomically(directory / "report.html", render_html(report, written))


def render_markdown(report: dict[str, Any]) -> str:
    """GitHub-flavored Markdown, for a pull request or a terminal."""
    template = _environment(finalize=_markdown).get_template("report.md.j2")
    return template.render(view=view_of(report))


def render_html(report: dict[str, Any], written: Mapping[str, bytes] = MappingProxyType({})) -> str:
    """One self-contained page, without scripts.

    Args:
        written: SVG and CSV documents of passes, by path; pictures are shown as images, so no script inside runs.
    """
    from markupsafe import Markup

    from mbcompress.report.charts import accuracy_against_latency, passes_waterfall

    charts = {"accuracy_chart": accuracy_against_latency(report), "passes_chart": passes_waterfall(report)}
    safe = {name: svg and Markup(svg) for name, svg in charts.items()}  # ElementTree has escaped the content
    documents = {
        "pictures": {
            path: f"data:image/svg+xml;base64,{b64encode(svg).decode()}"
            for path, svg in written.items()
            if path.endswith(PICTURE)
        },
        "tables": {
            path: table
            for path, content in written.items()
            if path.endswith(TABLE) and (table := table_of(content)) is not None
        },
    }
    return _environment().get_template("report.html.j2").render(view=view_of(report), **documents, **safe)


def _environment(**options: Any) -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("mbcompress.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **options,
    )


def _markdown(value: object) -> Markup:
    """Escape text for Markdown and for HTML inside it, on one line; an underscore inside a word needs no escape."""
    from markupsafe import Markup

    if isinstance(value, Markup):
        return value
    line = re.sub(r"&(?=#?\w+;)", "&amp;", " ".join(str(value).split()))
    line = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", line)  # 'p < 0.001' opens no tag
    return Markup(re.sub(r"([\\`*\[\]|~$]|(?<!\w)_|_(?!\w))", r"\\\1", line))
