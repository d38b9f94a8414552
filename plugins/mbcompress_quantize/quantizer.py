"""Where int8 goes: annotations for torchao's PT2E flow, made so that a QDQ runtime executes them as integers.

Activations are uint8, asymmetric, per tensor; weights int8, symmetric, per output channel, in -127..127: the pair that
ONNX Runtime and OpenVINO run fastest on x86-64. Scheme: Jacob et al., "Quantization and Training of Neural Networks for
Efficient Integer-Arithmetic-Only Inference", 2018, https://arxiv.org/abs/1712.05877.

A runtime computes `dequantize -> operator -> quantize` as one integer kernel only when every tensor around it is
quantized exactly once. So the output annotation sits on the *last* node that the runtime fuses (a convolution's ReLU,
not the convolution), residual adds and squeeze-excite products are annotated on both inputs, and h-swish is, by
`rewrites`, x * hardsigmoid(x), whose second factor has a known range.
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

from .coverage import float_layers
from .rewrites import arguments, bounds

aten = torch.ops.aten
ANNOTATION = "quantization_annotation"

MOVING = 0.05
"""Weight of a batch in the activation ranges while training."""

ACTIVATION = QuantizationSpec(
    dtype=torch.uint8,
    quant_min=0,
    quant_max=255,
    qscheme=torch.per_tensor_affine,
    observer_or_fake_quant_ctr=FusedMovingAvgObsFakeQuantize.with_args(
        observer=MovingAverageMinMaxObserver, averaging_constant=MOVING, eps=2**-12
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


UNIT_INTERVAL_SPEC = QuantizationSpec(
    dtype=torch.uint8,
    quant_min=0,
    quant_max=255,
    qscheme=torch.per_tensor_affine,
    observer_or_fake_quant_ctr=UnitInterval,
)

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
"""What comes out are numbers that went in, or zero, so both sides share one scale and zero point."""

UNIT_INTERVAL = {aten.hardsigmoid.default, aten.sigmoid.default}


class IntegerQuantizer(Quantizer):  # type: ignore[misc]  # torchao is not typed
    """Annotates a CNN in the spelling of `rewrites.simplify`.

    Attributes:
        float_layers: filled by annotation: the operators that stay in float, each with the reason.
    """

    def __init__(self) -> None:
        super().__init__()
        self.float_layers: list[str] = []

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
            elif node.target in UNIT_INTERVAL:
                _annotate(node, {node.args[0]: ACTIVATION}, UNIT_INTERVAL_SPEC)
            elif node.target == aten.cat.default:
                # a range each: one that is averaged over all of them would clip the widest
                _annotate(node, dict.fromkeys(node.args[0], ACTIVATION))
            elif node.target in SELECTIONS:
                _annotate_selection(node)
            elif bounds(node) and ANNOTATION not in node.meta:  # not fused into the operator before it
                _annotate(node, {node.args[0]: ACTIVATION})
        return model

    def validate(self, model: GraphModule) -> None:
        """Nothing to refuse: what has no annotation stays in float, and is remembered to be told."""
        self.float_layers = float_layers(model, ANNOTATION)


def _annotate(node: Node, inputs: dict[Node, QuantizationSpecBase], output: QuantizationSpecBase = ACTIVATION) -> None:
    last = _last_fused(node)
    # logits stay as precise as they were summed up, but a convolution without an int8 output would be a float one
    result = None if _gives_logits(last) and node.target != aten.conv2d.default else output
    node.meta[ANNOTATION] = QuantizationAnnotation(inputs, result if last is node else None, _annotated=True)
    if last is not node:
        last.meta[ANNOTATION] = QuantizationAnnotation({}, result, _annotated=True)


def _annotate_selection(node: Node) -> None:
    x = arguments(node)[0]
    if not (_gives_logits(node) and not _comes_from_convolution(x)):
        shared = SharedQuantizationSpec((x, node)) if _adds_nothing(node) else ACTIVATION
        _annotate(node, {x: ACTIVATION}, shared)


def _adds_nothing(node: Node) -> bool:
    """Whether a padding, if it is one, is with zeros or with the image's own numbers."""
    if node.target not in (aten.pad.default, aten.constant_pad_nd.default):
        return True
    mode = "constant" if node.target == aten.constant_pad_nd.default else _argument(node, 2, "mode", "constant")
    value = _argument(node, 2 if node.target == aten.constant_pad_nd.default else 3, "value", 0)
    return mode != "constant" or not value


def _argument(node: Node, position: int, name: str, default: Any) -> Any:
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def _gives_logits(node: Node) -> bool:
    """Whether nothing but changes of shape lies between `node` and the network's output."""
    return all(user.op == "output" or (user.target in SHAPES and _gives_logits(user)) for user in node.users)


def _comes_from_convolution(node: Node) -> bool:
    while node.target in SHAPES:
        node = arguments(node)[0]
    return node.target == aten.conv2d.default


def _last_fused(node: Node) -> Node:
    """The ReLU or ReLU6 that a runtime computes inside `node`, or `node` itself."""
    users = list(node.users)
    return users[0] if len(users) == 1 and bounds(users[0]) else node
