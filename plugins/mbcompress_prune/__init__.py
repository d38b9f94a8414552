"""Structured pruning: whole channels go, with everything that depends on them.

Dependencies between layers (residual adds, depthwise convolutions, squeeze-and-excitation) are torch-pruning's: Fang et
al., "DepGraph: Towards Any Structural Pruning", 2023, https://arxiv.org/abs/2301.12900. The L1 criterion is that of Li
et al., "Pruning Filters for Efficient ConvNets", 2017, https://arxiv.org/abs/1608.08710.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from mbcompress import MbcompressError, Pass, TrainingOptions, hookimpl
from mbcompress.unsupported import Unsupported, report_unsupported

if TYPE_CHECKING:
    from torch import nn

    from mbcompress import Context

    from .channels import Shrinking

SEARCH_STEPS = 9  # halvings of the interval of channel ratios: resolves 0.2 % of the channels


class Prune(Pass):
    """Remove the least important channels until a target share of the operations or parameters is left."""

    name: ClassVar[str] = "prune"
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({"target_macs": 0.6},)

    criterion: Literal["l1", "l2", "bn_scale", "random"] = Field(
        default="l1",
        description="Importance of a channel: L1 or L2 norm of all weights that go with it, the size of its BatchNorm "
        "scale (Liu et al. 2017), or chance, as a control.",
    )
    target_macs: float | None = Field(
        default=None, gt=0, lt=1, description="Share of the baseline's multiply-accumulates that may be left."
    )
    target_parameters: float | None = Field(
        default=None, gt=0, lt=1, description="Share of the baseline's parameters that may be left."
    )
    scope: Literal["global", "uniform"] = Field(
        default="global",
        description="global: channels of all layers compete with each other; uniform: each layer loses the same share.",
    )
    round_to: int = Field(
        default=8,
        ge=1,
        le=256,
        description="Channel counts that are left are multiples of this. Runtimes are fast on multiples of 8; ONNX "
        "Runtime's int8 depthwise kernels on x86-64 on multiples of 16.",
    )
    steps: int = Field(default=1, ge=1, le=100, description="Steps on the way to the target, each by the same factor.")
    recovery: TrainingOptions | None = Field(
        default=None, description="Training between the steps; options as in 'train'."
    )
    recalibrate: bool = Field(
        default=True,
        description="Estimate BatchNorm's running statistics anew on training images after each step; those of the "
        "larger network no longer fit.",
    )

    unsupported: Unsupported = "skip"

    @model_validator(mode="after")
    def _has_one_target(self) -> Self:
        if (self.target_macs is None) == (self.target_parameters is None):
            raise ValueError("needs one target: either 'target_macs' or 'target_parameters'")
        if self.recovery and self.steps == 1:
            raise ValueError("has 'recovery', which is between steps, but one step only; set 'steps' to 2 or more")
        return self

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        from mbcompress.training import estimate_statistics, fit, label_loss

        from .channels import output_layer

        kept = [*output_layer(model, context.example()), *self._spare(model, context)]
        for step in range(1, self.steps + 1):
            with context.progress.busy(f"{self.name}, step {step}/{self.steps}"):
                model = self._shrink(model, context, self._target() ** (step / self.steps), kept)
                if self.recalibrate:
                    estimate_statistics(model, context)
            if self.recovery and step < self.steps:
                label = f"{self.name}, recovery {step}/{self.steps - 1}"
                fit(model, context, self.recovery, label_loss(self.recovery), label)
        context.metrics["left"] = self._size(model, context) / self._size(context.baseline, context)
        return model

    def _target(self) -> float:
        target = self.target_parameters if self.target_macs is None else self.target_macs
        assert target is not None  # by _has_one_target
        return target

    def _size(self, model: nn.Module, context: Context) -> int:
        from mbcompress.counting import count_macs, count_parameters

        return count_parameters(model) if self.target_macs is None else count_macs(model, context.example())

    def _spare(self, model: nn.Module, context: Context) -> list[str]:
        """Names of layers that keep their channels because nothing else is possible; tells them, or refuses."""
        from .channels import LARGEST_RATIO, output_layer, unprunable, untouched

        example = context.example()
        shrinking = replace(self._shrinking(context), scope="uniform")  # every layer gets its turn
        with context.progress.busy(f"{self.name}, which channels can go"):
            output = output_layer(model, example)
            reasons = unprunable(model, example, shrinking, output)
            kept = [name for name in reasons if name not in dict(model.named_parameters())]
            least = shrinking.prune(model, example, LARGEST_RATIO, [*output, *kept])
            why = "no BatchNorm follows" if self.criterion == "bn_scale" else "its channels are tied to fixed ones"
            reasons = dict.fromkeys(untouched(model, least, self.round_to), why) | reasons
        layers = [f"{name} ({reason})" for name, reason in reasons.items() if name not in output]
        report_unsupported(context, self.unsupported, "prune: keeps all channels", layers)
        context.metrics["unpruned_layers"] = len(layers)
        return kept

    def _shrinking(self, context: Context) -> Shrinking:
        from .channels import Shrinking

        return Shrinking(self.criterion, self.scope, self.round_to, context.seed)

    def _shrink(self, model: nn.Module, context: Context, target: float, kept: list[str]) -> nn.Module:
        """The model with the smallest channel ratio that meets `target`, by bisection; `model` is not changed."""
        from .channels import LARGEST_RATIO

        whole, example, shrinking = self._size(context.baseline, context), context.example(), self._shrinking(context)
        if self._size(model, context) <= target * whole:
            return model
        best, low, high = shrinking.prune(model, example, LARGEST_RATIO, kept), 0.0, LARGEST_RATIO
        if (smallest := self._size(best, context) / whole) > target:
            option = "target_parameters" if self.target_macs is None else "target_macs"
            raise MbcompressError(
                f"prune: {option} {target:.3g} cannot be reached with round_to {self.round_to}, the least is "
                f"{smallest:.3g}; raise {option} or lower round_to"
            )
        for _ in range(SEARCH_STEPS):
            ratio = (low + high) / 2
            candidate = shrinking.prune(model, example, ratio, kept)
            if self._size(candidate, context) <= target * whole:
                best, high = candidate, ratio
            else:
                low = ratio
        return best


@hookimpl
def mbcompress_passes() -> list[type[Pass]]:
    return [Prune]
