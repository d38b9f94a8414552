"""Batches from images in memory: whole batches are shuffled, cropped, flipped and normalised at once."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from mbcompress.data import Augmentation, Images, Normalization

EVALUATION_BATCH = 256


def to_float(pixels: Tensor, normalization: Normalization) -> Tensor:
    """(N, C, H, W) uint8 or float32 -> normalised float32, channels last."""
    mean, std = (
        torch.tensor(values, device=pixels.device).view(1, -1, 1, 1)
        for values in (normalization.mean, normalization.std)
    )
    return ((pixels.float() / normalization.scale - mean) / std).contiguous(memory_format=torch.channels_last)


def evaluation_batches(
    images: Images, normalization: Normalization, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalised images and labels in their order."""
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
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch in random order, augmented; the last batch is dropped when it is short, unless it is the only one.

    Order and augmentation follow from `seed`, `epoch` and the number of the batch alone, so that an epoch can begin
    with any of its batches: `first`, from 0.
    """
    pixels, labels = torch.from_numpy(images.pixels), torch.from_numpy(images.labels)
    order = torch.randperm(len(images), generator=_generator(seed, epoch))
    for number in range(first, batches_per_epoch(len(images), batch_size)):
        index = order[number * batch_size : (number + 1) * batch_size]
        batch = augment(pixels[index], augmentation, _generator(seed, epoch, number))
        yield to_float(batch.to(device), normalization), labels[index].to(device)


def _generator(*entropy: int) -> torch.Generator:
    """Random numbers that are independent of those of any other entropy."""
    seed = np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(seed))


def batches_per_epoch(images: int, batch_size: int) -> int:
    """How many batches `training_batches` yields."""
    return max(1, images // batch_size)


def augment(pixels: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Random crop from a zero-padded frame and random mirroring, drawn for each image: (N, C, H, W)."""
    count, _, height, width = pixels.shape
    if padding := augmentation.crop_padding:
        framed = torch.nn.functional.pad(pixels, (padding,) * 4)
        top, left = (torch.randint(2 * padding + 1, (count, 1), generator=generator) for _ in range(2))
        rows = (top + torch.arange(height)).view(count, 1, height, 1)
        columns = (left + torch.arange(width)).view(count, 1, 1, width)
        image, channel = torch.arange(count).view(-1, 1, 1, 1), torch.arange(pixels.shape[1]).view(1, -1, 1, 1)
        pixels = framed[image, channel, rows, columns]
    if augmentation.flip:
        mirrored = torch.rand(count, 1, 1, 1, generator=generator) < 0.5
        pixels = torch.where(mirrored, pixels.flip(3), pixels)
    return pixels
