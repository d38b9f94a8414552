"""The pass `prune_blocks`, which removes residual blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from mbcompress import MbcompressError, Pass

from .channel_passes import Prune
from .targets import Targets, measured_target

if TYPE_CHECKING:
    from torch import nn

    from mbcompress import Context


class PruneBlocks(Pass, Targets):
    """Remove residual blocks, least important first, to reach a target ratio of MACs, parameters, size or latency."""

    name: ClassVar[str] = "prune_blocks"
    uses_runtimes: ClassVar[bool] = True
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({"target_macs": 0.95},)

    only_if_faster: bool = Field(
        default=False,
        description="Also prune channels to the same MACs with the defaults of 'prune', and return that model unless "
        "the one without the blocks is faster.",
    )
    images: int = Field(
        default=1000, ge=1, le=1_000_000, description="Number of validation images to measure the importance of blocks."
    )
    recalibrate: bool = Field(
        default=True, description="Recompute BatchNorm running statistics on training images after pruning."
    )

    @property
    def looks_ahead(self) -> bool:
        return self.measured or self.only_if_faster

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        from mbcompress.training import update_bn

        from .blocks import least_important_block, remove_blocks, residual_blocks

        with context.progress.busy(f"{self.name}, find residual blocks"):
            blocks = residual_blocks(model, context)
        if not blocks:
            raise MbcompressError(f"{self.name}: the model has no residual blocks; prune channels with 'prune'")
        removed: list[str] = []
        shallow = model
        with measured_target(self, context) as target:
            while (share := target.share(shallow)) > target.limit:
                left = [name for name in blocks if name not in removed]
                if not left:
                    raise MbcompressError(
                        f"{self.name}: {target.name} {target.limit:.3g} cannot be reached: without all {len(blocks)} "
                        f"residual blocks it is {share:.3g}; raise {target.name}, or prune channels with 'prune'"
                    )
                worst, _ = least_important_block(shallow, left, context, self.images)
                removed.append(worst)
                context.progress.say(f"{self.name}: {worst} removed")
                shallow = remove_blocks(model, removed)
            context.metrics["blocks_removed"] = len(removed)
            if self.only_if_faster and removed:
                shallow = self._faster(shallow, model, context)
            context.metrics["achieved_ratio"] = target.share(shallow)
        if self.recalibrate:
            update_bn(shallow, context)
        return shallow

    def _faster(self, shallow: nn.Module, model: nn.Module, context: Context) -> nn.Module:
        """Return the faster of two models with equal MACs: with fewer blocks, or with fewer channels."""
        from mbcompress.graph import count_macs
        from mbcompress.measure import ExportBenchmark

        example = context.example()
        share = count_macs(shallow, example) / count_macs(context.baseline, example)
        quiet = replace(context, metrics={}, files={})
        try:
            narrow = Prune(target_macs=share).apply(model, quiet)
        except MbcompressError as error:
            context.progress.say(f"{self.name}: cannot compare with channel pruning ({error}); blocks were removed")
            return shallow
        with ExportBenchmark(context) as benchmark:
            times = {"blocks": benchmark.latency(shallow), "channels": benchmark.latency(narrow)}
        context.metrics.update({f"latency_without_{what}": time for what, time in times.items()})
        if times["blocks"] < times["channels"]:
            return shallow
        context.progress.say(f"{self.name}: fewer channels are faster than fewer blocks; pruned channels instead")
        context.metrics["blocks_removed"] = 0
        return narrow
