"""Rewrite an exported ONNX graph to operators with fast kernels in ONNX Runtime."""

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
    """Remove the exporter's per-node metadata, which is half of a small file."""
    for element in [*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output]:
        element.ClearField("metadata_props")
        element.ClearField("doc_string")
    model.graph.ClearField("metadata_props")
    model.graph.ClearField("doc_string")
    model.graph.ClearField("value_info")  # the runtime infers shapes


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
    """QuantizeLinear(HardSigmoid(x)) -> QuantizeLinear(x / 6 + 1/2), if the quantizer saturates at 0 and 1.

    ONNX Runtime has no integer HardSigmoid. The division is folded into the scale of the preceding DequantizeLinear, so
    only an integer addition remains.
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
    """Conv(Pad(x)) -> Conv(x) with `pads`, if Pad adds zeros to height and width.

    Models from TensorFlow pad only at the bottom and right; ONNX's Conv supports this, PyTorch's does not. In a
    quantized graph, scale and zero point must be the same on both sides of the Pad.
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
    """Dequantize the input of layers with float weights per channel, with equal scales, instead of per tensor.

    After a per-tensor DequantizeLinear, ONNX Runtime (`WeightBiasQuantization`) rounds the float weights to int8 per
    tensor, in recent releases only if the output is quantized too. Layers left in float are the most sensitive to this.
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
    """Gemm(int8, int8, float bias) -> the same with an int32 bias, with the scale of the products.

    With a float bias and a float output, such as the logits, ONNX Runtime dequantizes all weights in every call. The
    bias changes by at most half a quantization step.
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
    """Remove unused initializers, such as float weights after quantization."""
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
