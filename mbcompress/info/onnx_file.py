"""Describe an ONNX file without a runtime."""

from __future__ import annotations

from collections import Counter
from math import prod
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from mbcompress.errors import MbcompressError, first_line, shown
from mbcompress.files import read_bounded

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

LARGEST = 2**31  # protobuf's own limit
INTEGER_CONVOLUTIONS = ("QLinearConv", "ConvInteger")


def describe_onnx(path: Path) -> dict[str, Any]:
    """Describe operators, inputs, outputs, initializers by dtype, and the number of int8 convolutions.

    Raises:
        MbcompressError: the file is not an ONNX model.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # onnx brings it

    try:
        model = onnx.load_model_from_string(read_bounded(path, LARGEST))
    except DecodeError as error:
        raise MbcompressError(f"{path}: is not an ONNX file: {first_line(error)}") from None
    described: dict[str, Any] = _as_text(_described(model, path))
    return described


def _described(model: ModelProto, path: Path) -> dict[str, Any]:
    if not model.graph.node:
        raise MbcompressError(f"{path}: is not an ONNX file: it contains no graph")
    constants = {tensor.name for tensor in model.graph.initializer}
    return {
        "kind": "onnx",
        "path": str(path),
        "bytes": path.stat().st_size,
        "opset": {entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        "inputs": [_value(value) for value in model.graph.input if value.name not in constants],
        "outputs": [_value(value) for value in model.graph.output],
        "convolutions": _convolutions(model.graph),
        "operators": dict(Counter(node.op_type for node in model.graph.node).most_common()),
        "initializers": _initializers(model),
        "external_data": _external_data(model, path),
        "metadata": {entry.key: entry.value for entry in model.metadata_props},
    }


def _as_text(described: Any) -> Any:
    """Convert bytes to text; protobuf returns names that are not UTF-8 as bytes."""
    match described:
        case bytes():
            return described.decode("utf-8", "replace")
        case list():
            return [_as_text(each) for each in described]
        case dict():
            return {_as_text(key): _as_text(value) for key, value in described.items()}
    return described


def _external_data(model: ModelProto, path: Path) -> list[str]:
    """Return the names of external data files without reading them.

    Raises:
        MbcompressError: a file is not below the directory of the model, which is unsafe.
    """
    from onnx.external_data_helper import uses_external_data

    places: dict[str, None] = {}
    for tensor in filter(uses_external_data, model.graph.initializer):
        location = _as_text(next((entry.value for entry in tensor.external_data if entry.key == "location"), ""))
        # POSIX and Windows paths, because the file can come from another system
        for pure in (PurePosixPath(location), PureWindowsPath(location)):
            if not location or pure.anchor or ".." in pure.parts:
                raise MbcompressError(
                    f"{path}: stores tensor {shown(tensor.name)} in {shown(location)}, which must be a file below the "
                    "directory of the model"
                )
        places[location] = None
    return list(places)


def _dtype(number: int) -> str:
    """Return the name of a dtype, or the number of an unknown one."""
    from onnx import TensorProto

    known = number in TensorProto.DataType.values()
    return TensorProto.DataType.Name(number).lower() if known else f"unknown ({number})"


def _value(value: ValueInfoProto) -> dict[str, Any]:
    tensor = value.type.tensor_type
    shape = [each.dim_param or each.dim_value for each in tensor.shape.dim]
    return {"name": value.name, "dtype": _dtype(tensor.elem_type), "shape": shape}


def _convolutions(graph: GraphProto) -> dict[str, int]:
    """Count convolutions, and those that are integer operators or have dequantized inputs and weights."""
    producers = {output: node for node in graph.node for output in node.output}
    convolutions = [node for node in graph.node if node.op_type in ("Conv", *INTEGER_CONVOLUTIONS)]
    return {"total": len(convolutions), "int8": sum(_is_integer(node, producers) for node in convolutions)}


def _is_integer(node: NodeProto, producers: dict[str, NodeProto]) -> bool:
    sources = [producers.get(name) for name in node.input[:2]]
    dequantized = all(source is not None and source.op_type == "DequantizeLinear" for source in sources)
    return node.op_type in INTEGER_CONVOLUTIONS or dequantized


def _initializers(model: ModelProto) -> list[dict[str, Any]]:
    groups: dict[str, list[TensorProto]] = {}
    for tensor in model.graph.initializer:
        groups.setdefault(_dtype(tensor.data_type), []).append(tensor)
    return [
        {
            "dtype": dtype,
            "tensors": len(group),
            "elements": sum(prod(tensor.dims) for tensor in group),
            "bytes": sum(tensor.ByteSize() for tensor in group),
        }
        for dtype, group in sorted(groups.items())
    ]
