"""Yield batches from images in memory; augmentation and normalization work on whole batches."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from mbcompress.data.splits import Augmentation, Images, Normalization
from mbcompress.data.transforms import augment, cutout, mixup, randaugment

EVALUATION_BATCH = 256


@dataclass(frozen=True)
class Batch:
    """A batch of training images and labels.

    Attributes:
        images: (N, C, H, W) float32, normalized.
        labels: (N,) int64 class indices, or (N, K) float32 class probabilities with mixup.
        indices: (N,) int64 positions in the training split; None if images are augmented.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor | None = None

    def parts(self, count: int) -> list["Batch"]:
        """Split the batch into `count` parts, as even as possible."""
        columns = (self.images, self.labels, self.indices)
        return [Batch(*part) for part in zip(*(c.tensor_split(count) for c in columns if c is not None), strict=True)]


def to_float(pixels: Tensor, normalization: Normalization) -> Tensor:
    """Normalize (N, C, H, W) uint8 or float32 to float32 in channels_last memory format."""
    mean, std = (
        torch.tensor(values, device=pixels.device).view(1, -1, 1, 1)
        for values in (normalization.mean, normalization.std)
    )
    return ((pixels.float() / normalization.scale - mean) / std).contiguous(memory_format=torch.channels_last)


def evaluation_batches(
    images: Images, normalization: Normalization, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield normalized images and labels, in order."""
    pixels, labels = torch.from_numpy(images.pixels), torch.from_numpy(images.labels)
    for start in range(0, len(images), EVALUATION_BATCH):
        part = slice(start, start + EVALUATION_BATCH)
        yield to_float(pixels[part].to(device), normalization), labels[part].to(device)


def training_batches(
    images: Images,
    normalization: Normalization,
    augmentation: Augmentation,
    batch_size: int,
    device: torch.device,
    *,
    seed: int,
    epoch: int,
    first: int = 0,
    classes: int = 0,
    scale: float = 1.0,
    shard: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """Yield one epoch in random order, augmented; an incomplete last batch is dropped, unless it is the only one.

    Order and augmentation depend only on `seed`, `epoch` and the batch number, so that an epoch can resume at any
    batch.

    Args:
        first: the batch to start at, 0-based.
        classes: number of model outputs; used by mixup, whose labels are (N, classes) float32.
        scale: factor of the images' height and width.
        shard: (rank, world_size): the part of every batch for this process.
    """
    pixels, labels = torch.from_numpy(images.pixels), torch.from_numpy(images.labels)
    order = torch.randperm(len(images), generator=_generator(seed, epoch))
    rank, world_size = shard
    changes = scale != 1 or augmentation != replace(
        Augmentation(), randaugment_magnitude=augmentation.randaugment_magnitude
    )
    for number in range(first, batches_per_epoch(len(images), batch_size)):
        index = order[number * batch_size : (number + 1) * batch_size].tensor_split(world_size)[rank]
        generator = _generator(seed, epoch, number, *(shard if rank else ()))
        batch = augment(pixels[index], augmentation, generator).to(device)
        if scale != 1:
            size = [max(1, round(scale * side)) for side in batch.shape[2:]]
            batch = interpolate(batch.float(), size, mode="bilinear", antialias=True)
        if augmentation.randaugment:
            count, magnitude = augmentation.randaugment, augmentation.randaugment_magnitude
            unit, colors = batch.float() / normalization.scale, normalization.scale != 1
            batch = randaugment(unit, count, magnitude, generator, colors=colors) * normalization.scale
        drawn, targets = to_float(batch, normalization), labels[index].to(device)
        if augmentation.cutout:
            drawn = cutout(drawn, round(scale * augmentation.cutout), generator)
        if augmentation.mixup:
            drawn, targets = mixup(drawn, targets, augmentation.mixup, classes, generator)
        yield Batch(drawn, targets, None if changes else index)


def _generator(*entropy: int) -> torch.Generator:
    return torch.Generator().manual_seed(derived_seed(*entropy))


def derived_seed(*entropy: int) -> int:
    """Derive a seed; different entropy results in independent random numbers."""
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])


def batches_per_epoch(images: int, batch_size: int) -> int:
    """Return the number of batches that `training_batches` yields."""
    return max(1, images // batch_size)
