"""Detect the traits of a model."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mbcompress.contract.traits import Trait
from mbcompress.registry.registry import TORCHS_OWN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import nn

    from mbcompress.contract.runtimes import ConvolutionCount


def is_float(model: nn.Module, images: Tensor) -> bool:
    """Whether it can be copied and trained: no integer weights, a gradient for every parameter, operators of torch."""
    try:
        twin = copy.deepcopy(model).requires_grad_(True)
        with _Namespaces() as used:
            twin(images).square().sum().backward()
    except Exception:  # a graph that does not support it may raise anything
        return False
    parameters = list(twin.parameters())
    integers = any(tensor.dtype == torch.int8 for tensor in twin.state_dict().values())
    own = used.namespaces <= set(TORCHS_OWN)
    return own and bool(parameters) and not integers and all(parameter.grad is not None for parameter in parameters)


class _Namespaces(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the namespaces of called operators; passes cannot prune or quantize custom operators."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.namespaces: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.namespaces.add(func.namespace)
        return func(*args, **(kwargs or {}))


def is_int8(convolutions: ConvolutionCount) -> bool:
    """Whether the runtime executes convolutions of the exported file on integers."""
    return convolutions.int8 > 0


LEAST_ZEROS = 0.01


def is_sparse(model: nn.Module) -> bool:
    """Whether some weight has at least 1 % zeros and is not all zeros."""
    weights = [tensor for tensor in model.state_dict().values() if isinstance(tensor, Tensor) and tensor.dim() > 1]
    return any(LEAST_ZEROS <= float((weight == 0).float().mean()) < 1 for weight in weights)


UNDECLARED = frozenset({Trait.SPARSE})
"""Traits that a model may have by chance; rounding can create zeros."""

MEANING: dict[Trait, str] = {
    Trait.FLOAT: "floating-point weights that can be copied and trained",
    Trait.SPARSE: "a weight of which at least 1 % is zero",
    Trait.INT8: "convolutions that ONNX Runtime executes on integers",
}


def observe(model: nn.Module, images: Tensor, convolutions: Callable[[], ConvolutionCount]) -> set[Trait]:
    """Return the traits of `model`.

    Args:
        model: the model.
        images: a batch for it.
        convolutions: counts the convolutions of the exported file.
    """
    traits = {Trait.FLOAT} if is_float(model, images) else set()
    traits |= {Trait.SPARSE} if is_sparse(model) else set()
    return traits | ({Trait.INT8} if is_int8(convolutions()) else set())
