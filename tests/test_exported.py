"""Graphs that torch.export captured: what is dropped from them, and what stays."""

import pytest
import torch
from torch import Tensor, fx, nn

from mbcompress.graph import remove_unused


class Leaf(nn.Module):
    """A module that a graph calls, whose weights lie deeper."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images)


def graph_of(reads: list[str]) -> fx.GraphModule:
    """Calls `leaf`, and adds the tensors that `reads` names; `again` is another name of `read`."""
    graph = fx.Graph()
    value = graph.call_module("leaf", (graph.placeholder("images"),))
    for name in reads:
        value = graph.call_function(torch.add, (value, graph.get_attr(name)))
    graph.get_attr("unread.weight")
    graph.output(value)
    root = nn.ModuleDict({"leaf": Leaf(), "read": nn.Linear(3, 3), "unread": nn.BatchNorm1d(3)})
    root["again"] = root["read"]
    module = fx.GraphModule(root, graph)
    for name, child in root.items():  # torch.fx takes over no more than the graph names
        module.add_module(name, child)
    return module


@pytest.mark.parametrize(("reads", "kept"), [(["read.weight"], {"weight"}), (["again.bias"], {"bias"}), ([], set())])
def test_only_what_a_node_reads_or_calls_stays(reads: list[str], kept: set[str]) -> None:
    graph = graph_of(reads)
    images = torch.randn(3, 3)
    with torch.no_grad():
        expected = graph(images)
        remove_unused(graph)
        assert torch.equal(graph(images), expected)
    names = {name for name, _ in graph.named_parameters(remove_duplicate=False)}
    shared = {f"{module}.{name}" for module in ("read", "again") for name in kept}
    assert names == {"leaf.inner.weight", "leaf.inner.bias"} | shared
    assert not list(graph.named_buffers())
