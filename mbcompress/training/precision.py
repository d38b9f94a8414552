"""bf16 autocast, with an fp32 fallback for slow bf16 gradients on the CPU.

oneDNN uses reference loops for some bf16 gradients of depthwise convolutions, up to 30 times slower than in fp32
(measured with torch 2.13 on a CPU with AMX): the input gradient for strides above 1, and the weight gradient for
kernels above 3x3 and feature maps of 2x2 or smaller. These are computed in fp32.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

LARGEST_KERNEL = 3
SMALLEST_MAP = 3


@contextmanager
def mixed_precision(device: torch.device, precision: str) -> Iterator[None]:
    """Autocast to bf16 while the block runs; do nothing for 'fp32'."""
    if precision != "bf16":
        yield
        return
    with torch.autocast(device.type, torch.bfloat16):
        if device.type != "cpu":
            yield
            return
        with _DepthwiseInBfloat16():
            yield


class _DepthwiseInBfloat16(TorchFunctionMode):
    """Runs depthwise convolutions with slow bf16 gradients through `_Depthwise`."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.conv2d and len(args) == 7 and not kwargs and _is_slow(*args):
            images, weight, _, *settings = args
            return _Depthwise.apply(images.bfloat16(), weight.bfloat16(), *settings)  # type: ignore[no-untyped-call]
        return func(*args, **kwargs)


def _is_slow(
    images: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int
) -> bool:
    depthwise = 1 < groups == weight.shape[0] and bias is None and isinstance(padding, tuple)
    return depthwise and (stride[0] > 1 or weight.shape[2] > LARGEST_KERNEL or min(images.shape[2:]) < SMALLEST_MAP)


class _Depthwise(torch.autograd.Function):
    """A bf16 convolution whose slow gradients are computed in fp32."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, *settings: Any) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.settings = settings
        stride, padding, dilation, groups = settings
        return torch.convolution(images, weight, None, stride, padding, dilation, False, [0, 0], groups)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        images, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.settings
        (gradient,) = gradients

        def grads(gradient: Tensor, images: Tensor, weight: Tensor, wanted: list[bool]) -> Any:
            return torch.ops.aten.convolution_backward(
                gradient, images, weight, None, stride, padding, dilation, False, [0, 0], groups, wanted
            )

        if weight.shape[2] > LARGEST_KERNEL or min(images.shape[2:]) < SMALLEST_MAP:
            of_images, of_weight, _ = grads(gradient.float(), images.float(), weight.float(), [True, True, False])
        else:
            shape = torch.empty_like(images, dtype=torch.float32)  # only its shape is used
            of_images, _, _ = grads(gradient.float(), shape, weight.float(), [True, False, False])
            _, of_weight, _ = grads(gradient, images, weight, [False, True, False])
        return of_images.to(images.dtype), of_weight.to(weight.dtype), None, None, None, None
