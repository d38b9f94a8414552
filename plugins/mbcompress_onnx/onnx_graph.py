"""Queries on ONNX graphs for the rewrites in `lowering`."""

from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

HALF = "mbcompress.half"
WEIGHTED = ("Conv", "ConvTranspose", "Gemm")


class OnnxGraph:
    """A graph with the producer and consumers of each tensor."""

    def __init__(self, model: ModelProto) -> None:
        self.graph = model.graph
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}
        self.producers = {output: node for node in self.graph.node for output in node.output}
        self.consumers: dict[str, list[NodeProto]] = {}
        for node in self.graph.node:
            for name in node.input:
                self.consumers.setdefault(name, []).append(node)

    def value(self, name: str) -> Any:
        return numpy_helper.to_array(self.constants[name])

    def add_constant(self, name: str, value: Any) -> None:
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))

    def make_half(self) -> NodeProto:
        """The constant 1/2 as a dequantized uint8: 255 * 1/510."""
        tensors = {f"{HALF}.steps": np.uint8(255), f"{HALF}.scale": np.float32(1 / 510), f"{HALF}.zero": np.uint8(0)}
        for name, value in tensors.items():
            self.add_constant(name, value)
        return helper.make_node("DequantizeLinear", list(tensors), [HALF])

    def quantized_input_of_hard_sigmoid(self, node: NodeProto) -> NodeProto | None:
        """The DequantizeLinear before `node`, if `node` is a HardSigmoid with slope 1/6 whose output is quantized."""
        if node.op_type != "HardSigmoid":
            return None
        slope = next((attribute.f for attribute in node.attribute if attribute.name == "alpha"), 0.2)
        source = self.producers.get(node.input[0])
        consumers = self.consumers.get(node.output[0], [])
        returned = any(output.name == node.output[0] for output in self.graph.output)
        fits = (
            consumers
            and not returned
            and np.isclose(slope, 1 / 6)
            and all(self._saturates_at_unit_interval(consumer) for consumer in consumers)
        )
        return source if fits and source is not None and source.op_type == "DequantizeLinear" else None

    def _saturates_at_unit_interval(self, consumer: NodeProto) -> bool:
        """Whether `consumer` quantizes to uint8 with scale 1/255 and zero point 0."""
        if consumer.op_type != "QuantizeLinear":
            return False
        scale, zero_point = self.value(consumer.input[1]), self.value(consumer.input[2])
        return zero_point.dtype == np.uint8 and not zero_point.any() and bool(np.allclose(scale * 255, 1.0))

    def padding_before(self, node: NodeProto) -> tuple[str, list[int]] | None:
        """The input of the zero Pad before the convolution `node`, and its (top, left, bottom, right)."""
        automatic = any(a.name == "auto_pad" and a.s != b"NOTSET" for a in node.attribute)
        before = self.producers.get(node.input[0]) if node.op_type == "Conv" and not automatic else None
        if before is None or before.op_type == "Pad":
            return self._zeros_around(before)
        quantize = self.producers.get(before.input[0]) if before.op_type == "DequantizeLinear" else None
        if quantize is None or quantize.op_type != "QuantizeLinear":
            return None
        pad = self.producers.get(quantize.input[0])
        padding = self._zeros_around(pad)
        source = self.producers.get(padding[0]) if padding else None
        if source is None or source.op_type != "DequantizeLinear":
            return None
        return padding if self._same_range(source, before) and self._same_range(quantize, before) else None

    def channels_between_integers_and_floats(self, node: NodeProto) -> int | None:
        """The number of input channels of a layer with float weights and an input dequantized per tensor, else None."""
        before = self.producers.get(node.input[0]) if node.op_type in WEIGHTED else None
        weights = self.constants.get(node.input[1]) if before is not None else None
        if before is None or weights is None or before.op_type != "DequantizeLinear":
            return None
        if len(before.input) != 3 or self.value(before.input[1]).size != 1:
            return None
        attributes = {attribute.name: attribute.i for attribute in node.attribute}
        if node.op_type == "Gemm":
            return None if attributes.get("transA") else int(weights.dims[1 if attributes.get("transB") else 0])
        return int(weights.dims[0] if node.op_type == "ConvTranspose" else weights.dims[1] * attributes.get("group", 1))

    def scale_of_products(self, node: NodeProto) -> Any:
        """The scale of the products of an int8 Gemm with a float bias, (outputs,) float32; None for other nodes."""
        if node.op_type != "Gemm" or len(node.input) < 3 or node.input[2] not in self.constants:
            return None
        numbers = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        if numbers.get("transA") or {numbers.get("alpha", 1.0), numbers.get("beta", 1.0)} != {1.0}:
            return None
        bias, sources = self.value(node.input[2]), [self.producers.get(name) for name in node.input[:2]]
        if bias.ndim != 1 or not all(source and source.op_type == "DequantizeLinear" for source in sources):
            return None
        x, weight = (self.value(source.input[1]) for source in sources if source)
        values = self.constants.get(sources[1].input[0]) if sources[1] else None
        if x.size != 1 or values is None or weight.size not in (1, len(bias)):
            return None
        scale = np.broadcast_to((x * weight).astype(np.float32).reshape(-1), bias.shape)
        fits = np.abs(bias) < scale * np.float32(2**30)
        return scale.copy() if fits.all() else None

    def _zeros_around(self, node: NodeProto | None) -> tuple[str, list[int]] | None:
        """The input of a zero Pad of the last two of four axes, and its (top, left, bottom, right); else None."""
        if (
            node is None
            or node.op_type != "Pad"
            or any(a.name == "mode" and a.s != b"constant" for a in node.attribute)
        ):
            return None
        source, pads, value, axes = [*node.input, "", ""][:4]
        if pads not in self.constants or axes or (value and (value not in self.constants or self.value(value).any())):
            return None
        amounts = self.value(pads).tolist()
        if len(amounts) != 8 or min(amounts) < 0 or any(amounts[axis] for axis in (0, 1, 4, 5)):
            return None
        return source, [*amounts[2:4], *amounts[6:8]]

    def _same_range(self, one: NodeProto, other: NodeProto) -> bool:
        """Whether two quantize or dequantize nodes have the same scale and zero point."""
        if len(one.input) != len(other.input):
            return False
        pairs = zip(one.input[1:], other.input[1:], strict=True)
        return all(a == b or np.array_equal(self.value(a), self.value(b)) for a, b in pairs)
