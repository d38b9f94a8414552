"""Structured pruning: whole channels go, with everything that depends on them.

Dependencies between layers (residual adds, depthwise convolutions, squeeze-and-excitation) are torch-pruning's: Fang et
al., "DepGraph: Towards Any Structural Pruning", 2023, https://arxiv.org/abs/2301.12900. The L1 criterion is that of Li
et al., "Pruning Filters for Efficient ConvNets", 2017, https://arxiv.org/abs/1608.08710.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from mbcompress.components import Pass
from mbcompress.hookspecs import hookimpl
from mbcompress.training_options import TrainingOptions

if TYPE_CHECKING:
    from torch import nn

    from mbcompress.context import Context

SEARCH_STEPS = 9  # halvings of the interval of channel ratios: resolves 0.2 % of the channels
LARGEST_RATIO = 0.95


class Prune(Pass):
    """Remove the least important channels until a target share of the operations or parameters is left."""

    name: ClassVar[str] = "prune"

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
        default=None, description="Training after each step but the last; options as in 'train'."
    )

    @model_validator(mode="after")
    def _has_one_target(self) -> Self:
        if (self.target_macs is None) == (self.target_parameters is None):
            raise ValueError("needs one target: either 'target_macs' or 'target_parameters'")
        return self

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        from mbcompress.training import fit, label_loss

        for step in range(1, self.steps + 1):
            with context.progress.busy(f"{self.name}, step {step}/{self.steps}"):
                model = self._shrink(model, context, self._target() ** (step / self.steps))
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

    def _shrink(self, model: nn.Module, context: Context, target: float) -> nn.Module:
        """The model with the smallest channel ratio that meets `target`, by bisection; `model` is not changed."""
        from mbcompress.errors import MbcompressError

        whole = self._size(context.baseline, context)
        if self._size(model, context) <= target * whole:
            return model
        best, low, high = self._pruned(model, context, LARGEST_RATIO), 0.0, LARGEST_RATIO
        if (smallest := self._size(best, context) / whole) > target:
            option = "target_parameters" if self.target_macs is None else "target_macs"
            raise MbcompressError(
                f"prune: {option} {target:.3g} cannot be reached with round_to {self.round_to}, the least is "
                f"{smallest:.3g}; raise {option} or lower round_to"
            )
        for _ in range(SEARCH_STEPS):
            ratio = (low + high) / 2
            candidate = self._pruned(model, context, ratio)
            if self._size(candidate, context) <= target * whole:
                best, high = candidate, ratio
            else:
                low = ratio
        return best

    def _pruned(self, model: nn.Module, context: Context, ratio: float) -> nn.Module:
        import torch

        model = copy.deepcopy(model).eval()
        example = context.example()
        torch.manual_seed(context.seed)  # the random criterion draws the same order for every ratio
        pruner = _pruner_class()(
            model,
            example,
            importance=_importance(self.criterion),
            pruning_ratio=ratio,
            max_pruning_ratio=LARGEST_RATIO,
            global_pruning=self.scope == "global",
            round_to=self.round_to,
            ignored_layers=_output_layers(model, example),
        )
        pruner.step()
        return model


def _pruner_class() -> Any:
    import torch_pruning as tp

    class Pruner(tp.pruner.BasePruner):  # type: ignore[misc]  # torch-pruning is not typed
        """Leaves every layer one multiple of `round_to`: the library's rounding goes to zero, and then keeps all."""

        def _round_to(self, n_pruned: int, current_channels: int, round_to: int) -> int:
            left = max((current_channels - n_pruned) // round_to, 1) * round_to
            return max(current_channels - left, 0)

    return Pruner


def _importance(criterion: str) -> Any:
    import torch_pruning as tp

    match criterion:
        case "l1" | "l2":
            return tp.importance.GroupMagnitudeImportance(p=int(criterion[1]))
        case "bn_scale":
            return tp.importance.BNScaleImportance()
        case _:
            return tp.importance.RandomImportance()


def _output_layers(model: nn.Module, example: Any) -> list[nn.Module]:
    """Layers that make the logits: their outputs are classes, not channels."""
    import torch
    from torch import nn

    last: list[nn.Module] = []

    def remember(module: nn.Module, inputs: object, output: object) -> None:
        last[:] = [module]

    hooks = [m.register_forward_hook(remember) for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    with torch.no_grad():
        model(example)
    for hook in hooks:
        hook.remove()
    return last


@hookimpl
def mbcompress_passes() -> list[type[Pass]]:
    return [Prune]
