"""Metric: figures from what the exported files answer, beside accuracy."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Literal, NamedTuple

from mbcompress.contract.options import Component

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Predictions(NamedTuple):
    """What both exported files answered to the same test images, in the same order.

    Attributes:
        labels: (N,) int64, from 0.
        baseline: (N, num_classes) float32 logits of the baseline's file.
        result: (N, num_classes) float32 logits of the result's file; a broken model's may be NaN or infinite.
    """

    labels: NDArray[np.int64]
    baseline: NDArray[np.float32]
    result: NDArray[np.float32]


class Measured(NamedTuple):
    """A figure for the report.

    Attributes:
        value: of the result; NaN or infinity is reported as undefined.
        unit: what it is counted in, as a report writes it: '%', 'nats', '' for a bare number.
        better: whether a report should mark a rise or a fall as worse; None where neither is.
        baseline: the same figure of the baseline; None where a figure compares the two.
    """

    value: float
    unit: str = ""
    better: Literal["higher", "lower"] | None = None
    baseline: float | None = None


class Metric(Component):
    """Something to measure on what the exported files answer, beside accuracy."""

    @abstractmethod
    def measure(self, predictions: Predictions) -> dict[str, Measured]:
        """Figures by name, the same names whatever the predictions; called once for each runtime of the recipe.

        It is also called before the passes, on random logits, so that a metric that fails does so at once.
        """
