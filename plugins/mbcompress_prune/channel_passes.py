"""The passes `prune` (remove the least important channels) and `sensitivity` (measure what each group costs)."""

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

SEARCH_STEPS = 9  # bisections of the pruning ratio, to 0.2 % of the channels
MEASURED_STEPS = 6  # for measured targets, which take seconds per step: to 1.5 %


class _Channels(Pass):
    """Options that both passes share."""

    uses_runtimes: ClassVar[bool] = True

    criterion: Literal["l1", "l2", "bn_scale", "taylor", "random"] = Field(
        default="l1",
        description="Importance of a channel: l1 or l2, the norm of all weights that are pruned with it; bn_scale, its "
        "BatchNorm scale (Liu et al. 2017); taylor, the first-order change in loss without it (Molchanov et al. 2019); "
        "or random, as a baseline.",
    )
    round_to: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="Round the remaining channel counts to multiples of this; null uses the fastest multiple for the "
        "recipe's runtimes, such as 16 for ONNX Runtime on x86-64.",
    )
    importance_images: int = Field(
        default=1024, ge=1, le=100_000, description="Number of training images for the criterion 'taylor'."
    )
    sensitivity_ratios: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(0.25, 0.5, 0.75),
        min_length=1,
        max_length=16,
        description="Pruning ratios to evaluate for each group in the sensitivity analysis.",
    )
    sensitivity_images: int = Field(
        default=1000, ge=1, le=1_000_000, description="Number of validation images for the sensitivity analysis."
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
        """Report or refuse layers whose channels cannot be pruned, and return their names and the output layer."""
        from .channels import LARGEST_RATIO, output_layer, unprunable_layers, unpruned_layers

        example = context.example()
        pruner = self._pruner(model, context, "uniform")  # tries to prune every layer
        with context.progress.busy(f"{self.name}, which channels can be pruned"):
            output = output_layer(model, example)
            reasons = unprunable_layers(model, example, pruner, output)
            ignored_layers = [name for name in reasons if name not in dict(model.named_parameters())]
            least = pruner.prune(model, example, LARGEST_RATIO, [*output, *ignored_layers])
            why = "no BatchNorm follows" if self.criterion == "bn_scale" else "its channels depend on fixed ones"
            reasons = dict.fromkeys(unpruned_layers(model, least, pruner.round_to), why) | reasons
        layers = [f"{name} ({reason})" for name, reason in reasons.items() if name not in output]
        report_unsupported(context, unsupported, f"{self.name}: not pruned", layers)
        context.metrics["unpruned_layers"] = len(layers)
        return [*output, *ignored_layers]

    def _analyse(self, model: nn.Module, context: Context, ignored_layers: list[str]) -> Analysis:
        """Measure the sensitivity curves and add them to the files of the pass."""
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
    """Remove the least important channels to reach a target ratio of MACs, parameters, file size or latency."""

    name = "prune"
    examples = ({"target_macs": 0.6},)

    scope: Literal["global", "uniform", "sensitivity"] = Field(
        default="global",
        description="global: rank the channels of all layers together; uniform: use the same pruning ratio for every "
        "layer; sensitivity: choose ratios so that each group costs the same accuracy in a sensitivity analysis.",
    )
    iterative_steps: int = Field(
        default=1,
        ge=1,
        le=100,
        description="Number of pruning steps to reach the target, each by the same factor and followed by 'recovery'.",
    )
    recovery: TrainingConfig | None = Field(
        default=None,
        description="Fine-tuning after each pruning step, with the fields of 'training' in 'train'; null for none.",
    )
    distillation: DistillationConfig | None = Field(
        default=None, description="Knowledge distillation during 'recovery'; null trains on the labels only."
    )
    gradual: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Fraction of 'recovery' during which channels are gradually set to zero on a cubic schedule; they "
        "are removed after it. Null removes them before 'recovery'.",
    )
    recalibrate: bool = Field(
        default=True,
        description="Recompute BatchNorm running statistics on training images after each pruning step, because those "
        "of the larger model no longer fit.",
    )

    unsupported: Unsupported = "skip"

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.distillation is not None and self.recovery is None:
            raise ValueError("has 'distillation', which needs 'recovery'; set both, or leave it out")
        if self.gradual is not None and (self.recovery is None or self.iterative_steps > 1):
            raise ValueError("has 'gradual', which needs 'recovery' and one iterative step; set both, or leave it out")
        if self.gradual is not None and self.recovery is not None and not self.recovery.epochs:
            raise ValueError("has 'gradual', which needs training; give 'recovery' epochs, or leave it out")
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
            context.metrics["achieved_ratio"] = target.share(model)
        report_lost_patterns(before, model, context)
        return model

    def _recover(self, model: nn.Module, context: Context, label: str, callbacks: Sequence[Callback] = ()) -> None:
        from mbcompress.training import fit

        assert self.recovery is not None
        fit(model, context, self.recovery, distillation=self.distillation, label=label, callbacks=callbacks)

    def _prune_gradually(
        self, model: nn.Module, context: Context, target: Target, ignored_layers: list[str], ratio: PruningRatio
    ) -> nn.Module:
        """Set channels of a copy to zero during training, then remove them."""
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
        # with any criterion, zero channels have the smallest norm
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
        """Return the pruning ratio for the fraction `share` of the target; `ratio` was found before the training.

        With a global ranking, the ranking changes during training, so the ratio is searched again on the current model:
        at each update if the target is exact, else only at the last one.
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
            except MbcompressError:  # reachable before training, narrowly missed now
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
                f"prune: {target.name} {target.limit:.3g} cannot be reached with round_to {pruner.round_to}; the "
                f"minimum is {smallest:.3g}; raise {target.name} or lower round_to"
            )
        for _ in range(SEARCH_STEPS if target.exact else MEASURED_STEPS):
            middle = (low + high) / 2
            reached = target.share(pruner.prune(model, example, ratio_at(middle), ignored_layers)) <= target.limit
            low, high = (low, middle) if reached else (middle, high)
        return ratio_at(high)


class Sensitivity(_Channels):
    """Measure how much accuracy pruning each group of channels costs; the model is not changed."""

    name = "sensitivity"

    unsupported: Unsupported = "skip"

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        analysis = self._analyse(model, context, self._find_ignored_layers(model, context, self.unsupported))
        context.metrics["groups"] = len(analysis.curves)
        return model
