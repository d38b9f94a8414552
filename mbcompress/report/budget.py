"""The limits of a recipe's budget, as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mbcompress.report.wording import TIMES, Change, title_of


@dataclass(frozen=True)
class Gate:
    """One limit; its `outcome` is 'met' or 'MISSED'."""

    label: str
    limit: str
    measured: str
    outcome: Change


@dataclass(frozen=True)
class Kind:
    """How to write the values of a limit."""

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
    """The limits that the recipe sets, in the order of the report; with several runtimes, labels name the runtime."""
    several = bool(report.get("other_runtimes"))
    return [_gate(gate, f", {gate['runtime']}" if several and "runtime" in gate else "") for gate in report["budget"]]


def budget_verdict(report: dict[str, Any]) -> Change:
    """'All 3 budget limits met', '1 of 3 budget limits MISSED: accuracy drop'."""
    limits = gates(report)
    missed = [gate.label for gate in limits if gate.outcome.worse]
    if not limits:
        return Change("The recipe sets no budget")
    if missed:
        return Change(f"{len(missed)} of {_limits(len(limits))} MISSED: {', '.join(missed)}", worse=True)
    return Change(f"All {_limits(len(limits))} met" if len(limits) > 1 else "Budget limit met")


def _limits(count: int) -> str:
    return f"{count} budget limit{'' if count == 1 else 's'}"


def _gate(gate: dict[str, Any], where: str) -> Gate:
    name, met = gate["name"], gate["met"]
    kind = KINDS.get(name, Kind(title_of(name), "limit", ""))
    allowed, reached = kind.scale * float(gate["limit"]), kind.scale * gate["measured"]
    gained = " gained" if name == "accuracy_drop" and reached < 0 else ""
    shown = against_limit(reached, allowed, kind.decimals, met).removeprefix("-" if gained else "")
    outcome = Change("met") if met else Change("MISSED", worse=True)
    limit = f"{kind.direction} {round(allowed, 9)}{kind.unit}"
    return Gate(f"{kind.label}{where}", limit, f"{shown}{kind.unit}{gained}", outcome)


def against_limit(value: float, limit: float, decimals: int, met: bool) -> str:
    """Write `value` with enough decimals to show on which side of `limit` it is: 1.998 for a limit of 2."""
    written = [f"{value:.{decimals + more}f}" for more in range(7)]
    for text in written:
        shown = float(text)
        if (shown - limit) * (value - limit) >= 0 and (met or shown != limit):
            return text
    return written[0]
