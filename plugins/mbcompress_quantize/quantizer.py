"""Where int8 goes: annotations for torchao's PT2E flow, made so that a QDQ runtime executes them as integers.

Activations are uint8, asymmetric, per tensor; weights int8, symmetric, per output channel, in -127..127: the pair that
ONNX Runtime and OpenVINO run fastest on x86-64. Scheme: Jacob et al., "Quantization and Training of Neural Networks for
Efficient Integer-Arithmetic-Only Inference", 2018, https://arxiv.org/abs/1712.05877.

A runtime computes `dequantize -> operator -> quantize` as one integer kernel only when every tensor around it is
quantized exactly once. So the output annotation sits on the *last* node that the runtime fuses (a convolution's ReLU,
not the convolution), residual adds and squeeze-excite products are annotated on both inputs, and h-swish is taken apart
into x * hardsigmoid(x), whose second factor has a known range.
"""

from typing import Any

import torch
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e import (
    FixedQParamsFakeQuantize,
    FixedQParamsObserver,
    FusedMovingAvgObsFakeQuantize,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
)
from torchao.quantization.pt2e.quantizer import (
    QuantizationAnnotation,
    QuantizationSpec,
    QuantizationSpecBase,
    Quantizer,
    SharedQuantizationSpec,
)

aten = torch.ops.aten
ANNOTATION = "quantization_annotation"

ACTIVATION = QuantizationSpec(
    dtype=torch.uint8,
    quant_min=0,
    quant_max=255,
    qscheme=torch.per_tensor_affine,
    observer_or_fake_quant_ctr=FusedMovingAvgObsFakeQuantize.with_args(
        observer=MovingAverageMinMaxObserver, averaging_constant=0.05, eps=2**-12
    ),
)
WEIGHT = QuantizationSpec(
    dtype=torch.int8,
    quant_min=-127,
    quant_max=127,
    qscheme=torch.per_channel_symmetric,
    ch_axis=0,
    # averaging_constant=1: the range is that of the weights as they are now, not a mean over past steps
    observer_or_fake_quant_ctr=FusedMovingAvgObsFakeQuantize.with_args(
        observer=MovingAveragePerChannelMinMaxObserver, averaging_constant=1.0, eps=2**-16
    ),
)


class UnitInterval(FixedQParamsFakeQuantize):  # type: ignore[misc]  # torchao is not typed
    """Fake quantization of what lies in 0..1 whatever the data, as a hard sigmoid does: steps of 1/255 from zero."""

    def __init__(self, **spec: Any) -> None:
        super().__init__(FixedQParamsObserver.with_args(scale=1 / 255, zero_point=0, **spec))


HARD_SIGMOID = QuantizationSpec(
    dtype=torch.uint8,
    quant_min=0,
    quant_max=255,
    qscheme=torch.per_tensor_affine,
    observer_or_fake_quant_ctr=UnitInterval,
)

WEIGHTED = {aten.conv2d.default, aten.linear.default}
BINARY = {aten.add.Tensor, aten.add_.Tensor, aten.mul.Tensor, aten.mul_.Tensor}
POOLS = {aten.adaptive_avg_pool2d.default, aten.mean.dim}
SHAPES = {aten.flatten.using_ints, aten.view.default, aten.reshape.default, aten.dropout.default, aten.dropout_.default}
CLAMPS = {aten.relu.default, aten.relu_.default, aten.hardtanh.default, aten.hardtanh_.default}
HARD_SIGMOIDS = {aten.hardsigmoid.default, aten.hardsigmoid_.default}
HARD_SWISHES = {aten.hardswish.default, aten.hardswish_.default}


class IntegerQuantizer(Quantizer):  # type: ignore[misc]  # torchao is not typed
    """Annotates convolutions, linear layers, adds, products and poolings of a CNN in the ATen dialect."""

    def transform_for_annotation(self, model: GraphModule) -> GraphModule:
        for node in list(model.graph.nodes):
            if node.target in HARD_SWISHES:
                _split_hard_swish(model, node)
        model.recompile()
        return model

    def annotate(self, model: GraphModule) -> GraphModule:
        for node in model.graph.nodes:
            if node.target in WEIGHTED:
                x, weight = node.args[:2]
                _annotate(node, {x: ACTIVATION, weight: WEIGHT})
            elif node.target in BINARY:
                tensors = [arg for arg in node.args[:2] if isinstance(arg, Node)]
                if len(tensors) == 2:
                    _annotate(node, dict.fromkeys(tensors, ACTIVATION))
            elif node.target in POOLS:
                _annotate(node, {node.args[0]: ACTIVATION})
            elif node.target in HARD_SIGMOIDS:
                _annotate(node, {node.args[0]: ACTIVATION}, HARD_SIGMOID)
            elif node.target in SHAPES:
                x = node.args[0]
                _annotate(node, {x: ACTIVATION}, SharedQuantizationSpec((x, node)))
        return model

    def validate(self, model: GraphModule) -> None:
        """Nothing to refuse: an operator without an annotation stays in float, and the runtime's count shows it."""


def _annotate(node: Node, inputs: dict[Node, QuantizationSpecBase], output: QuantizationSpecBase = ACTIVATION) -> None:
    last = _last_fused(node)
    feeds_output = any(user.op == "output" for user in last.users)
    result = None if feeds_output else output
    node.meta[ANNOTATION] = QuantizationAnnotation(inputs, result if last is node else None, _annotated=True)
    if last is not node:
        last.meta[ANNOTATION] = QuantizationAnnotation({}, result, _annotated=True)


def _last_fused(node: Node) -> Node:
    """The ReLU or ReLU6 that a runtime computes inside `node`, or `node` itself."""
    users = list(node.users)
    return users[0] if len(users) == 1 and users[0].target in CLAMPS else node


def _split_hard_swish(model: GraphModule, node: Node) -> None:
    x = node.args[0]
    with model.graph.inserting_before(node):
        gate = model.graph.call_function(aten.hardsigmoid.default, (x,))
        product = model.graph.call_function(aten.mul.Tensor, (x, gate))
    for new in (gate, product):
        new.meta = dict(node.meta)
    node.replace_all_uses_with(product)
    model.graph.erase_node(node)
