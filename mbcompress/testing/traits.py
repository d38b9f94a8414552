"""Whether a model has a trait, found out by looking at it."""

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
    """It can be copied, no weights are integers, a gradient reaches every parameter, and torch alone computes."""
    try:
        twin = copy.deepcopy(model).requires_grad_(True)
        with _Namespaces() as used:
            twin(images).square().sum().backward()
    except Exception:  # whatever a graph that was not made for it raises
        return False
    parameters = list(twin.parameters())
    integers = any(tensor.dtype == torch.int8 for tensor in twin.state_dict().values())
    own = used.found <= set(TORCHS_OWN)
    return own and bool(parameters) and not integers and all(parameter.grad is not None for parameter in parameters)


class _Namespaces(TorchDispatchMode):  # type: ignore[no-untyped-call]  # as is all of torch's module
    """Remembers whose operators are called: those of others can be neither pruned nor quantized by passes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.found.add(func.namespace)
        return func(*args, **(kwargs or {}))


def is_int8(convolutions: ConvolutionCount) -> bool:
    """The runtime executes convolutions of the exported file on integers."""
    return convolutions.int8 > 0


LEAST_ZEROS = 0.01


def is_sparse(model: nn.Module) -> bool:
    """Some weight has zeros in it, a hundredth at least, and is not zero throughout."""
    weights = [tensor for tensor in model.state_dict().values() if isinstance(tensor, Tensor) and tensor.dim() > 1]
    return any(LEAST_ZEROS <= float((weight == 0).float().mean()) < 1 for weight in weights)


UNDECLARED = frozenset({Trait.SPARSE})
"""Traits that a model may have by chance: a zero may come of rounding, and nobody has to keep it."""

MEANING: dict[Trait, str] = {
    Trait.FLOAT: "floating-point weights that can be copied and trained",
    Trait.SPARSE: "a weight of which at least 1 % is zero",
    Trait.INT8: "convolutions that ONNX Runtime executes on integers",
}


def observed(model: nn.Module, images: Tensor, convolutions: Callable[[], ConvolutionCount]) -> set[Trait]:
    """The traits that `model` has.

    Args:
        convolutions: counts those of the exported file; called only if needed.
    """
    found = {Trait.FLOAT} if is_float(model, images) else set()
    found |= {Trait.SPARSE} if is_sparse(model) else set()
    return found | ({Trait.INT8} if is_int8(convolutions()) else set())
