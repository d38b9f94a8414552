"""Metrics besides accuracy: confidence calibration, and agreement with the baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from mbcompress import Measured, Metric, Predictions, hookimpl

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Calibration(Metric):
    """Expected calibration error (ECE) and negative log-likelihood (NLL) of the softmax (Guo et al. 2017).

    ECE bins the test images by confidence (the probability of the predicted class) in bins of equal width, and averages
    the gap between confidence and accuracy. Both metrics depend on the scale of the logits; top-1 does not.
    """

    name: ClassVar[str] = "calibration"

    bins: int = Field(default=15, ge=2, le=1000, description="Number of equal-width bins for the ECE.")

    def measure(self, predictions: Predictions) -> dict[str, Measured]:
        before, after = (
            self._errors(logits, predictions.labels) for logits in (predictions.baseline, predictions.result)
        )
        return {
            "ECE": Measured(after[0], "%", "lower", before[0]),
            "NLL": Measured(after[1], "nats", "lower", before[1]),
        }

    def _errors(self, logits: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[float, float]:
        """ECE in percent and mean NLL in nats; NaN if any logit is not finite."""
        import numpy as np
        from scipy.special import log_softmax

        if not np.isfinite(logits).all():
            return np.nan, np.nan
        log_p = log_softmax(logits.astype(np.float64), axis=1)  # (N, K)
        confidence, right = np.exp(log_p.max(axis=1)), log_p.argmax(axis=1) == labels
        member = np.ceil(confidence * self.bins).astype(int) - 1  # bin m holds (m / bins, (m + 1) / bins]
        gaps = np.bincount(member, right) - np.bincount(member, confidence)  # per bin, times its number of images
        nll = -log_p[np.arange(len(labels)), labels].mean()
        return float(100 * np.abs(gaps).sum() / len(labels)), float(nll)


class Agreement(Metric):
    """Percentage of test images for which the result and the baseline predict the same class, correct or not.

    Models of equal accuracy may fail on different images, and users notice changed predictions (Hooker et al. 2019).
    """

    name: ClassVar[str] = "agreement"

    def measure(self, predictions: Predictions) -> dict[str, Measured]:
        import numpy as np

        before, after = predictions.baseline, predictions.result
        same = (before.argmax(axis=1) == after.argmax(axis=1)) & np.isfinite(before).all(1) & np.isfinite(after).all(1)
        return {"agreement": Measured(100 * float(same.mean()), "%", "higher")}


@hookimpl
def mbcompress_metrics() -> list[type[Metric]]:
    return [Agreement, Calibration]
