"""Rewrites of an exported ONNX graph into operators that ONNX Runtime has fast kernels for; the function stays."""

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from .onnx_graph import HALF, OnnxGraph


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
    """Drop the exporter's metadata per node, which is half of a small file."""
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

    The division goes into the scale of the DequantizeLinear before it, which leaves an integer addition: ONNX
    Runtime has no integer HardSigmoid.
    """
    graph = OnnxGraph(model)
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


def fold_padding(model: ModelProto) -> None:
    """Conv(Pad(x)) -> Conv(x) with `pads`, where zeros are added around height and width.

    TensorFlow's models pad below and to the right only, which ONNX's Conv can, though PyTorch's cannot. Between
    integers this holds where both sides of the Pad have the same scale and zero point.
    """
    graph = OnnxGraph(model)
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


def keep_float_weights(model: ModelProto) -> None:
    """Dequantize the input of layers with float weights by equal scales per channel instead of one.

    With one scale, ONNX Runtime (`WeightBiasQuantization`) rounds the float weights to int8 per tensor, in recent
    releases only if the output is quantized again. The layers that are left in float would lose most by it.
    """
    graph = OnnxGraph(model)
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
    """Gemm(int8, int8, float bias) -> the same with an int32 bias, at the scale of the products.

    Otherwise ONNX Runtime dequantizes all weights in every call where the output, as that of logits, is not quantized.
    A bias changes by half a step at most.
    """
    graph = OnnxGraph(model)
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
    """Drop tensors that no node reads, such as float weights after quantization."""
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
