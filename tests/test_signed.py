"""Graphs with int8 activations compute what those with uint8 activations do."""

import pytest
import torch
from integer_models import Blocks, integer

from mbcompress.graph import signed_int8_graph


@pytest.mark.filterwarnings("ignore")  # of torch and torchao, about themselves
def test_the_same_logits_without_uint8_activations() -> None:
    model = integer(Blocks())
    images = torch.randn(2, 3, 32, 32)
    graph = signed_int8_graph(model, images)
    with torch.no_grad():
        expected, answered = model(images), graph(images)
    assert float((answered - expected).abs().max()) < 0.02 * float(expected.abs().max())  # a half step here and there
    calls = [node for node in graph.graph.nodes if node.op == "call_function"]
    assert len(calls) > 40
    assert not any(torch.uint8 in node.args for node in calls)
    assert not any(node.target == torch.ops.aten.hardsigmoid.default for node in calls)


def test_a_float_network_is_not_changed() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Hardsigmoid()).eval()
    images = torch.randn(1, 3, 8, 8)
    graph = signed_int8_graph(model, images)
    torch.testing.assert_close(graph(images), model(images), rtol=0, atol=0)
    assert any(node.target == torch.ops.aten.hardsigmoid.default for node in graph.graph.nodes)
