"""Kills runs at random moments and has them go on, until they end: they must end like one that was never killed.

`python tests/crash.py --kills 100 --seed 0`, or `make crash`. Exits with 1 if any run ended with other weights.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from plugin_packages import write_distribution
from toys import TOY

from mbcompress.files import sha256
from mbcompress.testing.tiny import tiny_splits

RECIPE = """
model: {source: mobilenet_v1, width: 0.25, num_classes: 10, input_size: 32, dropout: 0.2}
data: {name: arrays, path: images.npz, calibration: 32}
passes:
  - train: {training: {epochs: 3, lr: 0.1, batch_size: 32}}
  - prune: {target_macs: 0.6, iterative_steps: 2, recovery: {epochs: 2, lr: 0.05, batch_size: 32}}
  - distill: {training: {epochs: 3, lr: 0.05, batch_size: 32}}
  - qat: {training: {epochs: 3, batch_size: 32}}
export: [toy]
measure: {baseline_after: 1, rounds: 5, round_ms: 0.1, threads: [1]}
seed: 3
"""


@dataclass
class Harness:
    """Runs of one recipe in processes of their own, below one directory."""

    directory: Path
    random: random.Random
    recipe: str
    kills: int = 0
    moments: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        any_model = TOY.replace(
            "weight.detach().numpy().reshape(len(weight), -1)[:, : input_shape[0]]", "np.eye(10, 3)"
        )
        write_distribution(self.directory / "packages", "mb-toy", any_model, plugin="toy")
        (self.directory / "crash.yaml").write_text(self.recipe)
        splits = tiny_splits()
        images, labels = (
            np.concatenate(
                [getattr(part, name) for part in (splits.train, splits.validation, splits.test) for _ in "1234"]
            )
            for name in ("pixels", "labels")
        )
        np.savez(self.directory / "images.npz", images=images.transpose(0, 2, 3, 1), labels=labels)

    def start(self, name: str) -> subprocess.Popen[str]:
        """The run `name` with a cache of its own: the same command each time."""
        environment = {
            **os.environ,
            "PYTHONPATH": str(self.directory / "packages"),
            "MBCOMPRESS_CACHE": str(self.directory / f"{name}-cache"),
            "MBCOMPRESS_CHECKPOINT_SECONDS": "0.2",
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, "-m", "mbcompress", "run", "crash.yaml", "--out", name]
        return subprocess.Popen(
            command,
            cwd=self.directory,
            env=environment,
            text=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # so that measuring processes die with it
        )

    def finish(self, name: str) -> float:
        """Run to the end; the seconds it took."""
        start = time.monotonic()
        process = self.start(name)
        _, error = process.communicate()
        assert process.returncode == 0, error
        return time.monotonic() - start

    def kill(self, name: str, longest: float) -> bool:
        """Kill the run at a random moment; False if it had ended before."""
        process, moment = self.start(name), self.random.uniform(0.5, longest)
        try:
            _, error = process.communicate(timeout=moment)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            self.kills += 1
            self.moments.append(moment)
            return True
        assert process.returncode == 0, error
        return False

    def is_finished(self, name: str) -> bool:
        """Whether the run was complete, if only just, when it ended; its manifest appears last."""
        return (self.directory / name / "manifest.json").exists()

    def weights(self, name: str) -> dict[str, str]:
        """SHA-256 of the weights after each pass."""
        return {path.parent.name: sha256(path) for path in sorted((self.directory / name).glob("passes/*/state.*"))}


def crash(directory: Path, kills: int, seed: int, recipe: str = RECIPE) -> bool:
    """Whether every run ended with the weights of the one that was never killed."""
    harness = Harness(directory, random.Random(seed), recipe)
    seconds = harness.finish("reference")
    expected = harness.weights("reference")
    print(f"uninterrupted: {seconds:.1f} s, {len(expected)} passes", flush=True)
    equal, runs = True, 0
    while harness.kills < kills:
        runs += 1
        name, before = f"run-{runs}", harness.kills
        while harness.kills < kills and harness.kill(name, seconds) and not harness.is_finished(name):
            pass
        if not harness.is_finished(name):
            harness.finish(name)
        same = harness.weights(name) == expected
        equal = equal and same
        print(f"{name}: killed {harness.kills - before} times, weights {'equal' if same else 'DIFFER'}", flush=True)
    earliest, latest = min(harness.moments), max(harness.moments)
    print(f"{harness.kills} kills {earliest:.1f} to {latest:.1f} s after a start, {runs} runs, seed {seed}")
    return equal


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        return 0 if crash(Path(directory), options.kills, options.seed) else 1


if __name__ == "__main__":
    sys.exit(main())
