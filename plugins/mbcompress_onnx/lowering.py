"""Rewrites of an exported ONNX graph into the operators that ONNX Runtime has fast kernels for.

Each rewrite keeps the function; the tests compare outputs before and after.
"""

from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper


def lower(model: ModelProto) -> None:
    """Apply every rewrite in place."""
    strip_metadata(model)
    use_global_average_pool(model)
    use_add_for_quantized_hard_sigmoid(model)
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
    for node in model.graph.node:
        if node.op_type != "ReduceMean" or len(node.input) < 2 or node.input[1] not in constants:
            continue
        axes = sorted(numpy_helper.to_array(constants[node.input[1]]).tolist())
        keeps_dimensions = all(a.i == 1 for a in node.attribute if a.name == "keepdims")
        if axes in ([-2, -1], [2, 3]) and keeps_dimensions:
            node.op_type = "GlobalAveragePool"
            del node.input[1:]
            del node.attribute[:]


def use_add_for_quantized_hard_sigmoid(model: ModelProto) -> None:
    """QuantizeLinear(HardSigmoid(x)) -> QuantizeLinear(x / 6 + 1/2) where the quantizer saturates at 0 and 1.

    The division goes into the scale of the DequantizeLinear before it, so one integer addition replaces a float
    island: ONNX Runtime has no integer HardSigmoid.
    """
    graph = model.graph
    producers = {output: node for node in graph.node for output in node.output}
    consumers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    constants = {tensor.name: tensor for tensor in graph.initializer}

    def value(name: str) -> Any:
        return numpy_helper.to_array(constants[name])

    nodes = list(graph.node)
    half: list[str] = []
    for node in list(nodes):
        if node.op_type != "HardSigmoid":
            continue
        slope = {a.name: a.f for a in node.attribute}
        source = producers.get(node.input[0])
        users = consumers.get(node.output[0], [])
        if (
            source is None
            or source.op_type != "DequantizeLinear"
            or any(user.op_type != "QuantizeLinear" for user in users)
            or not np.isclose(slope.get("alpha", 0.2), 1 / 6)
            or not all(_saturates_at_unit_interval(value(u.input[1]), value(u.input[2])) for u in users)
        ):
            continue
        if not half:
            half = _add_quantized_half(graph, nodes)
        scale = f"{node.output[0]}.scale"
        graph.initializer.append(numpy_helper.from_array(value(source.input[1]) / np.float32(6), scale))
        sixth = helper.make_node(
            "DequantizeLinear", [source.input[0], scale, source.input[2]], [f"{node.output[0]}.sixth"]
        )
        total = helper.make_node("Add", [sixth.output[0], half[0]], [node.output[0]])
        position = nodes.index(node)
        nodes[position : position + 1] = [sixth, total]
    del graph.node[:]
    graph.node.extend(nodes)
    _remove_dead_nodes(model)


def _saturates_at_unit_interval(scale: np.ndarray, zero_point: np.ndarray) -> bool:
    return zero_point.dtype == np.uint8 and int(zero_point) == 0 and bool(np.isclose(scale * 255, 1.0))


def _add_quantized_half(graph: GraphProto, nodes: list[NodeProto]) -> list[str]:
    """The constant 1/2 as a dequantized uint8: 255 steps of 1/510."""
    tensors = {
        "half.quantized": np.array(255, np.uint8),
        "half.scale": np.array(0.5 / 255, np.float32),
        "half.zero_point": np.array(0, np.uint8),
    }
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in tensors.items())
    nodes.insert(0, helper.make_node("DequantizeLinear", list(tensors), ["half"]))
    return ["half"]


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
