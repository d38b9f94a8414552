"""Custom operators of plugins that this process has registered with torch.

`torch.ops` belongs to the process, and so does the table here: it says which plugin's set an operator of a graph comes
from.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mbcompress.contract.operators import OperatorSet

_registered: dict[str, OperatorSet] = {}


def register_operators(sets: Iterable[OperatorSet]) -> None:
    """Register the operators of these sets with torch, except for sets that already are."""
    for operator_set in sets:
        if operator_set.name not in _registered:
            operator_set.register()
            _registered[operator_set.name] = operator_set


def registered_operators() -> Mapping[str, OperatorSet]:
    """Return namespace -> operator set, for all sets that this process has registered."""
    return MappingProxyType(_registered)
