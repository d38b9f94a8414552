"""Accuracy, latency, memory and size of exported files, each opened in a process that holds nothing but its engine."""

from mbcompress.measure.across import across
from mbcompress.measure.compare import Artifact, Comparison, compare
from mbcompress.measure.metrics import Metrics

__all__ = ["Artifact", "Comparison", "Metrics", "across", "compare"]
