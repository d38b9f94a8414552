"""The limits of a recipe's budget in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mbcompress.report.wording import TIMES, Change, title_of


@dataclass(frozen=True)
class Gate:
    """A limit; its `outcome` is 'met' or 'MISSED'."""

    label: str
    limit: str
    measured: str
    outcome: Change


@dataclass(frozen=True)
class Kind:
    """How values of a limit are written."""

    label: str
    direction: str
    unit: str
    decimals: int = 2
    scale: float = 1.0


KINDS = {
    "accuracy_drop": Kind("accuracy drop", "at most", " points", decimals=1),
    "size_ratio": Kind("size ratio", "at least", TIMES),
    "latency_ratio": Kind("latency ratio", "at least", TIMES),
    "int8_share": Kind("int8 convolutions", "at least", " %", decimals=1, scale=100),
}


def gates(report: dict[str, Any]) -> list[Gate]:
    """The limits that the recipe sets, in the order of the report; of several runtimes, each is named."""
    several = bool(report.get("other_runtimes"))
    return [_gate(gate, f", {gate['runtime']}" if several and "runtime" in gate else "") for gate in report["budget"]]


def budget_verdict(report: dict[str, Any]) -> Change:
    """'All 3 limits of the budget met', '1 of 3 limits of the budget MISSED: accuracy drop'."""
    worded = gates(report)
    missed = [gate.label for gate in worded if gate.outcome.worse]
    if not worded:
        return Change("The recipe sets no budget")
    if missed:
        of = f"{len(missed)} of {len(worded)} limit{'' if len(worded) == 1 else 's'}"
        return Change(f"{of} of the budget MISSED: {', '.join(missed)}", worse=True)
    return Change(f"All {len(worded)} limits of the budget met" if len(worded) > 1 else "The budget's one limit is met")


def _gate(gate: dict[str, Any], where: str) -> Gate:
    name, met = gate["name"], gate["met"]
    kind = KINDS.get(name, Kind(title_of(name), "limit", ""))
    allowed, reached = kind.scale * float(gate["limit"]), kind.scale * gate["measured"]
    gained = " gained" if name == "accuracy_drop" and reached < 0 else ""
    shown = on_its_side(reached, allowed, kind.decimals, met).removeprefix("-" if gained else "")
    outcome = Change("met") if met else Change("MISSED", worse=True)
    limit = f"{kind.direction} {round(allowed, 9)}{kind.unit}"
    return Gate(f"{kind.label}{where}", limit, f"{shown}{kind.unit}{gained}", outcome)


def on_its_side(value: float, limit: float, decimals: int, met: bool) -> str:
    """With as many decimals as show on which side of the limit it is: 1.998 where at least 2 was asked for."""
    written = [f"{value:.{decimals + more}f}" for more in range(7)]
    for text in written:
        shown = float(text)
        if (shown - limit) * (value - limit) >= 0 and (met or shown != limit):
            return text
    return written[0]
