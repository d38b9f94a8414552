"""Random augmentation of whole batches of training images."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, one_hot, pad

from mbcompress.data.splits import Augmentation

FULL_MAGNITUDE = 30
"""The maximum magnitude of RandAugment."""


def augment(pixels: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Apply random crops with zero padding and random horizontal flips to (N, C, H, W) images of any dtype."""
    count, _, height, width = pixels.shape
    if padding := augmentation.crop_padding:
        framed = pad(pixels, (padding,) * 4)
        top, left = (torch.randint(2 * padding + 1, (count,), generator=generator) for _ in range(2))
        windows = framed.unfold(2, height, 1).unfold(3, width, 1)  # (N, C, 2p + 1, 2p + 1, H, W), a view
        pixels = windows.permute(0, 2, 3, 1, 4, 5)[torch.arange(count), top, left]
    if augmentation.flip:
        mirrored = torch.rand(count, generator=generator) < 0.5
        pixels = torch.where(mirrored.view(count, 1, 1, 1), pixels.flip(3), pixels)
    return pixels


def cutout(images: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Zero a square of `side` pixels at a random position in each of (N, C, H, W) images (DeVries and Taylor 2017)."""
    outside = None
    for size in images.shape[2:]:
        start = torch.randint(size, (len(images), 1), generator=generator) - side // 2
        place = torch.arange(size)
        beyond = ((place < start) | (place >= start + side)).to(images.device)
        outside = beyond.unsqueeze(2) if outside is None else outside | beyond.unsqueeze(1)
    assert outside is not None
    return images * outside.unsqueeze(1)


def mixup(
    images: Tensor, labels: Tensor, alpha: float, classes: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Mix each image and label with another of the batch, with a Beta(alpha, alpha) weight (Zhang et al. 2018).

    Returns:
        Images of the same shape, and labels (N, classes) float32 that sum to 1.
    """
    first, second = (float(torch._standard_gamma(torch.tensor(alpha), generator=generator)) for _ in range(2))
    weight = first / (first + second) if first + second > 0 else 0.5
    order = torch.randperm(len(images), generator=generator).to(images.device)
    targets = one_hot(labels, classes).float()
    return torch.lerp(images[order], images, weight), torch.lerp(targets[order], targets, weight)


def randaugment(
    images: Tensor, count: int, magnitude: int, generator: torch.Generator, *, colors: bool = True
) -> Tensor:
    """Apply `count` random operations to each image (RandAugment, Cubuk et al. 2020).

    Args:
        images: (N, C, H, W) float32; in 0..1 if `colors` is set.
        magnitude: strength from 0 to 30; signs are random.
        colors: whether to include color operations besides geometric ones.
    """
    choices = [*GEOMETRIC, *(COLORS if colors else ())]
    images = images.clone()
    for _ in range(count):
        drawn = torch.randint(len(choices), (len(images),), generator=generator)
        sign = torch.randint(2, (len(images),), generator=generator) * 2.0 - 1
        strength = (sign * magnitude / FULL_MAGNITUDE).to(images.device)
        for number, transform in enumerate(choices):
            chosen = (drawn == number).nonzero().flatten().to(images.device)
            if len(chosen):
                images[chosen] = transform(images[chosen], strength[chosen])
    return images


Transform = Callable[[Tensor, Tensor], Tensor]
"""Images (N, C, H, W) and strengths (N,) from -1 to 1 -> images."""


def _affine(images: Tensor, rows: list[list[Tensor | float]]) -> Tensor:
    zero = torch.zeros(len(images), device=images.device)
    theta = torch.stack([torch.stack([zero + value for value in row], dim=1) for row in rows], dim=1)
    grid = affine_grid(theta, list(images.shape), align_corners=False)
    return grid_sample(images, grid, align_corners=False)


def _identity(images: Tensor, strength: Tensor) -> Tensor:
    return images


def _rotate(images: Tensor, strength: Tensor) -> Tensor:
    angle = strength * math.radians(30)
    return _affine(images, [[angle.cos(), -angle.sin(), 0.0], [angle.sin(), angle.cos(), 0.0]])


def _shear_x(images: Tensor, strength: Tensor) -> Tensor:
    return _affine(images, [[1.0, 0.3 * strength, 0.0], [0.0, 1.0, 0.0]])


def _shear_y(images: Tensor, strength: Tensor) -> Tensor:
    return _affine(images, [[1.0, 0.0, 0.0], [0.3 * strength, 1.0, 0.0]])


def _translate_x(images: Tensor, strength: Tensor) -> Tensor:
    return _affine(images, [[1.0, 0.0, 0.66 * strength], [0.0, 1.0, 0.0]])


def _translate_y(images: Tensor, strength: Tensor) -> Tensor:
    return _affine(images, [[1.0, 0.0, 0.0], [0.0, 1.0, 0.66 * strength]])


def _blend(images: Tensor, other: Tensor, strength: Tensor) -> Tensor:
    """Move away from `other` for positive strengths and toward it for negative ones."""
    factor = (1 + 0.9 * strength).view(-1, 1, 1, 1)
    return torch.lerp(other.expand_as(images), images, factor.expand_as(images)).clamp(0, 1)


def _brightness(images: Tensor, strength: Tensor) -> Tensor:
    return _blend(images, torch.zeros_like(images), strength)


def _contrast(images: Tensor, strength: Tensor) -> Tensor:
    return _blend(images, images.mean((1, 2, 3), keepdim=True), strength)


def _color(images: Tensor, strength: Tensor) -> Tensor:
    return _blend(images, images.mean(1, keepdim=True), strength)


def _sharpness(images: Tensor, strength: Tensor) -> Tensor:
    blurred = torch.nn.functional.avg_pool2d(pad(images, (1,) * 4, mode="replicate"), 3, stride=1)
    return _blend(images, blurred, strength)


def _autocontrast(images: Tensor, strength: Tensor) -> Tensor:
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    return torch.where(high > low, (images - low) / (high - low).clamp(min=1e-6), images)


def _equalize(images: Tensor, strength: Tensor) -> Tensor:
    levels = (images * 255).round().long().flatten(2)
    counts = images.new_zeros(*levels.shape[:2], 256)
    counts.scatter_add_(2, levels, images.new_ones(1).expand_as(levels))
    return (counts.cumsum(2) / levels.shape[2]).gather(2, levels).view_as(images)


def _solarize(images: Tensor, strength: Tensor) -> Tensor:
    return torch.where(images >= 1 - strength.abs().view(-1, 1, 1, 1), 1 - images, images)


def _posterize(images: Tensor, strength: Tensor) -> Tensor:
    levels = 2 ** (8 - (4 * strength.abs()).round()).view(-1, 1, 1, 1)
    return (images * levels).floor().minimum(levels - 1) / (levels - 1)


GEOMETRIC: tuple[Transform, ...] = (_identity, _rotate, _shear_x, _shear_y, _translate_x, _translate_y)
COLORS: tuple[Transform, ...] = (
    _brightness,
    _contrast,
    _color,
    _sharpness,
    _autocontrast,
    _equalize,
    _solarize,
    _posterize,
)
