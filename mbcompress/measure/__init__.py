"""Measure exported files: accuracy, latency, memory and size.

Each file runs in a process that holds only its engine. In: exported files and the test split. Out: the figures that
`mbcompress.report` shows. Passes use `ExportBenchmark` to measure a model as a file while they run. May import:
contract, registry, data, graph; `ExportBenchmark.score` also training. Nothing here imports torch at module level.
"""

from mbcompress.measure.benchmark import ExportBenchmark
from mbcompress.measure.compare import Artifact, Comparison, compare
from mbcompress.measure.cpu import CPUINFO, Processor, processor
from mbcompress.measure.interleaving import Times, time_interleaved
from mbcompress.measure.metrics import Metrics
from mbcompress.measure.runtimes import compare_runtimes

__all__ = [
    "CPUINFO",
    "Artifact",
    "Comparison",
    "ExportBenchmark",
    "Metrics",
    "Processor",
    "Times",
    "compare",
    "compare_runtimes",
    "processor",
    "time_interleaved",
]
