"""How a pass handles layers that it does not support: skip them or refuse the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mbcompress.errors import MbcompressError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mbcompress.contract.context import Context

Unsupported = Annotated[
    Literal["skip", "refuse"],
    Field(description="What to do with unsupported layers: skip them, or refuse the model."),
]
"""Type of the option `unsupported`."""

SHOWN = 8


def report_unsupported(context: Context, policy: Unsupported, problem: str, layers: Sequence[str]) -> None:
    """Report the layers that a pass skips, or refuse the model.

    Args:
        context: the pass's context; its progress shows one line if there are unsupported layers.
        policy: the pass's option `unsupported`.
        problem: pass and consequence, such as 'qat: stays in float'.
        layers: 'name (reason)' for each layer.

    Raises:
        MbcompressError: there are unsupported layers and the policy is 'refuse'.
    """
    if not layers:
        return
    listed = ", ".join(layers[:SHOWN]) + (f", and {len(layers) - SHOWN} more" if len(layers) > SHOWN else "")
    if policy == "refuse":
        raise MbcompressError(f"{problem}: {listed}; set 'unsupported: skip' to leave them as they are")
    context.progress.say(f"{problem}: {listed}")
