"""The summary that the command line prints after a run, in 80 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from mbcompress.report.budget import Gate, budget_verdict, gates
from mbcompress.report.comparison import Cell, Headline, Row, headline, rows
from mbcompress.report.runtimes import RuntimeRow, runtime_rows

if TYPE_CHECKING:
    from mbcompress.report.wording import Change


def summary_table(report: dict[str, Any]) -> Group:
    """The headline, baseline against result, and the limits of the budget."""
    parts: list[Text | Table] = [_headline(headline(report)), _comparison(rows(report))]
    parts += [_headline(headline(other)) for other in report["other_runtimes"]]
    if runtimes := runtime_rows(report):
        parts.append(_runtimes(runtimes))
    limits = gates(report)
    if limits:
        parts += [_changed(budget_verdict(report)), _budget(limits)]
    return Group(*parts)


def _runtimes(rows: list[RuntimeRow]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("runtime")
    for title in ("size", "agreement", "latency"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("change")
    for row in rows:
        figures = (row.size, row.agreement.value, row.latency.value)
        table.add_row(Text(row.runtime), *map(Text, figures), _changed(row.change))
    return table


def _headline(line: Headline) -> Text:
    changes = Text(", ").join(_changed(change) for change in line.changes)
    return Text.assemble(changes, f" {line.setting}")


def _changed(change: Change) -> Text:
    return Text(change.text, style="bold red" if change.worse else "bold")


def _comparison(rows: list[Row]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("", no_wrap=True)
    table.add_column("baseline", justify="right", no_wrap=True)
    table.add_column("result", justify="right", no_wrap=True)
    table.add_column("change", justify="left")
    for row in rows:
        change = Text.assemble(_changed(row.change), *((f"\n{row.note}", "dim") for _ in [0] if row.note))
        table.add_row(row.label, _cell(row.baseline), _cell(row.result), change)
    return table


def _cell(cell: Cell) -> Text:
    return Text("\n").join([Text(cell.value), *(Text(detail, style="dim") for detail in cell.details)])


def _budget(limits: list[Gate]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("budget")
    for title in ("limit", "measured"):
        table.add_column(title, justify="right")
    table.add_column("")
    for gate in limits:
        table.add_row(Text(gate.label), Text(gate.limit), Text(gate.measured), _changed(gate.outcome))
    return table
