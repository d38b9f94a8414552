"""A run's report: one dict of figures, and its renderings as JSON, Markdown and HTML."""

from mbcompress.report.build import SCHEMA, build_report
from mbcompress.report.write import write_report

__all__ = ["SCHEMA", "build_report", "write_report"]
