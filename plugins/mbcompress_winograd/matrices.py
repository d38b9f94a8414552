"""Transformation matrices of Winograd's minimal filtering, derived with the Toom-Cook method in exact rationals.

F(m, r) computes m outputs of a filter with r taps in n = m + r - 1 multiplications: y = A^T [(G g) * (B^T d)], for a
filter g of length r and a signal d of length n. In two dimensions: Y = A^T [(G g G^T) * (B^T d B)] A.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015, https://arxiv.org/abs/1509.09308. The
interpolation points, including infinity, are theirs.
"""

from fractions import Fraction
from functools import cache, reduce
from typing import NamedTuple

Matrix = tuple[tuple[Fraction, ...], ...]
Polynomial = tuple[Fraction, ...]
"""Coefficients in ascending order of powers."""

POINTS = (0, 1, -1, 2, -2)


class Transforms(NamedTuple):
    """A^T (m, n), B^T (n, n) and G (n, r) of F(m, r)."""

    output: Matrix
    data: Matrix
    filter: Matrix


@cache
def winograd(outputs: int, taps: int = 3) -> Transforms:
    """Return the matrices of F(outputs, taps).

    Raises:
        ValueError: `POINTS` has too few points.
    """
    size = outputs + taps - 1
    if not 1 < size <= len(POINTS) + 1:
        raise ValueError(f"F({outputs},{taps}) needs {size - 1} points, and there are {len(POINTS)}")
    points = [Fraction(point) for point in POINTS[: size - 1]]
    data, filters = [], []
    for point in points:
        others = [other for other in points if other != point]
        scale = reduce(lambda product, other: product * (point - other), others, Fraction(1))
        # at the first point, move the sign from the filter to the data, as in the paper
        sign = -1 if point == points[0] and scale < 0 else 1
        data.append(tuple(sign * value for value in _padded(_with_roots(others), size)))
        filters.append(tuple(sign * point**power / scale for power in range(taps)))
    data.append(_with_roots(points))
    filters.append(_unit(taps))
    output = [(*(point**power for point in points), Fraction(int(power == outputs - 1))) for power in range(outputs)]
    return Transforms(tuple(output), tuple(data), tuple(filters))


def _with_roots(roots: list[Fraction]) -> Polynomial:
    """The monic polynomial with these roots."""
    polynomial = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *polynomial]
        polynomial = [low - root * high for low, high in zip(shifted, [*polynomial, Fraction(0)], strict=True)]
    return tuple(polynomial)


def _padded(polynomial: Polynomial, size: int) -> Polynomial:
    return polynomial + (Fraction(0),) * (size - len(polynomial))


def _unit(size: int) -> Polynomial:
    """Zeros, with 1 at the end."""
    return tuple(Fraction(int(index == size - 1)) for index in range(size))
