"""Count the convolutions of an ExecuTorch program from its XNNPACK graphs."""

from __future__ import annotations

import json
import re
import tempfile
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import XNNHeader
from executorch.exir._serialize._flatbuffer import _flatc_decompile
from executorch.exir._serialize._program import deserialize_pte_binary

from mbcompress import ConvolutionCount

if TYPE_CHECKING:
    from collections.abc import Iterator

XNNPACK = "XnnpackBackend"
INT8 = {"xnn_datatype_qint8", "xnn_datatype_qcint8"}
KINDS = ("XNNConv2d", "XNNDepthwiseConv2d")
PORTABLE = "aten::convolution"
"""ExecuTorch's portable kernel, for convolutions that are not delegated to XNNPACK."""


def count_convolutions(path: Path) -> ConvolutionCount:
    """Count the convolutions of a .pte file, and those that XNNPACK runs with int8 input, weights and output."""
    program = deserialize_pte_binary(path.read_bytes()).program
    (plan,) = program.execution_plan
    graphs = [
        _decode(program.backend_delegate_data[delegate.processed.index].data)
        for delegate in plan.delegates
        if delegate.id == XNNPACK
    ]
    int8 = [is_int8 for graph in graphs for is_int8 in _convolutions(graph)]
    calls = [instruction.instr_args for chain in plan.chains for instruction in chain.instructions]
    names = [plan.operators[call.op_index].name for call in calls if hasattr(call, "op_index")]
    return ConvolutionCount(len(int8) + names.count(PORTABLE), sum(int8))


def _convolutions(graph: dict[str, Any]) -> Iterator[bool]:
    """Yield for each convolution whether it is int8."""
    types = dict(map(_type, graph["xvalues"]))
    for node in graph["xnodes"]:
        if node["xnode_union_type"] in KINDS:
            operator = node["xnode_union"]
            yield all(types[operator[name]] in INT8 for name in ("input1_id", "filter_id", "output_id"))


def _type(value: dict[str, Any]) -> tuple[int, str]:
    tensor = value["xvalue_union"]
    tensor = tensor.get("tensor_value", tensor)
    return tensor["id_out"], tensor["datatype"]


def _decode(payload: bytes) -> dict[str, Any]:
    """Decode an XNNPACK graph with ExecuTorch's `schema.fbs`."""
    header = XNNHeader.from_bytes(payload[: XNNHeader.EXPECTED_LENGTH])
    start = header.flatbuffer_offset
    schema = files("executorch.backends.xnnpack.serialization") / "schema.fbs"
    with tempfile.TemporaryDirectory() as directory, as_file(schema) as described:
        binary = Path(directory) / "graph.bin"
        binary.write_bytes(payload[start : start + header.flatbuffer_size])
        _flatc_decompile(directory, str(described), str(binary), ["--raw-binary"])
        text = binary.with_suffix(".json").read_text()
    graph: dict[str, Any] = json.loads(re.sub(r"(: -?)inf\b", r"\1Infinity", text))  # activation bounds may be inf
    return graph
