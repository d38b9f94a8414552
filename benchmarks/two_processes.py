"""Speedup by a second process: a recipe with two threads, and with two processes of one thread each.

`python benchmarks/two_processes.py [RECIPE]` runs the recipe both ways in sequence, without the cache, and
prints the seconds of its passes, their ratio, and the accuracy of both results on the test split with 95 % Wilson
intervals. Needs the extra `distributed`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LAUNCHER = ["torch.distributed.run", "--nproc-per-node", "2", "-m"]


@dataclass(frozen=True)
class Outcome:
    """One run of the recipe."""

    name: str
    passes: float
    seconds: float
    top1: dict[str, Any]

    def __str__(self) -> str:
        top1 = self.top1
        interval = f"{top1['low']:.1%} to {top1['high']:.1%}"
        return (
            f"{self.name}: passes {self.passes:.1f} s, whole run {self.seconds:.1f} s, "
            f"top-1 {top1['k']} of {top1['n']} ({top1['value']:.1%}, {interval})"
        )


def run(name: str, launcher: list[str], threads: int, recipe: Path, overrides: list[str], folder: Path) -> Outcome:
    """Run the recipe, with `launcher` or alone."""
    command = [sys.executable, "-m", *launcher, "mbcompress", "run", str(recipe), "--out", str(folder), "--no-cache"]
    command += [part for override in overrides for part in ("-o", override)]
    start = time.perf_counter()
    subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": str(threads)}, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    report = json.loads((folder / "report.json").read_text())
    return Outcome(
        name, sum(step["seconds"] for step in report["passes"]), seconds, report["result"]["accuracy"]["top1"]
    )


def main() -> None:
    """Run both ways and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path, nargs="?", default=Path("recipes/train_v2_digits.yaml"))
    parser.add_argument("-o", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--rounds", type=int, default=1, help="rounds; every other one runs in reverse order")
    options = parser.parse_args()
    variants: list[tuple[str, list[str], int]] = [
        ("1 process, 2 threads", [], 2),
        ("2 processes, 1 thread", LAUNCHER, 1),
    ]
    for number in range(options.rounds):
        found = {}
        for name, launcher, threads in variants if number % 2 == 0 else variants[::-1]:
            with tempfile.TemporaryDirectory() as folder:
                found[name] = run(name, launcher, threads, options.recipe, options.overrides, Path(folder) / "run")
            print(found[name], flush=True)
        one, two = (found[name] for name, _, _ in variants)
        print(f"two processes take {two.passes / one.passes:.2f} of the time of one", flush=True)


if __name__ == "__main__":
    main()
