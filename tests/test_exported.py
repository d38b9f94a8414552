"""The room `graph`: its names, what `remove_unused` drops, hooks, and libraries that are quiet and restored."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_models import Moody
from torch import Tensor, fx, nn
from torch.export import _trace

import mbcompress.graph
from mbcompress import MbcompressError
from mbcompress.errors import system_limits
from mbcompress.graph import (
    environment_variables,
    export_graph,
    export_program,
    quiet_export,
    remove_unused,
    run_with_hook,
)
from mbcompress.registry.discovery import Registry


class Leaf(nn.Module):
    """A module that a graph calls, with weights in a submodule."""

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


def test_every_public_name_is_there() -> None:
    assert all(getattr(mbcompress.graph, name).__name__ == name for name in mbcompress.graph.__all__)
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        mbcompress.graph.absent  # noqa: B018


def test_importing_the_room_does_not_import_torch() -> None:
    code = (
        "import sys; from mbcompress.graph import environment_variables, quiet_libraries, registered_operators; "
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_hooks_see_inputs_and_replace_outputs() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Flatten()).eval()
    images = torch.randn(2, 3, 4, 4)
    graph = export_graph(model, images, "test")
    relu, flatten = (node for node in graph.graph.nodes if "relu" in node.name or "flatten" in node.name)
    seen: dict[str, Any] = {}

    def hook(node: fx.Node, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        seen[node.name] = args[0], output
        return torch.ones_like(output) if node is relu else None

    run_with_hook(graph, images, [relu, flatten], hook)
    torch.testing.assert_close(seen[relu.name], (model[0](images), model[:2](images)))
    assert all(torch.equal(tensor, torch.ones_like(tensor)) for tensor in seen[flatten.name])


def test_a_failing_export_prints_nothing_and_restores_print(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet_export(), pytest.raises(MbcompressError, match="cannot capture"):
        export_program(Moody().eval(), torch.zeros(2, 3, 32, 32), "test")
    assert "print" not in vars(_trace)
    assert capfd.readouterr() == ("", "")


def test_variables_are_set_for_a_while_and_those_of_the_user_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MBCOMPRESS_USERS", "1")
    with environment_variables(MBCOMPRESS_USERS="2", MBCOMPRESS_OURS="2"):
        assert os.environ["MBCOMPRESS_USERS"] == "1"
        assert os.environ["MBCOMPRESS_OURS"] == "2"
    assert os.environ["MBCOMPRESS_USERS"] == "1"
    assert "MBCOMPRESS_OURS" not in os.environ


@pytest.mark.parametrize(("runtime", "suffix"), [("onnx", ".onnx"), ("torch", ".pt2")])
def test_a_full_disk_under_an_exported_file_is_one_sentence(
    runtime: str, suffix: str, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(64, 10)).eval()
    exporter, path = registry.runtimes.build(runtime, {}, registry), tmp_path / f"model{suffix}"
    with pytest.raises(MbcompressError, match=r"^a file: cannot be written: No space left on device$"), system_limits():
        exporter.export(model, (3, 4, 4), path)
