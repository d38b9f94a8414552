"""The operator in plain PyTorch: differentiable, exportable, and the reference for all kernels."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from .matrices import winograd
from .tiles import ACTIVATIONS, TILES, Tile

if TYPE_CHECKING:
    from collections.abc import Callable

    from .matrices import Matrix

BY_TAPS = {tile.taps: tile for tile in TILES.values()}
APPLIED: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x.clone(),  # operators return new tensors
    "relu": torch.relu,
    "relu6": functional.relu6,
    "hardswish": functional.hardswish,
}


def pack(weight: Tensor, tile: Tile) -> Tensor:
    """Transform weights for the kernels: (C, 1, 3, 3) -> (taps, C), channels side by side."""
    taps = weight[:, 0]  # (C, 3, 3)
    if tile.width > 1:
        taps = taps @ _tensor(winograd(tile.width).filter, weight).T  # (C, 3, n)
    if tile.height > 1:
        taps = _tensor(winograd(tile.height).filter, weight) @ taps  # (C, n, n)
    return taps.reshape(len(weight), tile.taps).T.contiguous()


def depthwise3x3(x: Tensor, weight: Tensor, bias: Tensor, stride: int, activation: int) -> Tensor:
    """Compute a depthwise 3x3 convolution with padding 1 and an activation.

    Args:
        x: (N, C, H, W), any floating dtype and memory format.
        weight: (taps, C), from `pack`; the number of taps selects the tile.
        bias: (C,).
        stride: 1; with 9 taps also 2.
        activation: index into `ACTIVATIONS`.

    Returns:
        (N, C, (H - 1) // stride + 1, (W - 1) // stride + 1).
    """
    tile = BY_TAPS[len(weight)]
    if tile.name == "direct":
        channels = weight.shape[1]
        taps = weight.T.reshape(channels, 1, 3, 3)
        y = functional.conv2d(x, taps, bias, stride, padding=1, groups=channels)
    else:
        y = _filtered(x, weight, tile) + bias[:, None, None]
    return APPLIED[ACTIVATIONS[activation]](y)


def _filtered(x: Tensor, weight: Tensor, tile: Tile) -> Tensor:
    """(N, C, H, W) -> (N, C, H, W) in tiles; the input is zero-padded to a whole number of tiles."""
    height, width = x.shape[2:]
    down, across = -(-height // tile.height), -(-width // tile.width)
    padding = (1, across * tile.width - width + 1, 1, down * tile.height - height + 1)
    padded = functional.pad(x, padding)
    row = winograd(tile.width)
    d = padded.unfold(3, tile.width + 2, tile.width)  # (N, C, H', across, n)
    v = d @ _tensor(row.data, x).T
    if tile.height == 1:
        u = weight.reshape(3, tile.width + 2, -1).permute(0, 2, 1)[:, :, None, None]  # (3, C, 1, 1, n)
        m = torch.stack([v[:, :, start : start + down] * u[start] for start in range(3)]).sum(0)  # (N, C, H, across, n)
        y = m @ _tensor(row.output, x).T  # (N, C, H, across, m)
    else:
        column = winograd(tile.height)
        v = v.unfold(2, tile.height + 2, tile.height)  # (N, C, down, across, n, n): columns of a tile come last
        v = _tensor(column.data, x) @ v.transpose(-1, -2)
        m = v * weight.T.reshape(-1, 1, 1, tile.height + 2, tile.width + 2)
        y = _tensor(column.output, x) @ m @ _tensor(row.output, x).T  # (N, C, down, across, m, m)
        y = y.transpose(-2, -3)
    y = y.reshape(*x.shape[:2], down * tile.height, across * tile.width)
    return y[:, :, :height, :width]


def _tensor(matrix: Matrix, like: Tensor) -> Tensor:
    return torch.tensor(_floats(matrix), dtype=like.dtype, device=like.device)


@cache
def _floats(matrix: Matrix) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(map(float, row)) for row in matrix)
