"""Build a run's report: one dict of figures, rendered as JSON, Markdown, HTML and a table for the terminal.

In: the plan, the records of the passes and the measured comparisons. Out: report.json, report.md, report.html. Plugins
draw pictures with `inline_svg` and its colors. May import: contract, files. Never imports torch; Jinja and matplotlib
are imported when they are used.
"""

from mbcompress.report.build import SCHEMA, build_report
from mbcompress.report.pictures import ACCENT, FAINT, INK, MUTED, WORSE, inline_svg
from mbcompress.report.render import write_report

__all__ = ["ACCENT", "FAINT", "INK", "MUTED", "SCHEMA", "WORSE", "build_report", "inline_svg", "write_report"]
