"""Figures of metrics that plugins bring, of which the report knows no more than their unit and what is better."""

from __future__ import annotations

from mbcompress.report import wording
from mbcompress.report.wording import Change, Words

DIRECTIONS = {
    "higher": wording.SCORE,
    "lower": Words("lower", "HIGHER", "same"),
    None: Words("higher", "lower", "same"),
}
"""How a change is called by what is better: the better way first."""


def value(figure: float | None, unit: str, images: int) -> str:
    """'2.3 %', with as many decimals as shares of so many images have; '0.1234 nats'."""
    if figure is None:
        return "undefined"
    if unit == "%":
        return wording.percent(figure / 100, images)
    return f"{wording.value_of(float(figure))} {unit}".rstrip()


def change(before: float | None, after: float | None, unit: str, images: int, better: str | None) -> Change:
    """'1.3 points HIGHER' where lower is better, '0.0123 nats lower', 'same'."""
    if before is None or after is None:
        lost = after is None and before is not None
        return Change("UNDEFINED" if lost else "", worse=lost)
    words = DIRECTIONS[better]
    if better == "lower":
        before, after = after, before
    if unit == "%":
        changed = wording.point_change(before / 100, after / 100, images, words)
    elif before == after:
        changed = Change(words.same)
    else:
        size = f"{abs(after - before):.3g} {unit}".rstrip()
        changed = Change(f"{size} {words.better if after > before else words.worse}", worse=after < before)
    return Change(changed.text, worse=changed.worse and better is not None)
