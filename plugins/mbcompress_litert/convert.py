"""Runs in the converter's environment, without mbcompress: `python convert.py exported.pt2 converted.tflite`.

Works around three limits of the converter: it does not accept int8 constants, only float weights that are quantized in
the graph; int8 models take int8 images; and linear layers with float output (the classifier) keep float weights.
"""

from __future__ import annotations

import operator
import sys
from pathlib import Path
from typing import Any, NamedTuple

import flatbuffers
import litert_torch
import numpy as np
import torch
import torchao.quantization.pt2e.quantize_pt2e  # noqa: F401  # registers the operators of int8 graphs
from ai_edge_litert import schema_py_generated as schema
from litert_torch.quantize.pt2e_quantizer import PT2EQuantizer, get_symmetric_quantization_config
from litert_torch.quantize.quant_config import QuantConfig

quantized = torch.ops.quantized_decomposed
PAIRS = {
    quantized.dequantize_per_channel.default: quantized.quantize_per_channel.default,
    quantized.dequantize_per_tensor.default: quantized.quantize_per_tensor.default,
}


class Weights(NamedTuple):
    """Quantized weights: `values` = `steps` * `scales` along axis 0."""

    values: np.ndarray
    steps: np.ndarray
    scales: np.ndarray


def main(exported: Path, converted: Path) -> None:
    """Convert an exported program to a LiteRT file."""
    program = torch.export.load(exported)
    (example,), _ = program.example_inputs
    graph = program.module(check_guards=False)
    weights = unfold(graph)
    static = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=False)
    config = QuantConfig(pt2e_quantizer=PT2EQuantizer().set_global(static)) if weights else None
    litert_torch.convert(graph, (example,), quant_config=config).export(str(converted))
    if weights:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(converted.read_bytes()))
        take_float_images(model)
        shrink_linear(model, weights)
        builder = flatbuffers.Builder()
        builder.Finish(model.Pack(builder), b"TFL3")
        converted.write_bytes(builder.Output())


def unfold(graph: torch.fx.GraphModule) -> list[Weights]:
    """Replace each int8 constant by float weights and a quantize operator; return those with per-channel scales."""
    weights = []
    for number, node in enumerate(list(graph.graph.nodes)):
        if node.target not in PAIRS or node.args[0].op != "get_attr":
            continue
        steps, *settings = (
            operator.attrgetter(str(arg.target))(graph) if isinstance(arg, torch.fx.Node) else arg for arg in node.args
        )
        values = node.target(steps, *settings)
        name = f"unfolded_{number}"
        graph.register_buffer(name, values)
        with graph.graph.inserting_before(node):
            constant = graph.graph.get_attr(name)
            quantize = graph.graph.call_function(PAIRS[node.target], (constant, *node.args[1:]))
        node.args = (quantize, *node.args[1:])
        if node.target == quantized.dequantize_per_channel.default:
            weights.append(Weights(values.numpy(), steps.numpy(), settings[0].numpy()))
    graph.recompile()
    return weights


def take_float_images(model: Any) -> None:
    """Add a quantize operator at the input, so that the file takes float images like those of the other runtimes."""
    (graph,) = model.subgraphs
    (index,) = graph.inputs
    inner = graph.tensors[index]
    if inner.type != schema.TensorType.INT8:
        return
    image = schema.TensorT()
    image.shape, image.type, image.name, image.buffer = inner.shape, schema.TensorType.FLOAT32, b"image", 0
    image.shapeSignature, image.hasRank = inner.shapeSignature, inner.hasRank
    graph.tensors.append(image)
    quantize = schema.OperatorT()
    quantize.opcodeIndex = operator_code(model, schema.BuiltinOperator.QUANTIZE)
    quantize.inputs, quantize.outputs = [len(graph.tensors) - 1], [index]
    graph.operators.insert(0, quantize)
    graph.inputs = list(quantize.inputs)
    for signature in model.signatureDefs or []:
        for entry in signature.inputs:
            entry.tensorIndex = graph.inputs[0]


def operator_code(model: Any, code: int) -> int:
    """Return the index of an operator in the model's operator codes; add it if it is missing."""
    for index, known in enumerate(model.operatorCodes):
        if known.builtinCode == code:
            return index
    new = schema.OperatorCodeT()
    new.builtinCode, new.deprecatedBuiltinCode, new.version = code, min(code, 127), 1
    model.operatorCodes.append(new)
    return len(model.operatorCodes) - 1


def shrink_linear(model: Any, weights: list[Weights]) -> None:
    """Store int8 weights for linear layers with float input and output; they quantize their input dynamically."""
    (graph,) = model.subgraphs
    code = schema.BuiltinOperator.FULLY_CONNECTED
    for layer in graph.operators:
        tensor = graph.tensors[layer.inputs[1]] if len(layer.inputs) > 1 else None
        known = model.operatorCodes[layer.opcodeIndex].builtinCode == code
        if not known or tensor is None or tensor.type != schema.TensorType.FLOAT32:
            continue
        buffer = model.buffers[tensor.buffer]
        if buffer.data is None or not len(buffer.data):
            continue
        values = np.frombuffer(bytes(buffer.data), np.float32).reshape(tensor.shape)
        match = next((w for w in weights if w.values.shape == values.shape and np.allclose(w.values, values)), None)
        if match is None:
            continue
        buffer.data = np.frombuffer(match.steps.tobytes(), np.uint8)
        tensor.type = schema.TensorType.INT8
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale = match.scales.astype(np.float32)
        tensor.quantization.zeroPoint = np.zeros(len(match.scales), np.int64)
        tensor.quantization.quantizedDimension = 0
        layer.builtinOptions.asymmetricQuantizeInputs = True
        graph_code = model.operatorCodes[layer.opcodeIndex]
        graph_code.version = max(graph_code.version, 9)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
