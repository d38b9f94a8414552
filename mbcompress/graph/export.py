"""Export modules with torch.export to graphs of ATen operators."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from itertools import accumulate
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from mbcompress.errors import MbcompressError, brief
from mbcompress.graph.memory_format import copy_model, to_contiguous
from mbcompress.graph.quiet import quiet_libraries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.export import ExportedProgram
    from torch.fx import GraphModule


class ExportedGraph(nn.Module):
    """A graph exported in eval mode: `train()` and `eval()` do not change its outputs."""

    def __init__(self, captured: GraphModule) -> None:
        super().__init__()
        self.captured = captured  # not `graph`, which torch.export uses itself

    def train(self, mode: bool = True) -> Self:
        """Set only the flag `training`."""
        self.training = mode
        return self

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) float32 -> (N, K) logits."""
        logits: Tensor = self.captured(images)
        return logits


def export_program(model: nn.Module, example: Tensor, label: str) -> ExportedProgram:
    """Export `model` unchanged with torch.export, for any batch size.

    Args:
        model: in eval mode, on the device of `example`; the program shares its weights.
        example: (2, C, H, W) float32; torch.export would specialize on a batch size of 1.
        label: name of the caller, for error messages.

    Raises:
        MbcompressError: torch.export cannot capture the model.
    """
    with quiet_export():
        try:
            return torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
        except Exception as error:  # torch.export has no exception class of its own, and the model can raise anything
            raise MbcompressError(
                f"{label}: torch.export cannot capture the model ({type(error).__name__}: {brief(str(error))}); its "
                "forward must not depend on tensor values or the batch size"
            ) from error


def export_graph(model: nn.Module, example: Tensor, label: str) -> GraphModule:
    """Export a contiguous (NCHW) copy of `model` in eval mode; arguments and errors as in `export_program`."""
    copy = to_contiguous(copy_model(model).eval())
    return export_program(copy, example.contiguous(), label).module(check_guards=False)


def remove_unused(graph: GraphModule) -> None:
    """Delete unused get_attr nodes, and parameters and buffers that no node reads.

    Tensors of modules that a node calls or reads are kept, and so are tensors that are read under another name.
    """
    for node in reversed(list(graph.graph.nodes)):
        if node.op == "get_attr" and not node.users:
            graph.graph.erase_node(node)
    graph.recompile()
    read = {str(node.target) for node in graph.graph.nodes if node.op in ("get_attr", "call_module")}
    tensors = [*graph.named_parameters(remove_duplicate=False), *graph.named_buffers(remove_duplicate=False)]
    used = {id(tensor) for name, tensor in tensors if not read.isdisjoint(accumulate(name.split("."), "{}.{}".format))}
    for name, tensor in tensors:
        owner, _, attribute = name.rpartition(".")
        module = graph.get_submodule(owner)
        if id(tensor) not in used and hasattr(module, attribute):  # a shared module has two names
            delattr(module, attribute)


@contextmanager
def quiet_export() -> Iterator[None]:
    """Silence warnings, logs and prints of exporters while the block runs.

    If a branch depends on data, torch.export prints the graph to stderr without an option to disable it, so `print` is
    replaced in its module. Other output to stderr is not affected.
    """
    from torch.export import _trace

    names = vars(_trace)
    before = names.get("print")
    names["print"] = lambda *_, **__: None
    try:
        with quiet_libraries(logging.CRITICAL):
            yield
    finally:
        del names["print"]
        if before is not None:  # nested blocks
            names["print"] = before
