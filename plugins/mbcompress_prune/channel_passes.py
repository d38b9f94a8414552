"""Passes on channels: prune the least important ones, or show how sensitive the accuracy is to each group."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from mbcompress import DistillationConfig, MbcompressError, Pass, TrainingConfig, Trait, Unsupported, report_unsupported

from .targets import Targets, measured_target

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

    from mbcompress import Context
    from mbcompress.training import Callback

    from .channels import ChannelPruner, PruningRatio
    from .sensitivity import Analysis
    from .targets import Target

SEARCH_STEPS = 9  # halvings of the interval of channel ratios: resolves 0.2 % of the channels
MEASURED_STEPS = 6  # where each takes seconds: 1.5 %


class _Channels(Pass):
    """Options of passes on channels."""

    uses_runtimes: ClassVar[bool] = True

    criterion: Literal["l1", "l2", "bn_scale", "taylor", "random"] = Field(
        default="l1",
        description="Importance of a channel: L1 or L2 norm of all weights pruned with it; its BatchNorm scale "
        "(Liu et al. 2017); taylor, the first-order change of the loss without it (Molchanov et al. 2019); or random, "
        "as a control.",
    )
    round_to: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="Remaining channel counts are multiples of this; null is what the recipe's runtimes are fastest "
        "with, 16 for ONNX Runtime on x86-64.",
    )
    importance_images: int = Field(
        default=1024, ge=1, le=100_000, description="Training images for the criterion 'taylor'."
    )
    sensitivity_ratios: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(0.25, 0.5, 0.75),
        min_length=1,
        max_length=16,
        description="Shares of each group's channels to prune in a sensitivity analysis.",
    )
    sensitivity_images: int = Field(
        default=1000, ge=1, le=1_000_000, description="Validation images for a sensitivity analysis."
    )

    def _multiple(self, context: Context) -> int:
        return self.round_to or max((runtime.channel_multiple for runtime in context.runtimes), default=8)

    def _pruner(self, model: nn.Module, context: Context, scope: str) -> ChannelPruner:
        from .channels import ChannelPruner, loss_gradients

        gradients = None
        if self.criterion == "taylor":
            images = min(self.importance_images, len(context.data.train))
            gradients = loss_gradients(model, context, images)
        return ChannelPruner(self.criterion, scope, self._multiple(context), context.seed, gradients)

    def _find_ignored_layers(self, model: nn.Module, context: Context, unsupported: Unsupported) -> list[str]:
        """Return the names of layers that cannot lose channels, and report or refuse them."""
        from .channels import LARGEST_RATIO, output_layer, unprunable_layers, unpruned_layers

        example = context.example()
        pruner = self._pruner(model, context, "uniform")  # every layer gets its turn
        with context.progress.busy(f"{self.name}, which channels can be pruned"):
            output = output_layer(model, example)
            reasons = unprunable_layers(model, example, pruner, output)
            ignored_layers = [name for name in reasons if name not in dict(model.named_parameters())]
            least = pruner.prune(model, example, LARGEST_RATIO, [*output, *ignored_layers])
            why = "no BatchNorm follows" if self.criterion == "bn_scale" else "its channels are tied to fixed ones"
            reasons = dict.fromkeys(unpruned_layers(model, least, pruner.round_to), why) | reasons
        layers = [f"{name} ({reason})" for name, reason in reasons.items() if name not in output]
        report_unsupported(context, unsupported, f"{self.name}: not pruned", layers)
        context.metrics["unpruned_layers"] = len(layers)
        return [*output, *ignored_layers]

    def _analyse(self, model: nn.Module, context: Context, ignored_layers: list[str]) -> Analysis:
        """Measure sensitivity curves, and add them to the files of the pass."""
        from .channels import find_groups, output_layer
        from .sensitivity import analyse

        groups = find_groups(model, context.example(), output_layer(model, context.example()))
        pruner = self._pruner(model, context, "uniform")
        ratios = sorted(set(self.sensitivity_ratios))
        analysis = analyse(model, context, pruner, groups, ignored_layers, ratios, self.sensitivity_images)
        context.files["sensitivity.csv"] = analysis.table()
        if analysis.curves:
            context.files["sensitivity.svg"] = analysis.picture()
        return analysis


class Prune(_Channels, Targets):
    """Remove the least important channels until a target share of the MACs, parameters, bytes or latency is left."""

    name = "prune"
    examples = ({"target_macs": 0.6},)

    scope: Literal["global", "uniform", "sensitivity"] = Field(
        default="global",
        description="global: the channels of all layers are ranked together; uniform: each layer loses the same share; "
        "sensitivity: each group loses as much as costs the same accuracy, found by a sensitivity analysis.",
    )
    iterative_steps: int = Field(
        default=1, ge=1, le=100, description="Steps to the target, each by the same factor, with a recovery after each."
    )
    recovery: TrainingConfig | None = Field(
        default=None, description="Training after each step, with the fields of 'training' in 'train'; null for none."
    )
    distillation: DistillationConfig | None = Field(
        default=None, description="What the recovery learns from a teacher; null for the labels alone."
    )
    gradual: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Set more and more channels to zero during this share of 'recovery', by a cubic schedule, and "
        "remove them at its end; null removes them before the recovery.",
    )
    recalibrate: bool = Field(
        default=True,
        description="Update BatchNorm's running statistics on training images after each step; those of the larger "
        "network no longer fit.",
    )

    unsupported: Unsupported = "skip"

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.distillation is not None and self.recovery is None:
            raise ValueError("has 'distillation', which needs 'recovery'; set both, or leave it out")
        if self.gradual is not None and (self.recovery is None or self.iterative_steps > 1):
            raise ValueError("has 'gradual', which needs 'recovery' and one iterative step; set both, or leave it out")
        if self.gradual is not None and self.recovery is not None and not self.recovery.epochs:
            raise ValueError("has 'gradual', which happens while training; give 'recovery' epochs, or leave it out")
        return self

    @property
    def looks_ahead(self) -> bool:
        return self.measured

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        from mbcompress.training import update_bn

        from .patterns import report_lost_patterns

        before = model
        ignored_layers = self._find_ignored_layers(model, context, self.unsupported)
        with measured_target(self, context) as target:
            for step in range(1, self.iterative_steps + 1):
                aim = replace(target, limit=target.limit ** (step / self.iterative_steps))
                with context.progress.busy(f"{self.name}, step {step}/{self.iterative_steps}"):
                    find = partial(self._find_ratio, model, context, aim, ignored_layers)
                    ratio = context.decide_once(f"step {step}", find)
                if self.gradual is not None:
                    model = self._prune_gradually(model, context, target, ignored_layers, ratio)
                elif ratio:
                    pruner = self._pruner(model, context, self.scope)
                    model = pruner.prune(model, context.example(), ratio, ignored_layers)
                if self.recalibrate:
                    update_bn(model, context)
                if self.recovery and self.gradual is None:
                    self._recover(model, context, f"{self.name}, recovery {step}/{self.iterative_steps}")
            context.metrics["left"] = target.share(model)
        report_lost_patterns(before, model, context)
        return model

    def _recover(self, model: nn.Module, context: Context, label: str, callbacks: Sequence[Callback] = ()) -> None:
        from mbcompress.training import fit

        assert self.recovery is not None
        fit(model, context, self.recovery, distillation=self.distillation, label=label, callbacks=callbacks)

    def _prune_gradually(
        self, model: nn.Module, context: Context, target: Target, ignored_layers: list[str], ratio: PruningRatio
    ) -> nn.Module:
        """Train a copy of the model while its channels go to zero, then remove those channels."""
        from .channels import ChannelPruner
        from .gradual import GradualChannelPruning

        model = copy.deepcopy(model)

        def choose(model: nn.Module, share: float) -> Any:
            part = self._ratio_at(model, context, target, ignored_layers, ratio, share)
            if part == 0.0:
                return []
            return self._pruner(model, context, self.scope).choose(model, context.example(), part, ignored_layers)

        assert self.gradual is not None
        fading = GradualChannelPruning(choose, self.gradual, sparse=Trait.SPARSE in context.traits)
        self._recover(model, context, f"{self.name}, gradual", [fading])
        ratios = fading.ratios(model)
        # whichever criterion chose them, channels of zeros have the smallest norm
        pruner = ChannelPruner("l1", "uniform", self._multiple(context), context.seed)
        return pruner.prune(model, context.example(), ratios, ignored_layers) if ratios else model

    def _ratio_at(
        self,
        model: nn.Module,
        context: Context,
        target: Target,
        ignored_layers: list[str],
        ratio: PruningRatio,
        share: float,
    ) -> PruningRatio:
        """Return the pruning ratio after `share` of the way to `ratio`, which was found before the training.

        Where all layers are ranked together, the ranking changes while the model trains: the ratio is searched again on
        the model as it is, at each update if the target needs no measurement, and at the last one.
        """
        part = share * ratio if isinstance(ratio, float) else {name: share * each for name, each in ratio.items()}
        if self.scope != "global" or part == 0.0 or not (target.exact or share == 1):
            return part
        now, aim = copy.deepcopy(model).eval(), target
        if share < 1:
            whole = target.share(now)
            aim = replace(target, limit=whole - share * (whole - target.limit))

        def find() -> PruningRatio:
            try:
                return self._find_ratio(now, context, aim, ignored_layers)
            except MbcompressError:  # reachable before the training, and just missed now
                return part

        found: PruningRatio = find() if target.exact else context.decide_once("gradual, last step", find)
        return found

    def _find_ratio(
        self, model: nn.Module, context: Context, target: Target, ignored_layers: list[str]
    ) -> PruningRatio:
        """Return the smallest pruning ratio that meets the target, by bisection; 0.0 if the model meets it."""
        from .channels import LARGEST_RATIO

        if target.exact and target.share(model) <= target.limit:
            return 0.0
        pruner, example = self._pruner(model, context, self.scope), context.example()
        ratio_at: Callable[[float], PruningRatio] = lambda ratio: ratio  # noqa: E731
        low, high = 0.0, LARGEST_RATIO
        if self.scope == "sensitivity":
            ratio_at, low, high = self._analyse(model, context, ignored_layers).ratios, -1.0, 1.0
        if (smallest := target.share(pruner.prune(model, example, ratio_at(high), ignored_layers))) > target.limit:
            raise MbcompressError(
                f"prune: {target.name} {target.limit:.3g} cannot be reached with round_to {pruner.round_to}, the least "
                f"is {smallest:.3g}; raise {target.name} or lower round_to"
            )
        for _ in range(SEARCH_STEPS if target.exact else MEASURED_STEPS):
            middle = (low + high) / 2
            reached = target.share(pruner.prune(model, example, ratio_at(middle), ignored_layers)) <= target.limit
            low, high = (low, middle) if reached else (middle, high)
        return ratio_at(high)


class Sensitivity(_Channels):
    """Show how much accuracy each group of channels costs when pruned; the model stays as it is."""

    name = "sensitivity"

    unsupported: Unsupported = "skip"

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        analysis = self._analyse(model, context, self._find_ignored_layers(model, context, self.unsupported))
        context.metrics["groups"] = len(analysis.curves)
        return model
