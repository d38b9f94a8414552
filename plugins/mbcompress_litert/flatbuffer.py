"""Count the convolutions and the zero weights of a .tflite file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from mbcompress import ConvolutionCount, WeightCount

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONVOLUTIONS = (schema.BuiltinOperator.CONV_2D, schema.BuiltinOperator.DEPTHWISE_CONV_2D)
LAYERS = (*CONVOLUTIONS, schema.BuiltinOperator.FULLY_CONNECTED)
NUMBERS = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.INT8: np.int8}


def count_convolutions(path: Path) -> ConvolutionCount:
    """Count the convolutions of the file, and those with int8 input, weights and output."""
    int8 = [
        all(tensor.type == schema.TensorType.INT8 for tensor in (image, weights, result))
        for image, weights, result in _operators(_read(path), CONVOLUTIONS)
    ]
    return ConvolutionCount(len(int8), sum(int8))


def count_zeros(path: Path) -> WeightCount:
    """Count the weights of convolutions and linear layers, and those that are zero; zero points of weights are 0."""
    total = zero = 0
    model = _read(path)
    for _, weights, _ in _operators(model, LAYERS):
        data = model.buffers[weights.buffer].data
        if weights.type in NUMBERS and data is not None:
            values = np.frombuffer(bytes(data), NUMBERS[weights.type])
            total += values.size
            zero += int((values == 0).sum())
    return WeightCount(total, zero)


def _read(path: Path) -> Any:
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes()))


def _operators(model: Any, kinds: tuple[int, ...]) -> Iterator[tuple[Any, Any, Any]]:
    """Yield the input, weights and output of each operator of these kinds."""
    (graph,) = model.subgraphs
    for operator in graph.operators:
        if model.operatorCodes[operator.opcodeIndex].builtinCode in kinds:
            image, weights, result = operator.inputs[0], operator.inputs[1], operator.outputs[0]
            yield graph.tensors[image], graph.tensors[weights], graph.tensors[result]
