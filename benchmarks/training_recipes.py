"""Compare training settings at equal CPU time: `python benchmarks/training_recipes.py --minutes 6 --out FOLDER`.

Every variant trains a model on CIFAR-10 (JPEG) from scratch for the same CPU time. A few steps measure its speed, which
determines the number of epochs and of training images; the schedule ends with the last step. CPU time is robust to
other work on the machine, but use one thread: with more, it does not include waiting for other threads. Accuracy is
measured on the validation split; test images are not used. Existing results in FOLDER are kept.
"""

import argparse
import json
import math
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mbcompress import Context, TrainingConfig
from mbcompress.cli.allocator import keep_freed_memory
from mbcompress.data.loader import training_batches
from mbcompress.data.splits import Development
from mbcompress.files import write_json
from mbcompress.registry.discovery import discover
from mbcompress.training import CrossEntropy, fit
from mbcompress.training.trainer import Trainer

SHAPE = (3, 32, 32)
BASE: dict[str, Any] = {
    "batch_size": 128,
    "lr": 0.1,
    "warmup": 0.15,
    "label_smoothing": 0.1,
    "ema": 0.99,
}
WARM_UP, TIMED = 3, 8  # steps


@dataclass(frozen=True)
class Variant:
    """A training variant: its differences from BASE and from a model of width 1 with two strides removed."""

    name: str
    model: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    def spec(self, source: str) -> dict[str, Any]:
        """Options of the model source."""
        return {"source": source, "num_classes": 10, "input_size": 32, "strides_removed": 2, **self.model}

    def settings(self, epochs: int) -> TrainingConfig:
        """Options of the training."""
        return TrainingConfig(epochs=epochs, **{**BASE, **self.options})


VARIANTS = (
    Variant("two strides removed"),
    Variant("one stride removed", model={"strides_removed": 1}),
    Variant("three strides removed", model={"strides_removed": 3}),
    Variant("half width", model={"width": 0.5}),
    Variant("sides 0.75, 1", options={"resolutions": (0.75, 1.0)}),
    Variant("sides 0.5, 0.75, 1", options={"resolutions": (0.5, 0.75, 1.0)}),
    Variant("lr 0.2", options={"lr": 0.2}),
    Variant("lr 0.05", options={"lr": 0.05}),
    Variant("batch 64", options={"batch_size": 64, "lr": 0.07}),
    Variant("batch 256", options={"batch_size": 256, "lr": 0.15}),
    Variant("one cycle", options={"schedule": "one_cycle"}),
    Variant("no average", options={"ema": None}),
    Variant("cutout 8", options={"cutout": 8}),
    Variant("bf16", options={"precision": "bf16"}),
)


def seconds_of_image(context: Context, model: torch.nn.Module, options: TrainingConfig) -> float:
    """CPU time of one training image, averaged over the resolutions."""
    shares = options.resolutions or (1.0,)
    trainer = Trainer(model, context, options, CrossEntropy(options.label_smoothing), (), "speed")
    model.train()
    total = 0.0
    for share in shares:
        batches = training_batches(
            context.data.train,
            context.data.normalization,
            trainer.augmentation,
            options.batch_size,
            context.device,
            seed=0,
            epoch=1,
            scale=share,
        )
        for _ in range(WARM_UP):
            trainer.make_step(next(batches))
        start = time.process_time()
        for _ in range(TIMED):
            trainer.make_step(next(batches))
        total += (time.process_time() - start) / TIMED / options.batch_size
    return total / len(shares)


def try_out(variant: Variant, source: str, minutes: float) -> dict[str, Any]:
    """Train for `minutes` of CPU time and return the results."""
    registry = discover()
    model_source = registry.build_model(variant.spec(source))
    data = registry.build_dataset({"name": "cifar10", "validation": 0.05}).load(SHAPE, 0).development()

    def context(images: int) -> Context:
        return Context(with_training(data, images), model_source.load(), SHAPE, torch.device("cpu"), 0)

    torch.manual_seed(0)
    with keep_freed_memory():
        seconds = seconds_of_image(context(len(data.train)), model_source.load(), variant.settings(1))
    budget = 60 * minutes / seconds
    epochs = max(len(variant.options.get("resolutions", (1,))), math.ceil(budget / len(data.train)))
    options = variant.settings(epochs)
    torch.manual_seed(0)
    model = model_source.load()
    start = time.process_time()
    last = fit(model, context(int(budget / epochs)), options, label="train").scores[-1]
    return {
        "images": int(budget / epochs) * epochs,
        "seconds": time.process_time() - start,
        "correct": last.correct,
        "of": last.count,
    }


def with_training(data: Development, images: int) -> Development:
    """The data with the first `images` training images, stratified by class."""
    return replace(data, train=data.train.take(np.arange(images)))


def main() -> None:
    """Train the variants in sequence, and print the table after each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--source", default="mobilenet_v3_small")
    parser.add_argument("--minutes", type=float, default=6)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", help="names of variants")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for variant in VARIANTS:
        if arguments.only and variant.name not in arguments.only:
            continue
        result = arguments.out / f"{variant.name}.json"
        if not result.exists():
            write_json(result, try_out(variant, arguments.source, arguments.minutes))
        found = json.loads(result.read_text())
        share = 100 * found["correct"] / found["of"]
        print(f"| {variant.name} | {found['images']} | {found['seconds'] / 60:.1f} | {share:.1f} |", flush=True)


if __name__ == "__main__":
    main()
