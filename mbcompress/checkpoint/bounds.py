"""Bounds on what the operators of a stored network may give, held where nothing has storage yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mbcompress.errors import MbcompressError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_ELEMENTS = 2**30
"""Of one tensor, for two images: 4 GiB of float32."""

MAX_PIECES = 4096
"""That `split` and `chunk` may cut a tensor into."""


class Bounded(TorchDispatchMode):  # type: ignore[no-untyped-call]  # as is all of torch's module
    """While it lasts, an operator that would give more than that raises MbcompressError."""

    def __torch_dispatch__(
        self, func: Any, types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten.split.Tensor:
            _check_pieces(*args)
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.numel() > MAX_ELEMENTS:
            shape = "x".join(map(str, result.shape))
            raise MbcompressError(f"{func} gives {shape} for two images, more than {MAX_ELEMENTS:,} elements")
        return result


def _check_pieces(tensor: Tensor, size: int, dim: int = 0) -> None:
    pieces = tensor.shape[dim] // max(size, 1)
    if pieces > MAX_PIECES:
        raise MbcompressError(f"splits a tensor into {pieces} pieces, more than {MAX_PIECES}")
