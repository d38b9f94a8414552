"""Accuracy, latency, memory and size of exported files, each opened in a process that holds nothing but its engine."""

from mbcompress.measurement.compare import Artifact, compare
from mbcompress.measurement.metrics import Metrics

__all__ = ["Artifact", "Metrics", "compare"]
