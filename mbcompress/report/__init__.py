"""Build a run's report: one dict of figures, rendered as JSON, Markdown, HTML and a table for the terminal.

In: the plan, the records of the passes and the measured comparisons. Out: report.json, report.md, report.html. Plugins
draw pictures with `inline_svg` and its colors. May import: contract, files. Never imports torch; Jinja and matplotlib
are imported when they are used.
"""

from mbcompress.report.pictures import ACCENT, FAINT, MUTED, WORSE, inline_svg

__all__ = ["ACCENT", "FAINT", "MUTED", "WORSE", "inline_svg"]
