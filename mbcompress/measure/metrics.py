"""Run the metrics of a recipe on the predictions of both files."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mbcompress.contract.metrics import Measured, Predictions
from mbcompress.errors import MbcompressError, MetricError, first_line, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mbcompress.contract.metrics import Metric
    from mbcompress.registry.registry import Kind

DRY_RUN_IMAGES = 64
BETTER = ("higher", "lower", None)


@dataclass(frozen=True)
class Metrics:
    """The metrics of a recipe, and the registry's kind, which knows their plugins."""

    chosen: Sequence[Metric]
    kind: Kind[Metric]

    def dry_run(self, classes: int) -> None:
        """Measure random logits, so that a broken metric fails before the passes and not after them.

        Raises:
            MetricError: as `measure`.
        """
        generator = np.random.default_rng(0)
        logits = generator.standard_normal((2, DRY_RUN_IMAGES, classes), np.float32)
        self.measure(Predictions(np.arange(DRY_RUN_IMAGES) % classes, *logits))

    def measure(self, predictions: Predictions) -> dict[str, Any]:
        """Return {metric: {figure: {'value', 'baseline', 'unit', 'better'}}}, with the fields of `Measured`.

        Non-finite values become None; 'baseline' is missing if a figure compares the two models.

        Raises:
            MbcompressError: a metric does not apply to these predictions.
            MetricError: a metric failed, or returned something other than figures.
        """
        return {metric.name: self._measure(metric, predictions) for metric in self.chosen}

    def _measure(self, metric: Metric, predictions: Predictions) -> dict[str, Any]:
        try:
            with np.errstate(all="ignore"):  # a broken model's logits overflow; the metric reports NaN
                figures = metric.measure(predictions)
        except MbcompressError as error:
            raise MbcompressError(f"metrics: {metric.name!r}: {error}") from None
        except Exception as error:
            problem = f"raised {type(error).__name__}: {first_line(error)}"
            raise MetricError(self._blame(metric, problem)) from error
        if not isinstance(figures, dict):
            raise MetricError(self._blame(metric, f"must return a dict of Measured, got {shown(figures)}"))
        return {str(name): self._figure(metric, name, figure) for name, figure in figures.items()}

    def _figure(self, metric: Metric, name: object, figure: object) -> dict[str, Any]:
        if not isinstance(figure, Measured):
            raise MetricError(self._blame(metric, f"must return Measured for {shown(name)}, got {shown(figure)}"))
        if figure.better not in BETTER or not isinstance(figure.unit, str):
            kinds = "'higher', 'lower' or None as 'better' and text as 'unit'"
            raise MetricError(self._blame(metric, f"must return {kinds} for {shown(name)}, got {shown(figure)}"))
        try:
            baseline = {} if figure.baseline is None else {"baseline": _finite(figure.baseline)}
            return {"value": _finite(figure.value), **baseline, "unit": figure.unit, "better": figure.better}
        except (TypeError, ValueError):
            problem = f"must return numbers for {shown(name)}, got {shown(figure)}"
            raise MetricError(self._blame(metric, problem)) from None

    def _blame(self, metric: Metric, problem: str) -> str:
        origin = self.kind.origin_of(metric)
        return f"metrics: {metric.name!r} ({origin}) {problem}" if origin else f"metrics: {metric.name!r} {problem}"


def _finite(value: float) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
