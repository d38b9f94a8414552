"""Checks of metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mbcompress.contract.metrics import Measured, Predictions
from mbcompress.errors import shown
from mbcompress.testing.result import CheckResult, run_checks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mbcompress.contract.metrics import Metric
    from mbcompress.testing.options import Subject

IMAGES, CLASSES = 40, 10


def check_metric(subject: Subject) -> Iterator[CheckResult]:
    """The names are the same for all predictions, and the figures are deterministic."""
    for metric in subject.instances():
        yield from run_checks(subject.label, {"measures": lambda metric=metric: _check(metric)})  # type: ignore[misc]


def _check(metric: Metric) -> Iterator[str]:
    first, again, other = (metric.measure(_predictions(seed)) for seed in (0, 0, 1))
    if not isinstance(first, dict) or not first or not all(isinstance(figure, Measured) for figure in first.values()):
        yield f"measure() must return a dict of mbcompress.Measured, got {shown(first)}"
        return
    if repr(first) != repr(again):  # as text, because NaN differs from NaN
        yield "measure() returns different figures for the same predictions; seed its random draws"
    if list(first) != list(other):
        names = f"{shown(list(first))} and {shown(list(other))}"
        yield f"measure() must return the same names for all predictions, got {names}"
    for name, figure in first.items():
        if not isinstance(figure.value, int | float):
            yield f"figure {name!r} must be a Python number, got {shown(figure.value)}"


def _predictions(seed: int) -> Predictions:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, CLASSES, IMAGES)
    baseline, result = generator.normal(size=(2, IMAGES, CLASSES)).astype(np.float32)
    return Predictions(labels, baseline, result)
