"""report.md and report.html from report.json's content; neither template computes anything."""

from __future__ import annotations

import re
from base64 import b64encode
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mbcompress.report.view import PICTURE, TABLE, table_of, view_of

if TYPE_CHECKING:
    from collections.abc import Mapping


def render_markdown(report: dict[str, Any]) -> str:
    """GitHub-flavoured Markdown, for a pull request or a terminal."""
    template = _environment(finalize=_markdown).get_template("report.md.j2")
    return template.render(view=view_of(report))


def render_html(report: dict[str, Any], written: Mapping[str, bytes] = MappingProxyType({})) -> str:
    """One page with its pictures and style inside: no scripts, and nothing to fetch.

    Args:
        written: SVG and CSV documents of passes, by path; pictures are shown as images, in which no script runs.
    """
    from mbcompress.report.figures import accuracy_against_latency, passes_waterfall

    figures = {"accuracy_figure": accuracy_against_latency(report), "passes_figure": passes_waterfall(report)}
    safe = {name: svg and Markup(svg) for name, svg in figures.items()}  # ElementTree has escaped what is inside
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
    return Environment(
        loader=PackageLoader("mbcompress.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **options,
    )


def _markdown(value: object) -> Markup:
    """Text that Markdown and HTML inside it leave as it is, on one line; an underscore within a word is plain."""
    if isinstance(value, Markup):
        return value
    line = re.sub(r"&(?=#?\w+;)", "&amp;", " ".join(str(value).split()))
    line = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", line)  # 'p < 0.001' begins no tag
    return Markup(re.sub(r"([\\`*\[\]|~$]|(?<!\w)_|_(?!\w))", r"\\\1", line))
