"""`torch.ops.mbcompress.depthwise3x3`: the compiled kernel if it was built, else the reference."""

from __future__ import annotations

import ctypes
import math
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from . import reference
from .library import KERNELS, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NAME = "mbcompress::depthwise3x3"
SCHEMA = "(Tensor x, Tensor weight, Tensor bias, int stride, int activation) -> Tensor"


@cache
def register() -> Status:
    """Register the operator with its fake implementation, autograd and FLOP formula; further calls do nothing."""
    status = _load()
    if not status.compiled:
        torch.library.define(NAME, SCHEMA)
        torch.library.impl(NAME, "CPU")(_reference)
    torch.library.register_fake(NAME)(_fake)
    torch.library.register_autograd(NAME, _backward, setup_context=_setup_context)
    register_flop_formula(torch.ops.mbcompress.depthwise3x3)(_cost)
    return status


def operator() -> Callable[[Tensor, Tensor, Tensor, int, int], Tensor]:
    """Return the registered operator; arguments as in `reference.depthwise3x3`, float32 tensors on the CPU."""
    register()
    registered: Callable[[Tensor, Tensor, Tensor, int, int], Tensor] = torch.ops.mbcompress.depthwise3x3.default
    return registered


def choose_level(name: str) -> bool:
    """Use an instruction set: avx512, avx2 or portable; return False if the CPU or the build does not support it."""
    return register().compiled and bool(ctypes.CDLL(str(KERNELS)).mbcompress_choose_level(name.encode()))


def _load() -> Status:
    if not KERNELS.is_file():
        return Status(compiled=False, reason="it was not built, because no working C++ compiler was found")
    try:
        torch.ops.load_library(KERNELS)  # type: ignore[no-untyped-call]
        library = ctypes.CDLL(str(KERNELS))
    except OSError as error:
        return Status(compiled=False, reason=f"its library cannot be loaded: {error}")
    library.mbcompress_registered.restype = ctypes.c_bool
    library.mbcompress_level.restype = ctypes.c_char_p
    library.mbcompress_choose_level.restype = ctypes.c_bool
    if not library.mbcompress_registered():
        return Status(compiled=False, reason=f"torch {torch.__version__} does not accept it")
    return Status(compiled=True, level=library.mbcompress_level().decode())


def _reference(x: Tensor, weight: Tensor, bias: Tensor, stride: int, activation: int) -> Tensor:
    y = reference.depthwise3x3(x, weight, bias, stride, activation)
    return y.contiguous(memory_format=torch.channels_last)


def _fake(x: Tensor, weight: Tensor, bias: Tensor, stride: int, activation: int) -> Tensor:
    n, c, h, w = x.shape
    h, w = (h - 1) // stride + 1, (w - 1) // stride + 1
    return torch.empty_strided((n, c, h, w), (h * w * c, 1, w * c, c), dtype=x.dtype, device=x.device)


def _cost(*shapes: object, out_shape: Sequence[int], **_: object) -> int:
    """FLOPs of a direct convolution, whatever the kernel: 9 multiplications and 9 additions per output."""
    return 2 * 9 * math.prod(out_shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, bias, ctx.stride, ctx.activation = inputs
    ctx.save_for_backward(x, weight, bias)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    needed = ctx.needs_input_grad[:3]
    x, weight, bias = inputs = [
        tensor.detach().requires_grad_(need) for tensor, need in zip(ctx.saved_tensors, needed, strict=True)
    ]
    with torch.enable_grad():
        y = reference.depthwise3x3(x, weight, bias, ctx.stride, ctx.activation)
        gradients = iter(torch.autograd.grad(y, [tensor for tensor in inputs if tensor.requires_grad], gradient))
    return (*(next(gradients) if need else None for need in needed), None, None)
