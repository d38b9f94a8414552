"""Measure exported files: accuracy, latency, memory and size.

Each file runs in a process that holds only its engine. In: exported files and the test split. Out: the figures that
`mbcompress.report` shows. Passes use `ExportBenchmark` to measure a model as a file while they run. May import:
contract, registry, data, graph; `ExportBenchmark.score` also training. Nothing here imports torch at module level.
"""

from mbcompress.measure.benchmark import ExportBenchmark
from mbcompress.measure.cpu import CPUINFO, processor
from mbcompress.measure.interleaving import time_interleaved

__all__ = ["CPUINFO", "ExportBenchmark", "processor", "time_interleaved"]
