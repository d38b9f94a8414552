"""Count the zero weights of an ONNX file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import numpy_helper

from mbcompress import WeightCount

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray
    from onnx import NodeProto

OPERANDS = {"Conv": (1,), "ConvInteger": (1,), "QLinearConv": (3,), "Gemm": (0, 1), "MatMul": (0, 1)}
"""Operators with weights -> indices of the inputs that may be weights."""

ZERO_POINTS = {"ConvInteger": {1: 3}, "QLinearConv": {3: 5}}
"""Integer operators -> index of the weight input -> index of its zero point input."""

LAYOUT = {"Identity", "Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
"""Operators that only rearrange their input."""


def count_zeros(path: Path) -> WeightCount:
    """Count the weights of all convolutions and matrix products, each tensor once, and those equal to zero."""
    graph = onnx.load(path).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    producers = {output: node for node in graph.node for output in node.output}
    weights: dict[str, tuple[str, int]] = {}  # name -> name of its zero point, axis

    def add(name: str, zero_point: str, axis: int) -> None:
        """Add the constant that an operand originates from, if any."""
        source = producers.get(name)
        if name in constants:
            weights.setdefault(name, (zero_point, axis))
        elif source is not None and source.op_type in LAYOUT:
            add(source.input[0], zero_point, axis)
        elif source is not None and source.op_type == "DequantizeLinear":
            add(source.input[0], source.input[2] if len(source.input) > 2 else "", _axis(source))

    for node in graph.node:
        for position in OPERANDS.get(node.op_type, ()):
            place = ZERO_POINTS.get(node.op_type, {}).get(position, len(node.input))
            add(node.input[position], node.input[place] if place < len(node.input) else "", 0)
    total = zero = 0
    for name, (zero_point, axis) in weights.items():
        weight = numpy_helper.to_array(constants[name])
        zeros = numpy_helper.to_array(constants[zero_point]) if zero_point in constants else np.zeros(())
        total += weight.size
        zero += int((weight == _along(zeros, axis, weight.ndim)).sum())
    return WeightCount(total, zero)


def _axis(node: NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)


def _along(values: NDArray[Any], axis: int, rank: int) -> NDArray[Any]:
    """Reshape per-axis values so that they broadcast over the other axes; a single value becomes a scalar."""
    if values.size == 1:
        return values.reshape(())
    shape = [1] * rank
    shape[axis] = values.size
    return values.reshape(shape)
