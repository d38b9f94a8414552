"""Depthwise 3x3 convolutions by faster kernels, Winograd's among them, where they are faster on this machine."""

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
    """Replace depthwise 3x3 convolutions by fused kernels, direct or Winograd's, where they are faster on this CPU."""

    name: ClassVar[str] = "winograd"
    destroys: ClassVar[frozenset[Trait]] = frozenset({Trait.FLOAT})
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({"mode": "force", "tile": "f2"},)
    uses_runtimes: ClassVar[bool] = True
    runs_in: ClassVar[frozenset[str] | None] = frozenset({"torch", "aotinductor"})

    mode: Literal["auto", "force", "report"] = Field(
        default="auto",
        description="Replace the layers that are at least 5 % faster and exact enough, if the network is faster too "
        "(auto); replace every layer that can be replaced (force); or measure and replace nothing (report).",
    )
    tile: Literal["auto", "direct", "f2", "f2x2"] = Field(
        default="auto",
        description="Kernels to try: all, the direct one, F(2,3) along rows, or F(2x2,3x3). Stride 2 has the direct "
        "one only.",
    )
    tolerance: float = Field(
        default=1e-5,
        gt=0,
        le=0.1,
        description="Largest error of a layer against double precision, and of the logits against the original "
        "network, over the largest value.",
    )
    threads: int = Field(default=1, ge=1, le=1024, description="Number of threads for timing.")
    batch: int = Field(default=1, ge=1, le=1024, description="Batch size for timing.")
    decisions: Path | None = Field(
        default=None,
        description="The winograd.json of an earlier run, to reuse its measurements where processor, kernels, threads "
        "and batch are the same.",
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
    """The operator that computes substituted layers."""

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
        return f"compiled, {status.level}" if status.compiled else f"in Python, slowly: {status.reason}"


@hookimpl
def mbcompress_passes() -> list[type[Pass]]:
    return [Winograd]


@hookimpl
def mbcompress_operators() -> list[type[OperatorSet]]:
    return [Depthwise]
