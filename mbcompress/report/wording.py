"""Numbers as text, the same in the terminal, in Markdown and in HTML.

A change for the worse is in capitals ("1.10x SLOWER"), so that it stands out without color too.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

TIMES = "\N{MULTIPLICATION SIGN}"  # docstrings write x and a hyphen instead
TO = "\N{EN DASH}"


@dataclass(frozen=True)
class Change:
    """The difference between two figures."""

    text: str
    worse: bool = False


@dataclass(frozen=True)
class Words:
    """Words for a difference."""

    better: str
    worse: str
    same: str


SPEED = Words("faster", "SLOWER", "same speed")
SIZE = Words("smaller", "LARGER", "same size")
NUMBER = Words("fewer", "MORE", "same number")
MEMORY = Words("less", "MORE", "same")
SCORE = Words("higher", "LOWER", "same")
ACCURACY = Words("more accurate", "LESS accurate", "same accuracy")


def significant(value: float, digits: int = 3) -> str:
    """Round to significant digits, never in scientific notation: 2.25, 12.3, 1234."""
    if value == 0:
        return "0"
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])  # of the rounded value: 9.999 is 10.0
    return f"{value:.{max(0, digits - 1 - exponent)}f}"


def quantity(number: float) -> str:
    """'700 k', '28.0 M'."""
    return _scaled(number, ("", "k", "M", "G", "T"))


def file_size(size: float) -> str:
    """'452 kB', '2.74 MB', in powers of 1000."""
    return _scaled(size, ("B", "kB", "MB", "GB", "TB"))


def _scaled(number: float, units: tuple[str, ...]) -> str:
    power = 0
    while number >= 999.5 and power < len(units) - 1:
        number, power = number / 1000, power + 1
    return f"{significant(number) if power else int(number)} {units[power]}".rstrip()


def milliseconds(value: float) -> str:
    """'0.668 ms'."""
    return f"{significant(value)} ms"


def milliseconds_between(low: float, high: float) -> str:
    """'0.637-0.867', next to a median with its unit."""
    return f"{significant(low)}{TO}{significant(high)}"


def duration(seconds: float) -> str:
    """'1.3 s', '12 min 05 s'."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s"


def percent(share: float, images: int) -> str:
    """'97.5 %', with the decimals that so many images can resolve."""
    return f"{100 * share:.{_decimals(images)}f} %"


def percent_between(low: float, high: float, images: int) -> str:
    """'95.3-98.7', next to a percentage with its sign."""
    return f"{100 * low:.{_decimals(images)}f}{TO}{100 * high:.{_decimals(images)}f}"


def points(value: float, images: int) -> str:
    """'4.5 points': percentage points."""
    return f"{value:.{_decimals(images)}f} points"


def _decimals(images: int) -> int:
    return 1 if images < 1000 else 2


def n_of_m(n: int | str, m: int | str) -> str:
    """'350 of 359', '324 k of 682 k'."""
    return f"{n} of {m}"


def threads(count: int) -> str:
    """'1 thread', '2 threads'."""
    return f"{count} thread{'' if count == 1 else 's'}"


def p_value(p: float) -> str:
    """'p = 0.45', 'p < 0.001'."""
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.2f}" if p >= 0.1 else f"p = {p:.3f}"


def times(ratio: float) -> str:
    """'2.25x', '12.3x'."""
    return f"{_ratio(ratio)}{TIMES}"


def ratio_change(ratio: float, words: Words) -> Change:
    """Baseline over result of a figure for which less is better: '2.25x faster', '1.10x SLOWER'."""
    if f"{ratio:.2f}" == "1.00":
        return Change(words.same if ratio == 1 else f"about the {words.same}")
    if ratio > 1:
        return Change(f"{times(ratio)} {words.better}")
    return Change(f"{times(1 / ratio)} {words.worse}" if ratio > 0 else words.worse, worse=True)


def times_between(low: float, high: float, *, worse: bool) -> str:
    """'2.15-2.29x': the spread of a ratio, inverted where `ratio_change` inverts the ratio."""
    low, high = (1 / high, 1 / low) if worse else (low, high)
    return f"{_ratio(low)}{TO}{times(high)}"


def _ratio(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 10 else significant(ratio)


def point_change(before: float, after: float, images: int, words: Words) -> Change:
    """The difference of two shares of the images: '0.3 points higher', '4.5 points LOWER'."""
    difference = 100 * (after - before)
    if abs(difference) < 1e-9:
        return Change(words.same)
    least = 10.0 ** -_decimals(images)
    size = points(abs(difference), images) if abs(difference) >= least / 2 else f"under {points(least, images)}"
    return Change(f"{size} {words.better if difference > 0 else words.worse}", worse=difference < 0)


def count_change(before: int, after: int) -> Change:
    """The difference of two counts for which more is better: '52 more', '3 FEWER'."""
    if before == after:
        return Change("same number")
    return Change(f"{abs(after - before)} {'more' if after > before else 'FEWER'}", worse=after < before)


def zeros_change(before: int, after: int) -> Change:
    """The difference of two counts for which neither is better: '324 k more', '12 fewer'."""
    if before == after:
        return Change("same number")
    return Change(f"{quantity(abs(after - before))} {'more' if after > before else 'fewer'}")


def value_of(value: object) -> str:
    """A figure that a pass reports, with four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def title_of(name: str) -> str:
    """'best_epoch' -> 'best epoch'."""
    return name.replace("_", " ")


def moment(iso: str) -> str:
    """'2026-11-22 14:11 UTC'."""
    return f"{datetime.fromisoformat(iso).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
