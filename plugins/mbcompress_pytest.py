"""Fixtures for the tests of plugins. Pytest loads this in every session, so it imports nothing of mbcompress by itself.

For example: `def test_halve(mbcompress_check): assert mbcompress_check("halve") == []`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from mbcompress import Context
    from mbcompress.registry.discovery import Registry


@pytest.fixture(scope="session")
def mbcompress_registry() -> Registry:
    """Everything that recipes can name here."""
    from mbcompress.registry.discovery import discover

    return discover()


@pytest.fixture
def mbcompress_check(mbcompress_registry: Registry) -> Callable[..., list[str]]:
    """Hold a plugin, by its name or that of one of its components, to the contract: what must change, a line each."""

    def check(name: str, **options: Any) -> list[str]:
        from mbcompress.testing import check_plugin

        return [str(each) for each in check_plugin(name, mbcompress_registry, options or None) if not each.passed]

    return check


@pytest.fixture
def mbcompress_model(mbcompress_registry: Registry) -> Callable[[str], nn.Module]:
    """A small model by the name of its source: `mobilenet_v1`, `mobilenet_v2` or `mobilenet_v3_small`."""

    def build(source: str = "mobilenet_v2") -> nn.Module:
        from mbcompress.testing.tiny import tiny_model

        return tiny_model(source, mbcompress_registry)

    return build


@pytest.fixture
def mbcompress_context() -> Callable[[nn.Module], Context]:
    """What a pass is given beside a model: a few synthetic images, the CPU, and that model as the baseline."""

    def build(model: nn.Module) -> Context:
        from mbcompress.testing.tiny import tiny_context

        return tiny_context(model)

    return build
