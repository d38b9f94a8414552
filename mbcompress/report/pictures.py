"""Matplotlib figures as inline SVG: they use the colors and fonts of the page and load nothing."""

from __future__ import annotations

import re
import warnings
from io import StringIO
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

if TYPE_CHECKING:
    from collections.abc import Callable

NAMESPACES = {"": "http://www.w3.org/2000/svg", "xlink": "http://www.w3.org/1999/xlink"}
FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"

# These placeholders become the page's colors in light and dark mode; the fallbacks are legible on both.
INK = "#010101"
"""Color of text."""
MUTED = "#020202"
"""Color of secondary text."""
FAINT = "#030303"
"""Color of axes and backgrounds."""
ACCENT = "#040404"
"""Color of the data that matters."""
WORSE = "#050505"
"""Color of a change for the worse."""
THEME = {
    INK: "currentColor",
    MUTED: "var(--muted, #767676)",
    FAINT: "var(--faint, #b5b5b5)",
    ACCENT: "var(--accent, #3b82c4)",
    WORSE: "var(--worse, #d9531e)",
}
SETTINGS = {
    "figure.dpi": 72,  # a point is a unit of the viewBox
    "font.size": 12,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "mbcompress",
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
}


def inline_svg(name: str, label: str, size: tuple[float, float], paint: Callable[[Any], None]) -> str:
    """Return a picture as an `<svg>` element.

    Args:
        name: unique in the page; prefix of ids.
        label: alternative text.
        size: width and height of the viewBox.
        paint: draws on a `matplotlib.figure.Figure`.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    written = StringIO()
    with mpl.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from font", UserWarning)  # the browser's fonts have it
        mpl.rcdefaults()  # ignore the user's matplotlibrc
        mpl.rcParams.update(SETTINGS)
        figure = Figure(figsize=(size[0] / 72, size[1] / 72))
        paint(figure)
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(written, format="svg", transparent=True, metadata=nothing)
    return _themed(_embeddable(written.getvalue(), name, label))


def _embeddable(document: str, name: str, label: str) -> str:
    """Remove the prologue, metadata and fixed size; make ids unique and add the alternative text."""
    for prefix, uri in NAMESPACES.items():
        ElementTree.register_namespace(prefix, uri)
    root = ElementTree.fromstring(document)
    for metadata in root.findall("metadata", NAMESPACES):
        root.remove(metadata)
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    used = set(
        re.findall(r"#([\w-]+)", " ".join(value for element in root.iter() for value in element.attrib.values()))
    )
    for element in root.iter():
        for key, value in element.attrib.items():
            element.set(key, re.sub(r"(^|url\()#(?=[\w-]+\)?$)", rf"\1#{name}-", value))
        identity = element.attrib.pop("id", None)
        if identity in used:
            element.set("id", f"{name}-{identity}")
    root.set("role", "img")
    root.set("aria-labelledby", f"{name}-title")
    title = ElementTree.Element(f"{{{NAMESPACES['']}}}title", {"id": f"{name}-title"})
    title.text = label
    root.insert(0, title)
    return ElementTree.tostring(root, encoding="unicode")


def _themed(svg: str) -> str:
    for drawn, themed in THEME.items():
        svg = svg.replace(drawn, themed)
    return re.sub(r"(font: [^;\"']*?[\d.]+px) [^;\"]*", rf"\1 {FONTS}", svg)
