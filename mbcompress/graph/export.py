"""Modules as graphs of ATen operators, by torch.export."""

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
    """A graph that was exported in eval mode: `train()` and `eval()` cannot change what it computes."""

    def __init__(self, captured: GraphModule) -> None:
        super().__init__()
        self.captured = captured  # not `graph`: torch.export would take it for its own

    def train(self, mode: bool = True) -> Self:
        """Set the flag alone."""
        self.training = mode
        return self

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) float32 -> (N, K) logits."""
        logits: Tensor = self.captured(images)
        return logits


def export_program(model: nn.Module, example: Tensor, label: str) -> ExportedProgram:
    """Export `model` by torch.export as it is, for any batch size.

    Args:
        model: in eval mode, on the device of `example`; the program shares its weights.
        example: (2, C, H, W) float32; torch.export takes a batch of 1 for a constant.
        label: the caller's name, for the error.

    Raises:
        MbcompressError: torch.export cannot capture the model.
    """
    with quiet_export():
        try:
            return torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
        except Exception as error:  # torch.export has no class of its own, and passes on what the model raises
            raise MbcompressError(
                f"{label}: torch.export cannot capture the model ({type(error).__name__}: {brief(str(error))}); its "
                "forward must not depend on the values of tensors, nor on one batch size"
            ) from error


def export_graph(model: nn.Module, example: Tensor, label: str) -> GraphModule:
    """Export a copy of `model` in eval mode, NCHW, as a graph; arguments and errors are those of `export_program`."""
    copy = to_contiguous(copy_model(model).eval())
    return export_program(copy, example.contiguous(), label).module(check_guards=False)


def remove_unused(graph: GraphModule) -> None:
    """Delete parameters and buffers that no node reads, and the get_attr nodes without users.

    Tensors of a module that a node calls or reads stay, however deep, and so do those that are read by another name.
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
    """Hide what exporters warn, log and print of their own internals while the block runs.

    Where a branch depends on data, torch.export prints the graph so far to stderr, and has no switch for it: its module
    gets a `print` of its own meanwhile. What anything else writes to stderr is not touched.
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
        if before is not None:  # a block around this one
            names["print"] = before
