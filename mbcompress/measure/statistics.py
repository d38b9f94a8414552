"""Proportions with intervals, a paired test, and percentiles of times."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95


def proportion(hits: NDArray[np.bool_]) -> dict[str, Any]:
    """Return k of n with a Wilson interval (Wilson 1927): {'k', 'n', 'value', 'low', 'high'}."""
    from scipy.stats import binomtest

    k, n = int(hits.sum()), len(hits)
    interval = binomtest(k, n).proportion_ci(CONFIDENCE, method="wilson")
    return {"k": k, "n": n, "value": k / n, "low": float(interval.low), "high": float(interval.high)}


def mcnemar(baseline: NDArray[np.bool_], result: NDArray[np.bool_]) -> dict[str, Any]:
    """Exact paired test (McNemar 1947) of whether two models have the same error rate on the same images.

    Returns: {'baseline_only', 'result_only': images that only this model got right, 'p_value'}.
    """
    from scipy.stats import binomtest

    only_baseline, only_result = int((baseline & ~result).sum()), int((result & ~baseline).sum())
    differing = only_baseline + only_result
    p_value = float(binomtest(only_result, differing).pvalue) if differing else 1.0
    return {"baseline_only": only_baseline, "result_only": only_result, "p_value": p_value}


def hits(logits: NDArray[np.float32], labels: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    """Whether each label is among the k largest logits: (N, K), (N,) -> (N,). Non-finite rows are misses."""
    top = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    correct = (top == labels[:, None]).any(axis=1)
    return np.asarray(correct & np.isfinite(logits).all(axis=1))


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return {'median', 'p5', 'p95'}."""
    p5, median, p95 = np.percentile(values, [5, 50, 95])
    return {"median": float(median), "p5": float(p5), "p95": float(p95)}
