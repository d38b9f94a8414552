"""int8 files of four tools from the same weights: accuracy, size, integer convolutions and speed.

`python benchmarks/int8.py recipes/v1_int8.yaml recipes/v2_int8.yaml` takes model and data from the recipes, not the
passes; `--out FILE` writes the table to a file. `--random mobilenet_v3_large:224` adds an untrained model, for its
speed only. Needs OpenVINO (`pip install 'mbcompress[openvino]'`), and NNCF (`pip install nncf==3.4.0`) for its rows.
Each file is timed in its own process on one thread, all interleaved.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from peers import File, Measured, Subject, Tools, from_recipe, measure, untrained

from mbcompress.measure.statistics import mcnemar, proportion
from mbcompress.registry.discovery import Registry, discover

ROUND_MS = 20.0
HEADER = (
    "| model | file | test top-1 | against fp32 | MB | int8 convolutions | ms | fp32 of the same engine / it | "
    "ONNX Runtime's own / it |\n|---|---|---|---|---|---|---|---|---|"
)


def rows(subject: Subject, registry: Registry, rounds: int) -> list[str]:
    """Return the table rows of one model."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        tools = Tools(subject, registry, directory)
        fp32, ours = tools.fp32(), tools.ours()
        files = [
            File("fp32, ONNX Runtime", fp32, tools.onnx),
            File("fp32, OpenVINO", fp32, tools.openvino),
            File("ours, ONNX Runtime", ours, tools.onnx),
            File("ours, OpenVINO", ours, tools.openvino),
            *tools.peers(fp32),
        ]
        found = measure(files, subject.splits, rounds, ROUND_MS)
        own = next(index for index, file in enumerate(files) if file.label == "ONNX Runtime static")
        return [
            _row(subject, file, measured, baseline=found[0], floating=found[_float(file)], own=found[own])
            for file, measured in zip(files, found, strict=True)
        ]


def _float(file: File) -> int:
    return 0 if file.runtime.name == "onnx" else 1


def _row(
    subject: Subject, file: File, found: Measured, *, baseline: Measured, floating: Measured, own: Measured
) -> str:
    accuracy = against = "-"
    if subject.trained:
        share, test = proportion(found.correct), mcnemar(baseline.correct, found.correct)
        accuracy = f"{share['k']}/{share['n']} ({100 * share['low']:.1f}-{100 * share['high']:.1f} %)"
        against = f"{100 * (found.correct.mean() - baseline.correct.mean()):+.2f} (p {test['p_value']:.2f})"
    count = found.convolutions
    figures = (
        f"{file.size / 1e6:.2f}",
        f"{count.int8}/{count.total}",
        f"{np.median(found.times.medians):.3f}",
        f"{np.median(floating.times.over(found.times)):.2f}",
        f"{np.median(own.times.over(found.times)):.2f}",
    )
    return f"| {subject.name} | {file.label} | {accuracy} | {against} | {' | '.join(figures)} |"


def main() -> None:
    """Print the table, or write it to a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", type=Path, help="recipes to take model and data from")
    parser.add_argument(
        "--random", nargs="*", default=[], metavar="SOURCE:PIXELS", help="untrained models, for speed only"
    )
    parser.add_argument("--rounds", type=int, default=60, help="interleaved rounds of timing")
    parser.add_argument("--out", type=Path, help="file to write the table to")
    options = parser.parse_args()
    registry = discover()
    subjects = [from_recipe(path, registry) for path in options.recipes]
    subjects += [untrained(spec, registry) for spec in options.random]
    lines = [HEADER]
    for subject in subjects:
        found = rows(subject, registry, options.rounds)
        lines += found
        print("\n".join(found), flush=True)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
