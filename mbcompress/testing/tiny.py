"""Small MobileNets and synthetic images to test passes with. Imports torch."""

from __future__ import annotations

import copy
import functools
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import update_bn

from mbcompress.contract.context import Context
from mbcompress.data.seed import fork_rng, seed_everything
from mbcompress.data.splits import Augmentation, Images, Normalization, Splits

if TYPE_CHECKING:
    from mbcompress.contract.models import ModelSource
    from mbcompress.registry.registry import Registry

OPTIONS = {"width": 0.25, "input_size": 32, "num_classes": 10, "dropout": 0.0}
SHAPE = (3, 32, 32)
CLASSES = 10
COUNTS = {"train": 64, "calibration": 32, "validation": 20, "test": 20}
SEED = 0
STEPS = 40


def tiny_model(source: str, registry: Registry) -> nn.Module:
    """A quarter-width model in eval mode, trained on the synthetic images; the same in every call.

    It is trained, because rounding errors grow from layer to layer with random weights, which makes int8 meaningless.

    Returns:
        (N, 3, 32, 32) float32 -> (N, 10) logits.
    """
    return copy.deepcopy(_trained(registry.build_model({"source": source, **OPTIONS})))


@functools.cache
def _trained(source: ModelSource) -> nn.Module:
    splits = tiny_splits()
    images = torch.from_numpy(splits.normalization.apply(splits.train.pixels))
    labels = torch.from_numpy(splits.train.labels)
    with fork_rng(()):
        seed_everything(SEED)
        model = source.load().train()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for _ in range(STEPS):
            optimizer.zero_grad()
            functional.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        update_bn([images], model)
    model.zero_grad()
    return model.eval()


def tiny_splits() -> Splits:
    """Ten classes of noisy stripes: (N, 3, 32, 32), the same in every call."""
    generator = np.random.default_rng(SEED)
    parts = {name: _images(count, generator) for name, count in COUNTS.items()}
    return Splits(
        train=parts["train"],
        calibration=parts["calibration"],
        validation=parts["validation"],
        test=parts["test"],
        classes=tuple(map(str, range(CLASSES))),
        normalization=Normalization((0.5,) * 3, (0.25,) * 3),
        augmentation=Augmentation(),
    )


def _images(count: int, generator: np.random.Generator) -> Images:
    labels = np.arange(count, dtype=np.int64) % CLASSES
    wave = np.sin(np.arange(SHAPE[2])[None] * (labels[:, None] + 1) * np.pi / SHAPE[2])  # (N, W)
    noise = generator.normal(0, 20, (count, *SHAPE))
    pixels = 128 + 80 * wave[:, None, None, :] + noise
    return Images(np.ascontiguousarray(pixels.clip(0, 255).astype(np.uint8)), labels)


def tiny_context(model: nn.Module) -> Context:
    """A context with the synthetic images, the CPU, and `model` as the baseline."""
    baseline = copy.deepcopy(model).eval().requires_grad_(False)
    return Context(tiny_splits().development(), baseline, SHAPE, torch.device("cpu"), SEED)


def probe() -> torch.Tensor:
    """Images to compare two models on: (20, 3, 32, 32) float32, normalized."""
    splits = tiny_splits()
    return torch.from_numpy(splits.normalization.apply(splits.validation.pixels))
