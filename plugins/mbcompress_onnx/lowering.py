"""Rewrites of an exported ONNX graph into the operators that ONNX Runtime has fast kernels for.

Each rewrite keeps the function; the tests compare outputs before and after.
"""

from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper


def lower(model: ModelProto) -> None:
    """Apply every rewrite in place."""
    use_global_average_pool(model)
    strip_metadata(model)
    use_add_for_quantized_hard_sigmoid(model)
    fold_padding(model)
    keep_float_weights(model)
    use_integer_bias(model)
    remove_unused_initializers(model)


def strip_metadata(model: ModelProto) -> None:
    """Drop the exporter's per-node notes: half the bytes of a small model, and none of them is executed."""
    for element in [*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output]:
        element.ClearField("metadata_props")
        element.ClearField("doc_string")
    model.graph.ClearField("metadata_props")
    model.graph.ClearField("doc_string")
    model.graph.ClearField("value_info")  # the runtime infers shapes by itself


def use_global_average_pool(model: ModelProto) -> None:
    """ReduceMean over height and width -> GlobalAveragePool, which has an integer kernel."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in model.graph.value_info}
    for node in model.graph.node:
        if node.op_type != "ReduceMean" or len(node.input) < 2 or node.input[1] not in constants:
            continue
        axes = sorted(numpy_helper.to_array(constants[node.input[1]]).tolist())
        keeps_dimensions = all(a.i == 1 for a in node.attribute if a.name == "keepdims")
        if axes in ([-2, -1], [2, 3]) and keeps_dimensions and ranks.get(node.input[0]) == 4:
            node.op_type = "GlobalAveragePool"
            del node.input[1:]
            del node.attribute[:]


def use_add_for_quantized_hard_sigmoid(model: ModelProto) -> None:
    """QuantizeLinear(HardSigmoid(x)) -> QuantizeLinear(x / 6 + 1/2) where the quantizer saturates at 0 and 1.

    The division goes into the scale of the DequantizeLinear before it, so one integer addition replaces a float
    island: ONNX Runtime has no integer HardSigmoid.
    """
    graph = _Graph(model)
    rewritten: list[NodeProto] = []
    for node in model.graph.node:
        source = graph.quantized_input_of_hard_sigmoid(node)
        if source is None:
            rewritten.append(node)
            continue
        values, scale, zero_point = source.input
        name = node.output[0]
        graph.add_constant(f"{name}.scale", graph.value(scale) / np.float32(6))
        sixth = helper.make_node("DequantizeLinear", [values, f"{name}.scale", zero_point], [f"{name}.sixth"])
        rewritten += [sixth, helper.make_node("Add", [f"{name}.sixth", HALF], [name])]
    if len(rewritten) > len(model.graph.node):
        rewritten.insert(0, graph.make_half())
    del model.graph.node[:]
    model.graph.node.extend(rewritten)
    _remove_dead_nodes(model)


HALF = "mbcompress.half"


def fold_padding(model: ModelProto) -> None:
    """Conv(Pad(x)) -> Conv(x) with padding of its own, where zeros are added around height and width.

    TensorFlow's models pad below and to the right only, which ONNX's Conv can, though PyTorch's cannot. Between
    integers the padding is a copy around the zero point, that is zero, so the same holds when both sides of it share
    scale and zero point.
    """
    graph = _Graph(model)
    for node in model.graph.node:
        pad = graph.padding_before(node)
        if pad is None:
            continue
        source, (top, left, bottom, right) = pad
        pads = next((a for a in node.attribute if a.name == "pads"), None)
        own = list(pads.ints) if pads else [0, 0, 0, 0]
        if pads:
            node.attribute.remove(pads)
        added = [a + b for a, b in zip(own, (top, left, bottom, right), strict=True)]
        node.attribute.append(helper.make_attribute("pads", added))
        node.input[0] = source
    _remove_dead_nodes(model)


WEIGHTED = ("Conv", "ConvTranspose", "Gemm")


def keep_float_weights(model: ModelProto) -> None:
    """Dequantize by a scale per channel, all of them equal, before float weights.

    ONNX Runtime (`WeightBiasQuantization`) rounds the float weights of a layer to int8, one scale for all of them,
    where its input is dequantized by a single scale, and in recent releases only if its output is quantized again. A
    layer that was spared would lose most.
    """
    graph = _Graph(model)
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        channels = graph.channels_between_integers_and_floats(node)
        if channels is not None:
            values, scale, zero_point = graph.producers[node.input[0]].input
            name = f"{node.output[0]}.channels"
            graph.add_constant(f"{name}.scale", np.full(channels, graph.value(scale)))
            graph.add_constant(f"{name}.zero", np.full(channels, graph.value(zero_point)))
            inputs = [values, f"{name}.scale", f"{name}.zero"]
            nodes.append(helper.make_node("DequantizeLinear", inputs, [name], axis=1))
            node.input[0] = name
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    _remove_dead_nodes(model)


def use_integer_bias(model: ModelProto) -> None:
    """Gemm(integers, integers, bias) -> the same with its bias in int32, at the scale of the products.

    ONNX Runtime makes an integer product of a Gemm whose output is not quantized, as that of logits, only then; it
    would dequantize all weights in every call. A bias moves by half a step of a product at most.
    """
    graph = _Graph(model)
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        scale = graph.scale_of_products(node)
        if scale is not None:
            name = f"{node.output[0]}.bias"
            steps = np.round(graph.value(node.input[2]).astype(np.float64) / scale)
            graph.add_constant(f"{name}.steps", steps.astype(np.int32))
            graph.add_constant(f"{name}.scale", scale)
            graph.add_constant(f"{name}.zero", np.zeros(len(scale), np.int32))
            inputs = [f"{name}.steps", f"{name}.scale", f"{name}.zero"]
            nodes.append(helper.make_node("DequantizeLinear", inputs, [name], axis=0))
            node.input[2] = name
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


class _Graph:
    """Who makes and who reads each tensor of a graph."""

    def __init__(self, model: ModelProto) -> None:
        self.graph = model.graph
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}
        self.producers = {output: node for node in self.graph.node for output in node.output}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in self.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def value(self, name: str) -> Any:
        return numpy_helper.to_array(self.constants[name])

    def add_constant(self, name: str, value: Any) -> None:
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))

    def make_half(self) -> NodeProto:
        """The constant 1/2 as a dequantized uint8: 255 steps of 1/510."""
        tensors = {f"{HALF}.steps": np.uint8(255), f"{HALF}.scale": np.float32(1 / 510), f"{HALF}.zero": np.uint8(0)}
        for name, value in tensors.items():
            self.add_constant(name, value)
        return helper.make_node("DequantizeLinear", list(tensors), [HALF])

    def quantized_input_of_hard_sigmoid(self, node: NodeProto) -> NodeProto | None:
        """The DequantizeLinear before `node`, if `node` is a HardSigmoid between integers with slope 1/6."""
        if node.op_type != "HardSigmoid":
            return None
        slope = next((attribute.f for attribute in node.attribute if attribute.name == "alpha"), 0.2)
        source = self.producers.get(node.input[0])
        readers = self.readers.get(node.output[0], [])
        returned = any(output.name == node.output[0] for output in self.graph.output)
        fits = (
            readers
            and not returned
            and np.isclose(slope, 1 / 6)
            and all(self._saturates_at_unit_interval(reader) for reader in readers)
        )
        return source if fits and source is not None and source.op_type == "DequantizeLinear" else None

    def _saturates_at_unit_interval(self, reader: NodeProto) -> bool:
        """Whether `reader` quantizes to uint8 steps of 1/255 from zero."""
        if reader.op_type != "QuantizeLinear":
            return False
        scale, zero_point = self.value(reader.input[1]), self.value(reader.input[2])
        return zero_point.dtype == np.uint8 and not zero_point.any() and bool(np.allclose(scale * 255, 1.0))

    def padding_before(self, node: NodeProto) -> tuple[str, list[int]] | None:
        """What is padded with zeros before the convolution `node`, and by (top, left, bottom, right)."""
        automatic = any(a.name == "auto_pad" and a.s != b"NOTSET" for a in node.attribute)
        before = self.producers.get(node.input[0]) if node.op_type == "Conv" and not automatic else None
        if before is None or before.op_type == "Pad":
            return self._zeros_around(before)
        quantize = self.producers.get(before.input[0]) if before.op_type == "DequantizeLinear" else None
        if quantize is None or quantize.op_type != "QuantizeLinear":
            return None
        pad = self.producers.get(quantize.input[0])
        found = self._zeros_around(pad)
        source = self.producers.get(found[0]) if found else None
        if source is None or source.op_type != "DequantizeLinear":
            return None
        kept = all(self._same_range(each, before) for each in (source, quantize))
        return found if kept else None

    def channels_between_integers_and_floats(self, node: NodeProto) -> int | None:
        """How many channels a layer with float weights is given, if they are dequantized by one scale."""
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
        """(outputs,) float32 steps of the products of a Gemm of integers with a float bias; None for anything else."""
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
        """The input of a Pad of zeros around the last two of four axes, and (top, left, bottom, right)."""
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
        """Whether two nodes between numbers and integers share scale and zero point."""
        if len(one.input) != len(other.input):
            return False
        pairs = zip(one.input[1:], other.input[1:], strict=True)
        return all(a == b or np.array_equal(self.value(a), self.value(b)) for a, b in pairs)


def _remove_dead_nodes(model: ModelProto) -> None:
    needed = {output.name for output in model.graph.output}
    kept = []
    for node in reversed(model.graph.node):
        if any(output in needed for output in node.output):
            kept.append(node)
            needed.update(node.input)
    del model.graph.node[:]
    model.graph.node.extend(reversed(kept))


def remove_unused_initializers(model: ModelProto) -> None:
    """Drop tensors that no node reads, such as the float weights that quantization left behind."""
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
