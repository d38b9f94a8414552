"""Annotations for torchao's PT2E flow that let QDQ runtimes use integer kernels.

A runtime fuses `dequantize -> operator -> quantize` into one integer kernel only if every tensor around it is quantized
exactly once. So the output annotation is on the *last* node that the runtime fuses (the ReLU after a convolution, not
the convolution), residual adds and squeeze-excite products are annotated on both inputs, and h-swish is written as
x * hardsigmoid(x), with a fixed range for hardsigmoid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.fx import GraphModule, Node

from mbcompress.graph import clamp_bounds, node_args

from .coverage import float_layers
from .fake_quantize import REDUCED_LIMIT, UNIT_INTERVAL_SPEC, WEIGHT_LIMIT
from .pt2e import (
    QuantizationAnnotation,
    QuantizationSpec,
    QuantizationSpecBase,
    Quantizer,
    SharedQuantizationSpec,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from .scheme import Scheme

aten = torch.ops.aten
ANNOTATION = "quantization_annotation"

WEIGHTED = {aten.conv2d.default, aten.linear.default}
BINARY = {aten.add.Tensor, aten.add_.Tensor, aten.mul.Tensor, aten.mul_.Tensor}
POOLS = {aten.adaptive_avg_pool2d.default, aten.avg_pool2d.default, aten.mean.dim}
SHAPES = {
    aten.flatten.using_ints,
    aten.reshape.default,
    aten.squeeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.unsqueeze.default,
    aten.permute.default,
    aten.transpose.int,
}
SELECTIONS = SHAPES | {aten.max_pool2d.default, aten.pad.default, aten.constant_pad_nd.default}
"""Operators whose outputs are values of their input, or zero, so both share one scale and zero point."""

UNIT_INTERVAL = {aten.hardsigmoid.default, aten.sigmoid.default}


class IntegerQuantizer(Quantizer):  # type: ignore[misc]  # torchao is not typed
    """Annotates a CNN in the canonical form of `mbcompress.graph.canonicalize`.

    Args:
        scheme: which layers stay in float, and which have 7-bit weights.
        activation: specification of activations.
        weight: largest weight -> specification of weights.

    Attributes:
        unsupported: operators without int8 support, each with the reason; set by `validate`.
    """

    def __init__(self, scheme: Scheme, activation: QuantizationSpec, weight: Callable[[int], QuantizationSpec]) -> None:
        super().__init__()
        self.unsupported: list[str] = []
        self._scheme = scheme
        self._activation = activation
        self._weight = weight
        self._ignored: set[Node] = set()

    def annotate(self, model: GraphModule) -> GraphModule:
        for node in model.graph.nodes:
            if node.target in WEIGHTED:
                self._annotate_layer(node)
            elif node.target in BINARY:
                tensors = [arg for arg in node.args[:2] if isinstance(arg, Node)]
                if len(tensors) == 2:
                    self._annotate(node, tensors)
            elif node.target in POOLS:
                self._annotate(node, [node.args[0]])
            elif node.target in UNIT_INTERVAL:
                self._annotate(node, [node.args[0]], UNIT_INTERVAL_SPEC)
            elif node.target == aten.cat.default:
                # a range per input: a shared average would clip the widest
                self._annotate(node, node.args[0])
            elif node.target in SELECTIONS:
                self._annotate_selection(node)
            elif clamp_bounds(node) and ANNOTATION not in node.meta and node not in self._ignored:  # not fused
                self._annotate(node, [node.args[0]])
        return model

    def validate(self, model: GraphModule) -> None:
        """Collect the operators without an annotation, which stay in float; raises nothing."""
        self.unsupported = float_layers(model, ANNOTATION, self._ignored)

    def _annotate_layer(self, node: Node) -> None:
        name = layer_name(node)
        if name in self._scheme.float_layers:
            self._ignored |= {node, last_fused(node)}
            return
        limit = REDUCED_LIMIT if name in self._scheme.reduce_range_layers else WEIGHT_LIMIT
        x, weight = node_args(node)[:2]
        self._annotate(node, [x])
        node.meta[ANNOTATION].input_qspec_map[weight] = self._weight(limit)

    def _annotate(self, node: Node, tensors: list[Node], output: QuantizationSpecBase | None = None) -> None:
        inputs = dict.fromkeys(tensors, self._activation)
        last = last_fused(node)
        # logits stay in float, except after a convolution, which without an int8 output would run in float
        is_float = _gives_logits(last) and node.target != aten.conv2d.default
        result = None if is_float else output or self._activation
        node.meta[ANNOTATION] = QuantizationAnnotation(inputs, result if last is node else None, _annotated=True)
        if last is not node:
            last.meta[ANNOTATION] = QuantizationAnnotation({}, result, _annotated=True)

    def _annotate_selection(self, node: Node) -> None:
        x = node_args(node)[0]
        if not (_gives_logits(node) and not _comes_from_convolution(x)):
            shared = SharedQuantizationSpec((x, node)) if _adds_nothing(node) else self._activation
            self._annotate(node, [x], shared)


def layer_name(node: Node) -> str:
    """Return the module path of a convolution or linear layer in a graph, prepared or not."""
    weight = node.args[1]
    while isinstance(weight, Node) and weight.op == "call_module":
        weight = weight.args[0]
    if isinstance(weight, Node) and weight.op == "get_attr":
        return str(weight.target).removesuffix(".weight")
    return node.name


def _adds_nothing(node: Node) -> bool:
    """Whether `node` is not a padding, or pads with zeros or with values of its input."""
    if node.target not in (aten.pad.default, aten.constant_pad_nd.default):
        return True
    mode = "constant" if node.target == aten.constant_pad_nd.default else _argument(node, 2, "mode", "constant")
    value = _argument(node, 2 if node.target == aten.constant_pad_nd.default else 3, "value", 0)
    return mode != "constant" or not value


def _argument(node: Node, position: int, name: str, default: Any) -> Any:
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def _gives_logits(node: Node) -> bool:
    """Whether only shape operators lie between `node` and the model's output."""
    return all(user.op == "output" or (user.target in SHAPES and _gives_logits(user)) for user in node.users)


def _comes_from_convolution(node: Node) -> bool:
    while node.target in SHAPES:
        node = node_args(node)[0]
    return node.target == aten.conv2d.default


def last_fused(node: Node) -> Node:
    """Return the ReLU or ReLU6 that a runtime fuses into `node`, or `node` itself."""
    users = list(node.users)
    return users[0] if len(users) == 1 and clamp_bounds(users[0]) else node
