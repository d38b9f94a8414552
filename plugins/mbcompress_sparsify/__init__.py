"""Unstructured pruning: set individual weights to zero, smallest first, gradually during training.

Zhu and Gupta, "To prune, or not to prune: exploring the efficacy of pruning for model compression", 2017,
https://arxiv.org/abs/1710.01878. The N:M patterns are those of Mishra et al., "Accelerating Sparse Deep Neural
Networks", 2021, https://arxiv.org/abs/2104.08378.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from mbcompress import (
    DistillationConfig,
    MbcompressError,
    Pass,
    TrainingConfig,
    TrainingPass,
    Trait,
    Unsupported,
    hookimpl,
    report_unsupported,
)

if TYPE_CHECKING:
    from torch import nn

    from mbcompress import Context

    from .masks import Selection

HALF = 0.5  # the sparsity of 2:4 and 4:8


class Sparsify(TrainingPass):
    """Set the smallest weights to zero, gradually during training. Shapes and latency stay the same."""

    name = "sparsify"
    provides: ClassVar[frozenset[Trait]] = frozenset({Trait.SPARSE})
    examples = ({"training": {"epochs": 1}},)

    sparsity: float = Field(
        default=HALF,
        gt=0,
        lt=1,
        description="Target fraction of zeros among the weights of convolutions and linear layers, including the "
        "classifier, without the first layer and depthwise convolutions.",
    )
    pattern: Literal["none", "2:4", "4:8"] = Field(
        default="none",
        description="N:M keeps at most N of every M consecutive weights along the input channels, for sparse tensor "
        "cores; layers whose number of input channels is not a multiple of M stay dense. Implies sparsity 0.5.",
    )
    scope: Literal["layer", "global"] = Field(
        default="layer",
        description="layer: the same sparsity in every layer; global: rank the weights of all layers together, but "
        "keep the largest weight of each layer.",
    )
    depthwise: bool = Field(
        default=False, description="Also prune depthwise convolutions, which have few and sensitive weights."
    )
    ramp: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="Fraction of the training during which the sparsity increases on the cubic schedule of Zhu and "
        "Gupta 2017, fast at first. With 0 epochs, all weights are pruned at once.",
    )
    interval: int = Field(default=10, ge=1, le=100_000, description="Optimizer steps between increases of sparsity.")
    unsupported: Unsupported = "skip"
    distillation: DistillationConfig | None = Field(
        default=DistillationConfig(), description="Knowledge distillation; null trains on the labels only."
    )
    training: TrainingConfig = TrainingConfig()

    @model_validator(mode="after")
    def _pattern_is_not_contradicted(self) -> Self:
        if self.pattern != "none" and self.sparsity != HALF:
            raise ValueError(
                f"'pattern' {self.pattern} implies a sparsity of {HALF}; leave 'sparsity' out, or set 'pattern' to none"
            )
        if self.pattern != "none" and self.scope == "global":
            raise ValueError(
                f"'pattern' {self.pattern} chooses within groups of weights; leave 'scope' out, or set 'pattern' to "
                "none"
            )
        return self

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        from mbcompress.training import update_bn

        from .layers import find_layers, share_of_zeros
        from .masks import GradualZeros, set_zeros

        selection = self._selection()
        layers = find_layers(model, context.example(), depthwise=self.depthwise, group=selection.group)
        report_unsupported(context, self.unsupported, f"{self.name}: stays dense", layers.dense)
        if not layers.pruned:
            raise MbcompressError(
                f"{self.name}: the model has no weights to prune; besides its first layer, it needs a linear layer or "
                "a convolution that is not depthwise"
            )
        if self.training.epochs:
            kept = dict(model.named_parameters()) if Trait.SPARSE in context.traits else layers.pruned
            zeros = GradualZeros(layers.pruned, kept, selection, self.sparsity, self.ramp, self.interval)
            model = context.fit(model, self.training, distillation=self.distillation, callbacks=[zeros])
        else:
            set_zeros(model, layers.pruned, selection, self.sparsity)
            update_bn(model, context)
        context.metrics["sparsity"] = share_of_zeros(model, layers.pruned)
        context.metrics["sparsity_of_all_layers"] = share_of_zeros(model, layers.every)
        context.metrics["layers_pruned"] = len(layers.pruned)
        return model

    def _selection(self) -> Selection:
        from .masks import Selection

        if self.pattern == "none":
            return Selection(self.scope)
        kept, group = map(int, self.pattern.split(":"))
        return Selection(self.scope, kept, group)


@hookimpl
def mbcompress_passes() -> list[type[Pass]]:
    return [Sparsify]
