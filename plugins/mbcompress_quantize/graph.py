"""Export a model to a canonical graph, add fake quantization, and convert it to int8."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeGuard

import torch
from torch import Tensor, nn

from mbcompress.graph import (
    ExportedGraph,
    canonicalize,
    copy_model,
    export_graph,
    fold_batch_norms,
    remove_unused,
    to_contiguous,
)

from .fake_quantize import ConvertibleFakeQuantize, fake_quantized_activation, fake_quantized_weight
from .pt2e import FakeQuantizeBase, convert_pt2e, enable_fake_quant, prepare_pt2e
from .quantizer import IntegerQuantizer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch.fx import GraphModule

    from .scheme import Scheme


class FakeQuantized(ExportedGraph):
    """A graph with fake quantization of every tensor that a runtime stores as int8.

    In train mode the first `free_calls` calls do not round, and activation ranges follow the data during the first
    `observed_calls` calls. In eval mode all tensors are rounded and the ranges are frozen, so evaluation does not
    change them. Weight ranges always follow the weights.

    Args:
        graph: from `canonical_graph`; not changed.
        scheme: how each layer is quantized.
        ranges: scales and zero points of activations, from `calibration.Calibrated`.
        free_calls: number of training batches without rounding.
        observed_calls: number of training batches that update activation ranges.
    """

    def __init__(
        self,
        graph: GraphModule,
        scheme: Scheme,
        ranges: Mapping[str, tuple[float, int]],
        free_calls: int = 0,
        observed_calls: int = 0,
    ) -> None:
        quantizer = IntegerQuantizer(scheme, fake_quantized_activation(scheme.symmetric), fake_quantized_weight)
        super().__init__(prepare_pt2e(copy_model(graph), quantizer))
        for name, module in self.captured.named_children():
            if _follows_data(module):
                module.set_qparams(*ranges[name])
        self.free_calls = free_calls
        self.observed_calls = observed_calls
        self.calls = 0
        self.eval()

    def train(self, mode: bool = True) -> Self:
        self._set_phase(mode)
        return super().train(mode)

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            if self.calls in (self.free_calls, self.observed_calls):
                self._set_phase(True)
            self.calls += 1
        return super().forward(images)

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.calls)

    def set_extra_state(self, state: Tensor) -> None:
        self.calls = int(state)

    def convert(self) -> nn.Module:
        """Return an equivalent module with int8 weights and explicit quantize and dequantize operators."""
        self.eval()
        self.captured.apply(enable_fake_quant)
        images = next(node for node in self.captured.graph.nodes if node.op == "placeholder").meta["val"]
        with torch.no_grad():  # updates the weight ranges
            self(torch.zeros(2, *images.shape[1:], device=images.device))
        return convert_graph(copy_model(self.captured))

    def _set_phase(self, training: bool) -> None:
        rounding = not training or self.calls >= self.free_calls
        modules: list[Any] = list(self.captured.children())  # torchao is not typed
        for module in modules:
            if isinstance(module, FakeQuantizeBase):
                module.enable_fake_quant(rounding)
            if _follows_data(module):
                module.enable_observer(training and self.calls < self.observed_calls)


def _follows_data(module: object) -> TypeGuard[ConvertibleFakeQuantize]:
    """Whether `module` quantizes an activation with a range from data."""
    return isinstance(module, ConvertibleFakeQuantize) and not module.is_per_channel


def canonical_graph(model: nn.Module, example: Tensor, label: str) -> GraphModule:
    """Export a float model in eval mode to a canonical graph with BatchNorm folded; `model` is not changed.

    Args:
        example: (2, C, H, W) float32; the batch dimension stays dynamic.
        label: name of the pass, for error messages.

    Raises:
        MbcompressError: torch.export cannot capture the model.
    """
    graph = export_graph(model, example, label)
    canonicalize(graph)
    fold_batch_norms(graph)
    return graph


def convert_graph(prepared: GraphModule) -> nn.Module:
    """Convert a prepared graph to int8 weights with quantize and dequantize operators; `prepared` is changed."""
    graph = convert_pt2e(to_contiguous(prepared), fold_quantize=True)
    remove_unused(graph)  # the float weights
    return ExportedGraph(graph).eval()
