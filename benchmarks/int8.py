"""int8 files of four tools from the same weights: accuracy, size, integer convolutions and speed.

`python benchmarks/int8.py recipes/v1_int8.yaml recipes/v2_int8.yaml` takes model and data from recipes, not the passes;
`--out benchmarks/int8.md` writes the table.
`--random mobilenet_v3_large:224` adds an untrained network, for speed alone.
NNCF is not a dependency: `pip install nncf==3.4.0` into the same environment, or its rows are left out.
Each file is timed in a process of its own, all interleaved, on one thread.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from peers import File, Subject, Tools, from_recipe, untrained

from mbcompress.host import Catalogue, discover
from mbcompress.measurement.engine import Engine
from mbcompress.measurement.interleaving import time_interleaved
from mbcompress.measurement.statistics import hits, mcnemar, proportion

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

WARM_UP_MS, ROUND_MS = 300.0, 20.0
HEADER = (
    "| network | file | test top-1 | against fp32 | MB | int8 convolutions | ms | fp32 of the same engine / it | "
    "ONNX Runtime's own / it |\n|---|---|---|---|---|---|---|---|---|"
)


def rows(subject: Subject, catalogue: Catalogue, rounds: int) -> list[str]:
    """Table rows of one network."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        directory = Path(name)
        tools = Tools(subject, catalogue, directory)
        fp32, ours = tools.fp32(), tools.ours()
        files = [
            File("fp32, ONNX Runtime", fp32, tools.onnx),
            File("fp32, OpenVINO", fp32, tools.openvino),
            File("ours, ONNX Runtime", ours, tools.onnx),
            File("ours, OpenVINO", ours, tools.openvino),
            *tools.peers(fp32),
        ]
        test = subject.splits.test
        np.save(directory / "test.npy", test.pixels)
        engines = [stack.enter_context(Engine(each.runtime, each.path, subject.shape, 1)) for each in files]
        right = [
            hits(engine.predict(directory / "test.npy", subject.splits.normalization), test.labels, 1)
            for engine in engines
        ]
        for engine in engines:
            engine.time(WARM_UP_MS)
        times = [
            [float(np.median(calls)) for calls in each] for each in time_interleaved(engines, range(rounds), ROUND_MS)
        ]
        counts = [engine.convolutions() for engine in engines]
        own = next(index for index, file in enumerate(files) if file.label == "ONNX Runtime static")
        return [
            _row(subject, file, right[0], right[index], counts[index], times[index], times[_float(file)], times[own])
            for index, file in enumerate(files)
        ]


def _float(file: File) -> int:
    return 0 if file.runtime.name == "onnx" else 1


def _row(
    subject: Subject,
    file: File,
    baseline: NDArray[np.bool_],
    right: NDArray[np.bool_],
    count: Any,
    times: list[float],
    floating: list[float],
    own: list[float],
) -> str:
    accuracy = against = "-"
    if subject.trained:
        share, test = proportion(right), mcnemar(baseline, right)
        accuracy = f"{share['k']}/{share['n']} ({100 * share['low']:.1f}-{100 * share['high']:.1f} %)"
        against = f"{100 * (right.mean() - baseline.mean()):+.2f} (p {test['p_value']:.2f})"
    ratio: Callable[[list[float]], float] = lambda other: float(np.median(np.divide(other, times)))  # noqa: E731
    figures = (
        f"{file.size / 1e6:.2f}",
        f"{count.int8}/{count.total}",
        f"{np.median(times):.3f}",
        f"{ratio(floating):.2f}",
        f"{ratio(own):.2f}",
    )
    return f"| {subject.name} | {file.label} | {accuracy} | {against} | {' | '.join(figures)} |"


def main() -> None:
    """Print the table, or write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", type=Path, help="recipes whose model and data are taken")
    parser.add_argument(
        "--random", nargs="*", default=[], metavar="SOURCE:PIXELS", help="untrained networks, for speed"
    )
    parser.add_argument("--rounds", type=int, default=60, help="interleaved rounds of timing")
    parser.add_argument("--out", type=Path, help="file to write the table to")
    options = parser.parse_args()
    catalogue = discover()
    subjects = [from_recipe(path, catalogue) for path in options.recipes]
    subjects += [untrained(spec, catalogue) for spec in options.random]
    lines = [HEADER]
    for subject in subjects:
        lines += rows(subject, catalogue, options.rounds)
        print("\n".join(lines[-12:]), flush=True)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
