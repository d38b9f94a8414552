"""Pytest fixtures for plugin authors. pytest loads this module in every session, so it imports mbcompress lazily.

Example: `def test_halve(mbcompress_check): assert mbcompress_check("halve") == []`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from mbcompress import Context, Registry


@pytest.fixture(scope="session")
def mbcompress_registry() -> Registry:
    """The registry of all installed components."""
    from mbcompress import discover

    return discover()


@pytest.fixture
def mbcompress_check(mbcompress_registry: Registry) -> Callable[..., list[str]]:
    """Check a plugin or component by name; returns one line per problem."""

    def check(name: str, **options: Any) -> list[str]:
        from mbcompress.testing import check_plugin

        return [str(result) for result in check_plugin(name, mbcompress_registry, options or None) if not result.passed]

    return check


@pytest.fixture
def mbcompress_model(mbcompress_registry: Registry) -> Callable[[str], nn.Module]:
    """Build a small trained model by source: `mobilenet_v1`, `mobilenet_v2` or `mobilenet_v3_small`."""

    def build(source: str = "mobilenet_v2") -> nn.Module:
        from mbcompress.testing import tiny_model

        return tiny_model(source, mbcompress_registry)

    return build


@pytest.fixture
def mbcompress_context() -> Callable[[nn.Module], Context]:
    """Build a context to test a pass: a few synthetic images, on the CPU, with the model as baseline."""

    def build(model: nn.Module) -> Context:
        from mbcompress.testing import tiny_context

        return tiny_context(model)

    return build
