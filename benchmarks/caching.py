"""Time saved by the cache: five passes cold, warm, with an option of the last pass changed, and in two parallel runs.

`python benchmarks/caching.py` runs the command line on digits, with a temporary cache and directory.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mbcompress.files import sha256

RECIPE = """
model: {source: mobilenet_v2, width: 0.5, num_classes: 10, input_size: 32, strides_removed: 2,
        weights: "zoo:mobilenet_v2_digits"}
data: {name: digits}
passes:
  - prune: {target_macs: 0.7, round_to: 16}
  - distill: {training: {epochs: 4}}
  - prune: {target_macs: 0.5, round_to: 16}
  - train: {training: {epochs: 4, lr: 0.02}}
  - qat: {training: {epochs: 2}}
"""


class Trial:
    """Runs of the recipe in one directory, with a shared cache."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "five.yaml").write_text(RECIPE)

    def start(self, name: str, *overrides: str, cache: str = "cache") -> subprocess.Popen[bytes]:
        """Start a run in a separate process."""
        command = [sys.executable, "-m", "mbcompress", "run", "five.yaml", "--quiet", "--out", name]
        command += [part for override in overrides for part in ("-o", override)]
        environment = {**os.environ, "MBCOMPRESS_CACHE": str(self.directory / cache)}
        return subprocess.Popen(command, cwd=self.directory, env=environment)

    def tell(self, what: str, seconds: float, *names: str) -> None:
        """Print the time, how many passes came from the cache, and the hash of the final weights."""
        for name in names:
            steps = json.loads((self.directory / name / "report.json").read_text())["passes"]
            cached = sum(step["cached"] for step in steps)
            (last,) = (self.directory / name / "passes").glob("05-*/state.safetensors")
            print(f"{what:28} {seconds:6.1f} s  {cached} of 5 passes from the cache, weights {sha256(last)[:12]}")


def main() -> None:
    """Run the recipe several times in sequence, then twice in parallel."""
    with tempfile.TemporaryDirectory() as name:
        trial = Trial(Path(name))
        for what, run, overrides in (
            ("cold", "cold", ()),
            ("warm", "warm", ()),
            ("last option changed", "last", ("passes.qat.training.lr=0.001",)),
        ):
            start = time.monotonic()
            assert trial.start(run, *overrides).wait() == 0
            trial.tell(what, time.monotonic() - start, run)
        start = time.monotonic()
        both = [trial.start(run, cache="other") for run in ("one", "two")]
        assert [process.wait() for process in both] == [0, 0]
        trial.tell("two at once, cold", time.monotonic() - start, "one", "two")


if __name__ == "__main__":
    main()
