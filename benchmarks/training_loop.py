"""Overhead of the training loop over forward, backward and optimizer step: `python benchmarks/training_loop.py`.

Compares a minimal loop on one batch in memory with epochs of `fit` on as many batches and all features of the CIFAR-10
recipes (crop, flip, cutout, EMA, clipping, validation on 5 % of the images), interleaved in one process. The images are
noise. Prints the ratio of each pair of rounds.
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from mbcompress import Augmentation, Context, Images, Normalization, TrainingConfig
from mbcompress.cache.checkpoints import CheckpointFolder
from mbcompress.cli.allocator import keep_freed_memory
from mbcompress.data.splits import Development
from mbcompress.registry.discovery import discover
from mbcompress.training import CrossEntropy
from mbcompress.training.optim import build_optimizer
from mbcompress.training.precision import mixed_precision
from mbcompress.training.signals import DeferredSignals
from mbcompress.training.trainer import Trainer

CLASSES, VALIDATION_SHARE = 10, 1 / 20


def noise(count: int, seed: int) -> Images:
    """Images of 32x32 noise."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (count, 3, 32, 32), np.uint8)
    return Images(pixels, generator.integers(0, CLASSES, count))


def bare(model: nn.Module, options: TrainingConfig, steps: int) -> float:
    """Seconds of `steps` steps on one batch."""
    sgd = build_optimizer([model], options)
    images = torch.randn(options.batch_size, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (options.batch_size,))
    model.train()
    start = time.perf_counter()
    for _ in range(steps):
        with mixed_precision(images.device, options.precision):
            loss = cross_entropy(model(images), labels)
        sgd.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        sgd.step()
    return time.perf_counter() - start


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--source", default="mobilenet_v2")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    options = TrainingConfig(
        epochs=arguments.rounds, batch_size=128, cutout=8, ema=0.998, precision=arguments.precision, lr=0.01
    )
    images = arguments.steps * options.batch_size
    data = Development(
        train=noise(images, 0),
        calibration=noise(128, 1),
        validation=noise(round(VALIDATION_SHARE * images), 2),
        classes=tuple("0123456789"),
        normalization=Normalization((0.5,) * 3, (0.25,) * 3),
        augmentation=Augmentation(crop_padding=4, flip=True),
    )
    spec = {"source": arguments.source, "width": arguments.width, "num_classes": CLASSES, "input_size": 32}
    model = discover().build_model({**spec, "strides_removed": 1}).load()
    with TemporaryDirectory() as folder, keep_freed_memory():
        checkpoints = CheckpointFolder(Path(folder))
        context = Context(data, model, (3, 32, 32), torch.device("cpu"), 0, checkpoints=checkpoints)
        trainer = Trainer(model, context, options, CrossEntropy(), (), "train")
        signals = DeferredSignals(context.progress.say)
        bare(model, options, 5)
        ratios = []
        for _ in range(arguments.rounds):
            start = time.perf_counter()
            trainer.run_epoch(signals)
            ours = time.perf_counter() - start
            alone = bare(model, options, arguments.steps)
            ratios.append(ours / alone)
            print(f"fit {ours:.2f} s, bare {alone:.2f} s, ratio {ours / alone:.3f}", flush=True)
    print(f"median ratio {np.median(ratios):.3f} of {len(ratios)} rounds, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
