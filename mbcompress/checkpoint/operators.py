"""Operators allowed in stored graphs: functions of tensors that neither read files nor run code.

Some `aten` operators do (`from_file` maps a file into memory), so only operators listed here or in an operator set of
an installed plugin are allowed.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
import torch.ao.quantization.fx._decomposed  # registers torch.ops.quantized_decomposed, which torchao converts to

from mbcompress.contract.operators import OperatorSet
from mbcompress.graph.operators import register_operators
from mbcompress.registry.registry import TORCHS_OWN

if TYPE_CHECKING:
    from mbcompress.registry.registry import Registry

Operator = Callable[..., Any]
Operators = Mapping[str, OperatorSet]
"""Operator sets by namespace."""

NO_OPERATORS: Operators = MappingProxyType({})

LAYERS = """
    conv2d.default conv2d.padding conv_transpose2d.input linear.default matmul.default einsum.default
    batch_norm.default group_norm.default layer_norm.default scaled_dot_product_attention.default
"""
ACTIVATIONS = """
    relu.default relu_.default relu6.default relu6_.default hardtanh.default hardtanh_.default
    hardswish.default hardswish_.default hardsigmoid.default hardsigmoid_.default
    sigmoid.default sigmoid_.default silu.default silu_.default gelu.default mish.default mish_.default tanh.default
    leaky_relu.default leaky_relu_.default elu.default elu_.default prelu.default softplus.default
    clamp.default clamp_.default clamp_min.default clamp_max.default softmax.int log_softmax.int
    dropout.default dropout_.default feature_dropout.default
"""
ARITHMETIC = """
    add.Tensor add_.Tensor sub.Tensor sub_.Tensor mul.Tensor mul_.Tensor div.Tensor div_.Tensor
    add.Scalar sub.Scalar mul.Scalar div.Scalar rsub.Scalar neg.default abs.default exp.default
    pow.Tensor_Scalar sqrt.default rsqrt.default
"""
POOLING = """
    adaptive_avg_pool2d.default avg_pool2d.default max_pool2d.default adaptive_max_pool2d.default
    mean.dim mean.default sum.dim_IntList amax.default
"""
SHAPES = """
    flatten.using_ints view.default reshape.default permute.default transpose.int squeeze.dim squeeze.dims
    unsqueeze.default contiguous.default clone.default slice.Tensor select.int chunk.default split.Tensor
    split_with_sizes.default cat.default stack.default pad.default constant_pad_nd.default channel_shuffle.default
    pixel_shuffle.default sym_size.int alias.default detach.default detach_.default lift_fresh_copy.default to.dtype
"""
QUANTIZATION = """
    quantize_per_tensor.default dequantize_per_tensor.default quantize_per_channel.default
    dequantize_per_channel.default
"""
ALLOWED = frozenset(
    [f"aten.{name}" for group in (LAYERS, ACTIVATIONS, ARITHMETIC, POOLING, SHAPES) for name in group.split()]
    + [f"quantized_decomposed.{name}" for name in QUANTIZATION.split()]
)
ITEM = "getitem"
"""Selects one of several outputs, such as those of `chunk`."""


def operator_sets(registry: Registry) -> Operators:
    """Return the operator sets of installed plugins."""
    return {name: operator_set for name, (_, operator_set) in registry.operators.items()}


def operator_name(function: object) -> str:
    """Return the name of a node's target for `find_operator`."""
    return ITEM if function is operator.getitem else str(function)


def find_operator(name: str, operators: Operators) -> Operator:
    """Return the operator with this name; register it with torch if it is from a plugin.

    Raises:
        KeyError: the operator is not allowed.
    """
    if name == ITEM:
        return operator.getitem
    if name not in ALLOWED:
        _register(name, operators)
    namespace, packet, overload = name.split(".")
    function: Operator = getattr(getattr(getattr(torch.ops, namespace), packet), overload)
    return function


def _register(name: str, operators: Operators) -> None:
    namespace = name.partition(".")[0]
    if namespace in TORCHS_OWN or name not in operators[namespace].operators:
        raise KeyError(name)
    register_operators([operators[namespace]])


def is_in_place(function: object) -> bool:
    """Whether the operator modifies its input, so that it is needed even if its result is unused."""
    return isinstance(function, torch._ops.OpOverload) and function._schema.is_mutable
