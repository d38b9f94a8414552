"""Faster kernels, including Winograd's, for depthwise 3x3 convolutions, used if they are faster on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator

from mbcompress import OperatorSet, Pass, Trait, hookimpl
from mbcompress.errors import shown

from .library import KERNELS

if TYPE_CHECKING:
    from torch import nn

    from mbcompress import Context


class Winograd(Pass):
    """Replace depthwise 3x3 convolutions by fused direct or Winograd kernels where these are faster on this CPU."""

    name: ClassVar[str] = "winograd"
    destroys: ClassVar[frozenset[Trait]] = frozenset({Trait.FLOAT})
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({"mode": "force", "tile": "f2"},)
    uses_runtimes: ClassVar[bool] = True
    runs_in: ClassVar[frozenset[str] | None] = frozenset({"torch", "aotinductor"})

    mode: Literal["auto", "force", "report"] = Field(
        default="auto",
        description="auto: replace layers whose kernel is at least 5 % faster and within 'tolerance', if the whole "
        "model is faster too; force: replace every eligible layer; report: measure only.",
    )
    tile: Literal["auto", "direct", "f2", "f2x2"] = Field(
        default="auto",
        description="Kernels to try: auto for all, direct, f2 for F(2,3) along rows, or f2x2 for F(2x2,3x3). Layers "
        "with stride 2 always use direct.",
    )
    tolerance: float = Field(
        default=1e-5,
        gt=0,
        le=0.1,
        description="Largest error of a layer compared with double precision, and of the logits compared with the "
        "original model, relative to the largest value.",
    )
    threads: int = Field(default=1, ge=1, le=1024, description="Number of threads for timing.")
    batch: int = Field(default=1, ge=1, le=1024, description="Batch size for timing.")
    decisions: Path | None = Field(
        default=None,
        description="winograd.json of an earlier run; its measurements are reused if CPU, kernels, threads, batch and "
        "layers are the same.",
    )

    @field_validator("decisions")
    @classmethod
    def _is_there(cls, decisions: Path | None) -> Path | None:
        if decisions is not None and not decisions.is_file():
            raise ValueError(f"no such file {shown(str(decisions))}; name a winograd.json, or leave 'decisions' out")
        return decisions

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        from .substitution import substitute

        return substitute(model, self, context)


class Depthwise(OperatorSet):
    """The custom operator of the substituted layers."""

    name: ClassVar[str] = "mbcompress"
    operators: ClassVar[frozenset[str]] = frozenset({"mbcompress.depthwise3x3.default"})

    def register(self) -> None:
        from .operators import register

        register()

    @property
    def library(self) -> Path | None:
        return KERNELS if KERNELS.is_file() else None

    @property
    def status(self) -> str:
        from .operators import register

        status = register()
        return f"compiled, {status.level}" if status.compiled else f"slow Python reference: {status.reason}"


@hookimpl
def mbcompress_passes() -> list[type[Pass]]:
    return [Winograd]


@hookimpl
def mbcompress_operators() -> list[type[OperatorSet]]:
    return [Depthwise]
