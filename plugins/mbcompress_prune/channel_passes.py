"""Passes that look at channels: remove the least important, or show what they are worth."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from mbcompress import DistillationConfig, MbcompressError, Pass, TrainingConfig, Trait
from mbcompress.contract.unsupported import Unsupported, report_unsupported

from .targets import Targets, goal_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

    from mbcompress import Context
    from mbcompress.training import Callback

    from .channels import Amount, Shrinking
    from .sensitivity import Analysis
    from .targets import Goal

SEARCH_STEPS = 9  # halvings of the interval of channel ratios: resolves 0.2 % of the channels
MEASURED_STEPS = 6  # where each takes seconds: 1.5 %


class _Channels(Pass):
    """What passes that look at channels have in common."""

    uses_runtimes: ClassVar[bool] = True

    criterion: Literal["l1", "l2", "bn_scale", "taylor", "random"] = Field(
        default="l1",
        description="Importance of a channel: L1 or L2 norm of all weights that go with it, the size of its BatchNorm "
        "scale (Liu et al. 2017), what the loss would change without it, to first order (Molchanov et al. 2019), or "
        "chance, as a control.",
    )
    round_to: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="Channel counts that are left are multiples of this; null takes what the recipe's runtimes are "
        "fastest with, which for ONNX Runtime on x86-64 is 16.",
    )
    importance_images: int = Field(
        default=1024, ge=1, le=100_000, description="Training images that the criterion 'taylor' looks at."
    )
    sensitivity_ratios: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(0.25, 0.5, 0.75),
        min_length=1,
        max_length=16,
        description="Shares of each group's channels to prune in a sensitivity analysis.",
    )
    sensitivity_images: int = Field(
        default=1000, ge=1, le=1_000_000, description="Validation images that a sensitivity analysis looks at."
    )

    def _multiple(self, context: Context) -> int:
        return self.round_to or max((runtime.channel_multiple for runtime in context.runtimes), default=8)

    def _shrinking(self, model: nn.Module, context: Context, scope: str) -> Shrinking:
        from .channels import Shrinking, loss_gradients

        gradients = None
        if self.criterion == "taylor":
            images = min(self.importance_images, len(context.data.train))
            gradients = loss_gradients(model, context, images)
        return Shrinking(self.criterion, scope, self._multiple(context), context.seed, gradients)

    def _spare(self, model: nn.Module, context: Context, unsupported: Unsupported) -> list[str]:
        """Names of layers that keep their channels because nothing else is possible; tells them, or refuses."""
        from .channels import LARGEST_RATIO, output_layer, unprunable, untouched

        example = context.example()
        shrinking = self._shrinking(model, context, "uniform")  # every layer gets its turn
        with context.progress.busy(f"{self.name}, which channels can go"):
            output = output_layer(model, example)
            reasons = unprunable(model, example, shrinking, output)
            kept = [name for name in reasons if name not in dict(model.named_parameters())]
            least = shrinking.prune(model, example, LARGEST_RATIO, [*output, *kept])
            why = "no BatchNorm follows" if self.criterion == "bn_scale" else "its channels are tied to fixed ones"
            reasons = dict.fromkeys(untouched(model, least, shrinking.round_to), why) | reasons
        layers = [f"{name} ({reason})" for name, reason in reasons.items() if name not in output]
        report_unsupported(context, unsupported, f"{self.name}: keeps all channels", layers)
        context.metrics["unpruned_layers"] = len(layers)
        return [*output, *kept]

    def _analyse(self, model: nn.Module, context: Context, kept: list[str]) -> Analysis:
        """Sensitivity curves, which become files of the step."""
        from .channels import output_layer, roots
        from .sensitivity import analyse

        groups = roots(model, context.example(), output_layer(model, context.example()))
        shrinking = self._shrinking(model, context, "uniform")
        ratios = sorted(set(self.sensitivity_ratios))
        analysis = analyse(model, context, shrinking, groups, kept, ratios, self.sensitivity_images)
        context.files["sensitivity.csv"] = analysis.table()
        if analysis.curves:
            context.files["sensitivity.svg"] = analysis.picture()
        return analysis


class Prune(_Channels, Targets):
    """Remove the least important channels until a target share of the operations, parameters, bytes or time is left."""

    name: ClassVar[str] = "prune"
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({"target_macs": 0.6},)

    scope: Literal["global", "uniform", "sensitivity"] = Field(
        default="global",
        description="global: channels of all layers compete with each other; uniform: each layer loses the same share; "
        "sensitivity: each group loses what costs the same accuracy, as an analysis of this model finds.",
    )
    steps: int = Field(default=1, ge=1, le=100, description="Steps on the way to the target, each by the same factor.")
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
        description="Let channels fade during this share of 'recovery', by a cubic schedule, and remove them at its "
        "end; null removes them first.",
    )
    recalibrate: bool = Field(
        default=True,
        description="Estimate BatchNorm's running statistics anew on training images after each step; those of the "
        "larger network no longer fit.",
    )

    unsupported: Unsupported = "skip"

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.distillation is not None and self.recovery is None:
            raise ValueError("has 'distillation', which needs 'recovery'; set both, or leave it out")
        if self.gradual is not None and (self.recovery is None or self.steps > 1):
            raise ValueError("has 'gradual', which needs 'recovery' and goes in one step; set both, or leave it out")
        if self.gradual is not None and self.recovery is not None and not self.recovery.epochs:
            raise ValueError("has 'gradual', during which the model trains; give 'recovery' epochs, or leave it out")
        return self

    @property
    def looks_ahead(self) -> bool:
        return self.measured

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        from mbcompress.training import update_bn

        from .patterns import tell_lost_patterns

        before = model
        kept = self._spare(model, context, self.unsupported)
        with goal_of(self, context) as goal:
            for step in range(1, self.steps + 1):
                aim = replace(goal, limit=goal.limit ** (step / self.steps))
                with context.progress.busy(f"{self.name}, step {step}/{self.steps}"):
                    amount = context.decide_once(f"step {step}", partial(self._amount, model, context, aim, kept))
                if self.gradual is not None:
                    model = self._fade(model, context, goal, kept, amount)
                elif amount:
                    model = self._shrinking(model, context, self.scope).prune(model, context.example(), amount, kept)
                if self.recalibrate:
                    update_bn(model, context)
                if self.recovery and self.gradual is None:
                    self._recover(model, context, f"{self.name}, recovery {step}/{self.steps}")
            context.metrics["left"] = goal.share(model)
        tell_lost_patterns(before, model, context)
        return model

    def _recover(self, model: nn.Module, context: Context, label: str, callbacks: Sequence[Callback] = ()) -> None:
        from mbcompress.training import fit

        assert self.recovery is not None
        fit(model, context, self.recovery, distillation=self.distillation, label=label, callbacks=callbacks)

    def _fade(self, model: nn.Module, context: Context, goal: Goal, kept: list[str], amount: Amount) -> nn.Module:
        """The model without the channels that became zero while a copy of it was trained."""
        from .channels import Shrinking
        from .fading import Fading

        model = copy.deepcopy(model)

        def choose(model: nn.Module, share: float) -> Any:
            part = self._part(model, context, goal, kept, amount, share)
            if part == 0.0:
                return []
            return self._shrinking(model, context, self.scope).choose(model, context.example(), part, kept)

        assert self.gradual is not None
        fading = Fading(choose, self.gradual, sparse=Trait.SPARSE in context.traits)
        self._recover(model, context, f"{self.name}, gradual", [fading])
        gone = fading.ratios(model)
        # whatever chose them, layers that are zero are the smallest now
        shrinking = Shrinking("l1", "uniform", self._multiple(context), context.seed)
        return shrinking.prune(model, context.example(), gone, kept) if gone else model

    def _part(
        self, model: nn.Module, context: Context, goal: Goal, kept: list[str], amount: Amount, share: float
    ) -> Amount:
        """How much is gone after `share` of the way to `amount`, which was found before the training.

        Where all layers compete, others may become important on the way; so the model as it is decides, in each step
        if that takes no measuring, and in the last.
        """
        part = share * amount if isinstance(amount, float) else {name: share * each for name, each in amount.items()}
        if self.scope != "global" or part == 0.0 or not (goal.exact or share == 1):
            return part
        now, aim = copy.deepcopy(model).eval(), goal
        if share < 1:
            whole = goal.share(now)
            aim = replace(goal, limit=whole - share * (whole - goal.limit))

        def find() -> Amount:
            try:
                return self._amount(now, context, aim, kept)
            except MbcompressError:  # what could be reached before the training cannot, by a hair
                return part

        found: Amount = find() if goal.exact else context.decide_once("gradual, last step", find)
        return found

    def _amount(self, model: nn.Module, context: Context, goal: Goal, kept: list[str]) -> Amount:
        """How much must go for the goal to be met, found by bisection; 0.0 if it is."""
        from .channels import LARGEST_RATIO

        if goal.exact and goal.share(model) <= goal.limit:
            return 0.0
        shrinking, example = self._shrinking(model, context, self.scope), context.example()
        amount_at: Callable[[float], Amount] = lambda ratio: ratio  # noqa: E731
        low, high = 0.0, LARGEST_RATIO
        if self.scope == "sensitivity":
            amount_at, low, high = self._analyse(model, context, kept).ratios, -1.0, 1.0
        if (smallest := goal.share(shrinking.prune(model, example, amount_at(high), kept))) > goal.limit:
            raise MbcompressError(
                f"prune: {goal.name} {goal.limit:.3g} cannot be reached with round_to {shrinking.round_to}, the least "
                f"is {smallest:.3g}; raise {goal.name} or lower round_to"
            )
        for _ in range(SEARCH_STEPS if goal.exact else MEASURED_STEPS):
            middle = (low + high) / 2
            reached = goal.share(shrinking.prune(model, example, amount_at(middle), kept)) <= goal.limit
            low, high = (low, middle) if reached else (middle, high)
        return amount_at(high)


class Sensitivity(_Channels):
    """Show how much accuracy each group of channels is worth, and change nothing."""

    name: ClassVar[str] = "sensitivity"

    unsupported: Unsupported = "skip"

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        analysis = self._analyse(model, context, self._spare(model, context, self.unsupported))
        context.metrics["groups"] = len(analysis.curves)
        return model
