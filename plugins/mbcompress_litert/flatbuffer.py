"""What a .tflite file does with its convolutions, and how many of its weights are zero."""

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
    """Convolutions of the file, which LiteRT executes as they stand; int8 are those with int8 inputs and outputs."""
    integer = [
        all(tensor.type == schema.TensorType.INT8 for tensor in (image, weights, result))
        for _, (image, weights, result) in _operators(_read(path), CONVOLUTIONS)
    ]
    return ConvolutionCount(len(integer), sum(integer))


def count_zeros(path: Path) -> WeightCount:
    """Weights of all convolutions and linear layers, and those that are zero: zero points of weights always are."""
    total = zero = 0
    model = _read(path)
    for _, (_, weights, _) in _operators(model, LAYERS):
        data = model.buffers[weights.buffer].data
        if weights.type in NUMBERS and data is not None:
            values = np.frombuffer(bytes(data), NUMBERS[weights.type])
            total += values.size
            zero += int((values == 0).sum())
    return WeightCount(total, zero)


def _read(path: Path) -> Any:
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes()))


def _operators(model: Any, kinds: tuple[int, ...]) -> Iterator[tuple[Any, tuple[Any, Any, Any]]]:
    """Each operator of these kinds, with its input, weights and output."""
    (graph,) = model.subgraphs
    for each in graph.operators:
        if model.operatorCodes[each.opcodeIndex].builtinCode in kinds:
            image, weights, result = each.inputs[0], each.inputs[1], each.outputs[0]
            yield each, (graph.tensors[image], graph.tensors[weights], graph.tensors[result])
