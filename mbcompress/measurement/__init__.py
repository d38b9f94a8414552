"""Accuracy, latency, memory and size of exported files, each opened in a process that holds nothing but its engine."""

from mbcompress.measurement.compare import Artifact, compare

__all__ = ["Artifact", "compare"]
