"""Accuracy, latency, memory and size of exported files, each opened in a process that holds nothing but its engine."""

from mbcompress.measurement.across import across
from mbcompress.measurement.compare import Artifact, Comparison, compare
from mbcompress.measurement.metrics import Metrics

__all__ = ["Artifact", "Comparison", "Metrics", "across", "compare"]
