"""What a pass does with the layers of a stranger's model that it cannot handle: leave them as they are, or refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mbcompress.errors import MbcompressError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mbcompress.contract.context import Context

Unsupported = Annotated[
    Literal["skip", "refuse"],
    Field(description="What to do with layers that this pass cannot handle: leave them as they are, or stop."),
]
"""Type of the option `unsupported` of a pass."""

SHOWN = 8


def report_unsupported(context: Context, policy: Unsupported, problem: str, layers: Sequence[str]) -> None:
    """Say which layers are left out, or refuse.

    Args:
        context: that of the pass; its progress is told, once, if there are any.
        policy: the pass's option.
        problem: pass and consequence, as in 'qat: stays in float'.
        layers: 'name (reason)' for each layer.

    Raises:
        MbcompressError: there are some, and the policy is to refuse.
    """
    if not layers:
        return
    listed = ", ".join(layers[:SHOWN]) + (f", and {len(layers) - SHOWN} more" if len(layers) > SHOWN else "")
    if policy == "refuse":
        raise MbcompressError(f"{problem}: {listed}; 'unsupported: skip' would leave them so")
    context.progress.say(f"{problem}: {listed}")
