"""Modules as graphs of ATen operators, by torch.export. Imports torch."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from itertools import accumulate
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from mbcompress.errors import MbcompressError, brief
from mbcompress.graph.layout import copy_model, to_contiguous

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.export import ExportedProgram
    from torch.fx import GraphModule


class ExportedGraph(nn.Module):
    """A graph that was captured in eval mode: `train()` and `eval()` cannot change what it computes."""

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


def program(model: nn.Module, example: Tensor, label: str) -> ExportedProgram:
    """What torch.export makes of `model` as it is, for any batch size.

    Args:
        model: in eval mode, on the device of `example`; the program shares its weights.
        example: (2, C, H, W) float32: a batch of one would be taken for a constant.
        label: who asks, for the error.

    Raises:
        MbcompressError: torch.export cannot capture the model.
    """
    with silenced():
        try:
            return torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
        except Exception as error:  # torch.export has no class of its own, and passes on what the model raises
            raise MbcompressError(
                f"{label}: torch.export cannot capture the model ({type(error).__name__}: {brief(str(error))}); its "
                "forward must not depend on the values of tensors, nor on one batch size"
            ) from error


def capture(model: nn.Module, example: Tensor, label: str) -> GraphModule:
    """A copy of `model` in eval mode, NCHW, as a graph; arguments and errors are those of `program`."""
    return program(to_contiguous(copy_model(model).eval()), example.contiguous(), label).module(check_guards=False)


def remove_unused(graph: GraphModule) -> None:
    """Delete parameters and buffers that no node reads any more, and the nodes that gave them to nobody.

    What belongs to a module that a node calls or reads stays, however deep, and so does a tensor that is read under
    another name.
    """
    for node in reversed(list(graph.graph.nodes)):
        if node.op == "get_attr" and not node.users:
            graph.graph.erase_node(node)
    graph.recompile()
    read = {str(node.target) for node in graph.graph.nodes if node.op in ("get_attr", "call_module")}
    tensors = [*graph.named_parameters(remove_duplicate=False), *graph.named_buffers(remove_duplicate=False)]
    kept = {id(tensor) for name, tensor in tensors if not read.isdisjoint(accumulate(name.split("."), "{}.{}".format))}
    for name, tensor in tensors:
        owner, _, attribute = name.rpartition(".")
        module = graph.get_submodule(owner)
        if id(tensor) not in kept and hasattr(module, attribute):  # a shared module has been seen under another name
            delattr(module, attribute)


@contextmanager
def quiet(level: int = logging.WARNING) -> Iterator[None]:
    """Leave out what torch and the libraries around it say of their own internals, up to `level`."""
    before = logging.root.manager.disable
    logging.disable(max(before, level))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def silenced() -> Iterator[None]:
    """As `quiet`, and nothing reaches stderr: exporters that fail print half of the graph there."""
    with quiet(), redirect_stderr(StringIO()):
        yield
