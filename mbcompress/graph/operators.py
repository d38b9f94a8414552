"""Custom operators of plugins, made known to torch when something needs them.

`torch.ops` belongs to the process, and so does the table here: it says which plugin's set an operator of a graph comes
from, once `register_operators` has been called for it.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mbcompress.contract.operators import OperatorSet

_registered: dict[str, OperatorSet] = {}


def register_operators(sets: Iterable[OperatorSet]) -> None:
    """Make the operators of these sets known to torch; a set that is known already is left as it is."""
    for each in sets:
        if each.name not in _registered:
            each.register()
            _registered[each.name] = each


def registered_operators() -> Mapping[str, OperatorSet]:
    """Namespace -> the set of operators that this process has registered under it."""
    return MappingProxyType(_registered)
