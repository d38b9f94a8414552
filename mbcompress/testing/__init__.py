"""The conformance kit: check a plugin against the contract and report what to change.

In: a component's class or a plugin's name. Out: one `CheckResult` for each check. `tiny_model` and `tiny_context` are
for tests of plugins. May import: pipeline and everything below it. Names are loaded on first use, because some of them
import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mbcompress.testing.kit import check_component, check_plugin
    from mbcompress.testing.result import CheckResult
    from mbcompress.testing.tiny import tiny_context, tiny_model

__all__ = ["CheckResult", "check_component", "check_plugin", "tiny_context", "tiny_model"]

_MODULES = {
    "CheckResult": "result",
    "check_component": "kit",
    "check_plugin": "kit",
    "tiny_context": "tiny",
    "tiny_model": "tiny",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
