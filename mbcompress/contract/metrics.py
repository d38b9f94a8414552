"""Metric: values computed from the predictions of the exported files, in addition to accuracy."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Literal, NamedTuple

from mbcompress.contract.options import Component

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Predictions(NamedTuple):
    """Predictions of both exported files on the same test images, in the same order.

    Attributes:
        labels: (N,) int64, from 0.
        baseline: (N, num_classes) float32 logits of the baseline's file.
        result: (N, num_classes) float32 logits of the result's file; NaN or infinite if the model is broken.
    """

    labels: NDArray[np.int64]
    baseline: NDArray[np.float32]
    result: NDArray[np.float32]


class Measured(NamedTuple):
    """A value for the report.

    Attributes:
        value: the value of the result; the report shows NaN and infinity as undefined.
        unit: '%', 'nats', or '' for a plain number.
        better: whether higher or lower values are better; None if neither.
        baseline: the value of the baseline; None if the metric compares the two models.
    """

    value: float
    unit: str = ""
    better: Literal["higher", "lower"] | None = None
    baseline: float | None = None


class Metric(Component):
    """Figures computed from the predictions of the exported files, in addition to accuracy."""

    @abstractmethod
    def measure(self, predictions: Predictions) -> dict[str, Measured]:
        """Return values by name; the names must not depend on the predictions.

        Called once per runtime of the recipe, and once before the passes on random logits, so that a broken metric
        fails early.
        """
