"""Cost of training checkpoints: the same training with and without checkpoints, interleaved.

`python benchmarks/checkpointing.py` trains MobileNetV2 (width 1.0, 32 px) on digits for about 80 seconds per round,
with the default interval of 60 s and with 5 s, and prints medians and ratios.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from mbcompress import Context, TrainingConfig
from mbcompress.cache.checkpoints import CheckpointFolder
from mbcompress.cache.settings import DEFAULT_CHECKPOINT_SECONDS
from mbcompress.contract.checkpoints import Checkpoints
from mbcompress.registry.discovery import discover
from mbcompress.training import fit


def train(epochs: int, interval: float | None) -> float:
    """Return the seconds of a training with a checkpoint every `interval` seconds; None for no checkpoints."""
    registry = discover()
    options = TrainingConfig(epochs=epochs, batch_size=64)
    torch.manual_seed(0)
    model = registry.build_model({"source": "mobilenet_v2", "num_classes": 10, "input_size": 32}).load()
    data = registry.build_dataset({"name": "digits"}).load((3, 32, 32), 0).development()
    with tempfile.TemporaryDirectory() as directory:
        checkpoints = Checkpoints()
        if interval is not None:
            checkpoints = CheckpointFolder(Path(directory), interval=interval)
        context = Context(data, model, (3, 32, 32), torch.device("cpu"), 0, checkpoints=checkpoints)
        start = time.perf_counter()
        fit(model, context, options, label="train")
        seconds = time.perf_counter() - start
        saved = len(list(Path(directory).iterdir()))
    assert (interval is not None and interval < seconds) == bool(saved)
    return seconds


def main() -> None:
    """Time all variants in rounds, every other round in reverse order."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=27)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    variants: list[float | None] = [None, DEFAULT_CHECKPOINT_SECONDS, 5.0]
    seconds: dict[float | None, list[float]] = {variant: [] for variant in variants}
    for number in range(options.rounds):
        for variant in variants if number % 2 == 0 else variants[::-1]:
            seconds[variant].append(train(options.epochs, variant))
    print(f"{torch.get_num_threads()} threads, {options.rounds} rounds of {options.epochs} epochs")
    for variant in variants:
        ratios = [one / other for one, other in zip(seconds[variant], seconds[None], strict=True)]
        name = "no checkpoints" if variant is None else f"every {variant:g} s"
        times = ", ".join(f"{each:.1f}" for each in seconds[variant])
        print(f"{name:15} {times} s; over none: {statistics.median(ratios):.3f} (median of paired ratios)")


if __name__ == "__main__":
    main()
