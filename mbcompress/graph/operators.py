"""Custom operators of plugins registered with torch in this process.

Like `torch.ops`, the table is global: it maps namespaces to the operator sets of plugins.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mbcompress.contract.operators import OperatorSet

_registered: dict[str, OperatorSet] = {}


def register_operators(sets: Iterable[OperatorSet]) -> None:
    """Register operator sets with torch, unless already registered."""
    for operator_set in sets:
        if operator_set.name not in _registered:
            operator_set.register()
            _registered[operator_set.name] = operator_set


def registered_operators() -> Mapping[str, OperatorSet]:
    """Return namespace -> operator set for all registered sets."""
    return MappingProxyType(_registered)
