"""A model as an exported graph with fake quantization in it, and its conversion to integers."""

from __future__ import annotations

import copy
from contextlib import redirect_stderr
from io import StringIO
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn
from torchao.quantization.pt2e import (
    FakeQuantizeBase,
    MovingAverageMinMaxObserver,
    disable_fake_quant,
    enable_fake_quant,
)
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

from mbcompress import MbcompressError
from mbcompress.errors import brief
from mbcompress.layout import contiguous

from .quantizer import MOVING, IntegerQuantizer
from .rewrites import simplify

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch.fx import GraphModule


class ExportedGraph(nn.Module):
    """An ATen graph that was captured in eval mode: `train()` and `eval()` cannot change what it computes."""

    def __init__(self, captured: GraphModule) -> None:
        super().__init__()
        self.captured = captured  # not `graph`: torch.export would take it for its own

    def train(self, mode: bool = True) -> Self:
        self.training = mode
        return self

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.captured(images)
        return logits


class FakeQuantized(ExportedGraph):
    """`model` with BatchNorm folded and int8 rounding simulated on every tensor that a runtime holds in int8.

    In train mode activation ranges follow the data for the first `observed_steps` batches; in eval mode they stand
    still, so that evaluating on a split cannot move them. Weight ranges always are those of the weights.

    Args:
        model: a float model in eval mode; it is not changed.
        example: (2, C, H, W) float32; the batch size stays free.

    Attributes:
        float_layers: operators that stay in float, each with the reason.

    Raises:
        MbcompressError: torch.export cannot capture the model.
    """

    def __init__(self, model: nn.Module, example: Tensor, observed_steps: int) -> None:
        graph = _capture(contiguous(copy.deepcopy(model).eval()), example.contiguous())
        simplify(graph)
        quantizer = IntegerQuantizer()
        super().__init__(prepare_pt2e(graph, quantizer))
        self.float_layers = quantizer.float_layers
        self.observed_steps = observed_steps
        self.steps = 0
        self.eval()

    def calibrate(self, batches: Iterable[Tensor]) -> None:
        """Set activation ranges from images: this alone is post-training quantization."""
        self.captured.apply(disable_fake_quant)
        self._observe(True)
        with torch.no_grad():
            for number, images in enumerate(batches, start=1):
                self._average(1 / number)  # ranges are means over all batches, each with the same weight
                self.captured(images)
        self._average(MOVING)
        self._observe(False)
        self.captured.apply(enable_fake_quant)

    def train(self, mode: bool = True) -> Self:
        self._observe(mode and self.steps < self.observed_steps)
        return super().train(mode)

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            if self.steps == self.observed_steps:
                self._observe(False)
            self.steps += 1
        return super().forward(images)

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.steps)

    def set_extra_state(self, state: Tensor) -> None:
        self.steps = int(state)

    def convert(self) -> nn.Module:
        """The same function with int8 weights and explicit quantize and dequantize operators."""
        self.eval()
        converted = convert_pt2e(contiguous(self.captured))
        _drop_unused_parameters(converted)
        return ExportedGraph(converted).eval()

    def _average(self, constant: float) -> None:
        """Weight of the next batch in the activation ranges."""
        for module in self.captured.modules():
            if isinstance(module, MovingAverageMinMaxObserver):
                module.averaging_constant = constant

    def _observe(self, enabled: bool) -> None:
        for module in self.captured.modules():
            if isinstance(module, FakeQuantizeBase) and not module.is_per_channel:
                module.enable_observer(enabled)


def _capture(model: nn.Module, example: Tensor) -> GraphModule:
    batch = {0: torch.export.Dim.DYNAMIC}
    try:
        with redirect_stderr(StringIO()):  # on failure, torch prints half of the graph
            exported = torch.export.export(model, (example,), dynamic_shapes=(batch,))
    except Exception as error:  # torch.export has no class of its own, and passes on what the model raises
        raise MbcompressError(
            f"qat: torch.export cannot capture the model ({type(error).__name__}: {brief(str(error))}); its forward "
            "must not depend on the values of tensors, nor on one batch size"
        ) from error
    return exported.module(check_guards=False)


def _drop_unused_parameters(graph: GraphModule) -> None:
    """Delete the float weights that conversion leaves behind beside their int8 form."""
    used = {node.target for node in graph.graph.nodes if node.op == "get_attr"}
    for name, _ in list(graph.named_parameters()):
        if name not in used:
            owner, _, attribute = name.rpartition(".")
            delattr(graph.get_submodule(owner), attribute)
