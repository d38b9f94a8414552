"""Where int8 goes: annotations for torchao's PT2E flow, made so that a QDQ runtime executes them as integers.

Activations are uint8, asymmetric, per tensor; weights int8, symmetric, per output channel, in -127..127: the pair that
ONNX Runtime and OpenVINO run fastest on x86-64. Scheme: Jacob et al., "Quantization and Training of Neural Networks for
Efficient Integer-Arithmetic-Only Inference", 2018, https://arxiv.org/abs/1712.05877.

A runtime computes `dequantize -> operator -> quantize` as one integer kernel only when every tensor around it is
quantized exactly once. So the output annotation sits on the *last* node that the runtime fuses (a convolution's ReLU,
not the convolution), residual adds and squeeze-excite products are annotated on both inputs, and h-swish is, by
`rewrites`, x * hardsigmoid(x), whose second factor has a known range.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e import (
    FakeQuantize,
    FixedQParamsFakeQuantize,
    FixedQParamsObserver,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    PerChannelMinMaxObserver,
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

if TYPE_CHECKING:
    from collections.abc import Callable

    from .scheme import Scheme

aten = torch.ops.aten
ANNOTATION = "quantization_annotation"

MOVING = 0.05
"""Weight of a batch in the activation ranges while training."""

WEIGHT_LIMIT, NARROW_LIMIT = 127, 64
"""Largest weight of a layer; 255 * (64 + 64) is the largest sum of two products that 16 bits hold."""


class Simulated(FakeQuantize):  # type: ignore[misc]  # torchao is not typed
    """Fake quantization that is converted with the very scale it computed with.

    torchao's fused module is not: its scale of a symmetric range whose largest number is negative is that / 128, while
    conversion takes it / 127, and the converted network is 32 dB from the trained one.
    """

    scale: Tensor
    zero_point: Tensor

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        if self.observer_enabled[0]:
            observed: tuple[Tensor, Tensor] = super().calculate_qparams()
            return observed
        return self.scale, self.zero_point

    def set_parameters(self, scale: float, zero_point: int) -> None:
        """Take numbers that were found elsewhere; training goes on from them."""
        device = self.scale.device
        self.scale = torch.tensor([scale], device=device)
        self.zero_point = torch.tensor([zero_point], dtype=self.zero_point.dtype, device=device)
        limits = (-127.5, 127.5) if self.qscheme == torch.per_tensor_symmetric else (-zero_point, 255 - zero_point)
        observer = self.activation_post_process
        observer.min_val, observer.max_val = (torch.tensor(limit * scale, device=device) for limit in limits)


def trained_activation(symmetric: bool) -> QuantizationSpec:
    """uint8, simulated; in training the range follows the data."""
    return QuantizationSpec(
        dtype=torch.uint8,
        quant_min=0,
        quant_max=255,
        qscheme=torch.per_tensor_symmetric if symmetric else torch.per_tensor_affine,
        observer_or_fake_quant_ctr=Simulated.with_args(
            observer=MovingAverageMinMaxObserver, averaging_constant=MOVING, eps=2**-12
        ),
    )


def simulated_weight(limit: int) -> QuantizationSpec:
    """int8 in -limit..limit, simulated; the range is that of the weights as they are now."""
    return QuantizationSpec(
        dtype=torch.int8,
        quant_min=-limit,
        quant_max=limit,
        qscheme=torch.per_channel_symmetric,
        ch_axis=0,
        observer_or_fake_quant_ctr=Simulated.with_args(
            observer=MovingAveragePerChannelMinMaxObserver, averaging_constant=1.0, eps=2**-16
        ),
    )


def observed_weight(limit: int) -> QuantizationSpec:
    """The same, where nothing is simulated."""
    observer = PerChannelMinMaxObserver.with_args(eps=2**-16)
    return replace(simulated_weight(limit), observer_or_fake_quant_ctr=observer)


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

    Args:
        scheme: which layers stay in float, and which have narrow weights.
        activation: of every tensor between layers.
        weight: largest weight -> the specification.

    Attributes:
        unsupported: filled by annotation: the operators that no runtime has in int8, each with the reason.
    """

    def __init__(self, scheme: Scheme, activation: QuantizationSpec, weight: Callable[[int], QuantizationSpec]) -> None:
        super().__init__()
        self.unsupported: list[str] = []
        self._scheme = scheme
        self._activation = activation
        self._weight = weight
        self._spared: set[Node] = set()

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
                # a range each: one that is averaged over all of them would clip the widest
                self._annotate(node, node.args[0])
            elif node.target in SELECTIONS:
                self._annotate_selection(node)
            elif bounds(node) and ANNOTATION not in node.meta and node not in self._spared:  # not fused
                self._annotate(node, [node.args[0]])
        return model

    def validate(self, model: GraphModule) -> None:
        """Nothing to refuse: what has no annotation stays in float, and is remembered to be told."""
        self.unsupported = float_layers(model, ANNOTATION, self._spared)

    def _annotate_layer(self, node: Node) -> None:
        name = layer_name(node)
        if name in self._scheme.float_layers:
            self._spared |= {node, last_fused(node)}
            return
        limit = NARROW_LIMIT if name in self._scheme.narrow_layers else WEIGHT_LIMIT
        x, weight = arguments(node)[:2]
        self._annotate(node, [x])
        node.meta[ANNOTATION].input_qspec_map[weight] = self._weight(limit)

    def _annotate(self, node: Node, tensors: list[Node], output: QuantizationSpecBase | None = None) -> None:
        inputs = dict.fromkeys(tensors, self._activation)
        last = last_fused(node)
        # logits stay as precise as they were summed up, but a convolution without an int8 output would be a float one
        bare = _gives_logits(last) and node.target != aten.conv2d.default
        result = None if bare else output or self._activation
        node.meta[ANNOTATION] = QuantizationAnnotation(inputs, result if last is node else None, _annotated=True)
        if last is not node:
            last.meta[ANNOTATION] = QuantizationAnnotation({}, result, _annotated=True)

    def _annotate_selection(self, node: Node) -> None:
        x = arguments(node)[0]
        if not (_gives_logits(node) and not _comes_from_convolution(x)):
            shared = SharedQuantizationSpec((x, node)) if _adds_nothing(node) else self._activation
            self._annotate(node, [x], shared)


def layer_name(node: Node) -> str:
    """Of a convolution or linear layer in a captured graph, prepared or not: the path of its module."""
    weight = node.args[1]
    while isinstance(weight, Node) and weight.op == "call_module":
        weight = weight.args[0]
    if isinstance(weight, Node) and weight.op == "get_attr":
        return str(weight.target).removesuffix(".weight")
    return node.name


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


def last_fused(node: Node) -> Node:
    """The ReLU or ReLU6 that a runtime computes inside `node`, or `node` itself."""
    users = list(node.users)
    return users[0] if len(users) == 1 and bounds(users[0]) else node
