"""A model as an exported graph, the same with fake quantization in it, and its conversion to integers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torchao.quantization.pt2e import FakeQuantizeBase, enable_fake_quant
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

from mbcompress.graph import export as exported
from mbcompress.graph.export import ExportedGraph, remove_unused
from mbcompress.graph.layout import copy_model, to_contiguous

from .quantizer import IntegerQuantizer, Simulated, simulated_weight, trained_activation
from .rewrites import fold_norms, simplify

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch.fx import GraphModule

    from .scheme import Scheme


class FakeQuantized(ExportedGraph):
    """A captured network with int8 rounding simulated on every tensor that a runtime holds in int8.

    In train mode nothing is rounded in the first `free_calls`, and activation ranges follow the data in the first
    `observed_calls`; in eval mode everything is rounded and ranges stand still, so that evaluating on a split
    cannot move them. Weight ranges always are those of the weights.

    Args:
        captured: what `capture` gave; it is not changed.
        scheme: what is quantized, and how.
        ranges: scales and zero points of activations, from `calibration.Calibrated`.
    """

    def __init__(
        self,
        captured: GraphModule,
        scheme: Scheme,
        ranges: Mapping[str, tuple[float, int]],
        free_calls: int = 0,
        observed_calls: int = 0,
    ) -> None:
        quantizer = IntegerQuantizer(scheme, trained_activation(scheme.symmetric), simulated_weight)
        super().__init__(prepare_pt2e(copy_model(captured), quantizer))
        for name, module in self.activations().items():
            module.set_parameters(*ranges[name])
        self.free_calls = free_calls
        self.observed_calls = observed_calls
        self.calls = 0
        self.eval()

    def activations(self) -> dict[str, Simulated]:
        """What rounds each activation whose range the data decide, by name."""
        modules = self.captured.named_children()
        return {name: module for name, module in modules if isinstance(module, Simulated) and _follows_data(module)}

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
        """The same function with int8 weights and explicit quantize and dequantize operators."""
        self.eval()
        self.captured.apply(enable_fake_quant)
        images = next(node for node in self.captured.graph.nodes if node.op == "placeholder").meta["val"]
        with torch.no_grad():  # lets the ranges of weights be those of the weights as they are now
            self(torch.zeros(2, *images.shape[1:], device=images.device))
        return converted(copy_model(self.captured))

    def _set_phase(self, training: bool) -> None:
        rounding = not training or self.calls >= self.free_calls
        modules: list[Any] = list(self.captured.children())  # torchao is not typed
        for module in modules:
            if isinstance(module, FakeQuantizeBase):
                module.enable_fake_quant(rounding)
            if _follows_data(module):
                module.enable_observer(training and self.calls < self.observed_calls)


def _follows_data(module: nn.Module) -> bool:
    return isinstance(module, Simulated) and not module.is_per_channel


def capture(model: nn.Module, example: Tensor, label: str) -> GraphModule:
    """The ATen graph of a float model in eval mode, in few spellings, BatchNorm folded; `model` is not changed.

    Args:
        example: (2, C, H, W) float32; the batch size stays free.
        label: who asks, for the error.

    Raises:
        MbcompressError: torch.export cannot capture the model.
    """
    graph = exported.capture(model, example, label)
    simplify(graph)
    fold_norms(graph)
    return graph


def converted(prepared: GraphModule) -> nn.Module:
    """A prepared graph with int8 weights and explicit quantize and dequantize operators; the prepared one goes."""
    graph = convert_pt2e(to_contiguous(prepared), fold_quantize=True)
    remove_unused(graph)  # float weights beside their int8 form
    return ExportedGraph(graph).eval()
