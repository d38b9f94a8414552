"""Which training is worth its minutes: `python benchmarks/training_recipes.py --minutes 10 --out FOLDER`.

Every variant trains a network on CIFAR-10 (JPEG) from scratch for the same time on this machine: as many epochs as fit,
by its speed in a few steps, with the schedule ending at the last of them. Accuracy is on the validation split; test
images are never looked at. A run that is stopped goes on where it was when the same command is given again; results
that are in FOLDER are not computed again. Run it alone: what else the machine does counts as the variant's time.
"""

import argparse
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mbcompress import Context, Progress, TrainingOptions
from mbcompress.cache.checkpoints import Checkpoints
from mbcompress.files import write_json
from mbcompress.host import discover
from mbcompress.training import fit, label_loss
from mbcompress.training.batches import training_batches
from mbcompress.training.loop import _Training
from mbcompress.training.memory import kept_memory

SHAPE = (3, 32, 32)
BASE: dict[str, Any] = {
    "batch_size": 128,
    "lr": 0.1,
    "warmup": 0.15,
    "label_smoothing": 0.1,
    "ema": 0.99,
    "precision": "bf16",
}
WARM_UP, TIMED = 3, 8  # steps


@dataclass(frozen=True)
class Variant:
    """One way to train: what differs from BASE, and from a model of width 1 with two strides removed."""

    name: str
    model: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    def spec(self, source: str) -> dict[str, Any]:
        """Options of the model source."""
        return {"source": source, "num_classes": 10, "input_size": 32, "strides_removed": 2, **self.model}

    def settings(self, epochs: int) -> TrainingOptions:
        """Options of the training."""
        return TrainingOptions(epochs=epochs, **{**BASE, **self.options})


VARIANTS = (
    Variant("as it is"),
    Variant("one stride removed", model={"strides_removed": 1}),
    Variant("half width", model={"width": 0.5}),
    Variant("progressive 0.5, 0.75, 1", options={"resolutions": (0.5, 0.75, 1.0)}),
    Variant("progressive 0.75, 1", options={"resolutions": (0.75, 1.0)}),
    Variant("one cycle", options={"schedule": "one_cycle"}),
    Variant("no average", options={"ema": None}),
    Variant("cutout 8", options={"cutout": 8}),
    Variant("fp32", options={"precision": "fp32"}),
    Variant("batch 64", options={"batch_size": 64, "lr": 0.07}),
    Variant("batch 256", options={"batch_size": 256, "lr": 0.15}),
    Variant("lr 0.2", options={"lr": 0.2}),
    Variant("lr 0.05", options={"lr": 0.05}),
)


def seconds_of_epoch(context: Context, model: torch.nn.Module, options: TrainingOptions) -> float:
    """Mean over the resolutions, from a few steps of each."""
    images = len(context.data.train)
    shares = options.resolutions or (1.0,)
    training = _Training(model, context, options, label_loss(options), "speed", None)
    model.train()
    total = 0.0
    for share in shares:
        batches = training_batches(
            context.data.train,
            context.data.normalization,
            training.augmentation,
            options.batch_size,
            context.device,
            seed=0,
            epoch=1,
            scale=share,
        )
        for _ in range(WARM_UP):
            training._step(next(batches))
        start = time.perf_counter()
        for _ in range(TIMED):
            training._step(next(batches))
        total += (time.perf_counter() - start) / TIMED * (images // options.batch_size)
    return total / len(shares)


def try_out(variant: Variant, source: str, minutes: float, folder: Path) -> dict[str, Any]:
    """Train for `minutes` and give what came of it."""
    catalogue = discover()
    model_source = catalogue.build_model(variant.spec(source))
    data = catalogue.build_dataset({"name": "cifar10", "validation": 0.05}).load(SHAPE, 0).development()
    plan = folder / f"{variant.name}.plan.json"
    torch.manual_seed(0)
    context = Context(data, model_source.load(), SHAPE, torch.device("cpu"), 0, Progress())
    if not plan.exists():
        with kept_memory():
            seconds = seconds_of_epoch(context, model_source.load(), variant.settings(1))
        epochs = max(1, int(60 * minutes / seconds))
        write_json(plan, {"seconds_of_epoch": seconds, "epochs": epochs})
    planned = json.loads(plan.read_text())
    checkpoints = Checkpoints(folder / variant.name)
    options = variant.settings(planned["epochs"])
    torch.manual_seed(0)
    model = model_source.load()
    context = Context(data, model, SHAPE, torch.device("cpu"), 0, checkpoints=checkpoints)
    history = fit(model, context, options, label_loss(options), "train")
    last, count = history.scores[-1], history.scores[-1].count
    return {"epochs": planned["epochs"], "seconds": checkpoints.seconds, "correct": last.correct, "images": count}


def main() -> None:
    """Try the variants in turn, and print the table so far after each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--source", default="mobilenet_v3_small")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", help="names of variants")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for variant in VARIANTS:
        if arguments.only and variant.name not in arguments.only:
            continue
        result = arguments.out / f"{variant.name}.json"
        if not result.exists():
            write_json(result, try_out(variant, arguments.source, arguments.minutes, arguments.out))
        found = json.loads(result.read_text())
        share = 100 * found["correct"] / found["images"]
        print(f"| {variant.name} | {found['epochs']} | {found['seconds'] / 60:.1f} | {share:.1f} |", flush=True)


if __name__ == "__main__":
    main()
