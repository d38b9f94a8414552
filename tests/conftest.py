"""Fixtures: the registry, small models, and a context on digits that trains in a second."""

import os
from collections.abc import Callable, Iterator
from typing import Any

# before torch is imported: waiting threads must not spin, or tests are slow on a busy machine
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
from plugin_packages import install as install

from mbcompress.registry.discovery import Registry, discover


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Do not read or write the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MBCOMPRESS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def registry() -> Registry:
    return discover()


@pytest.fixture
def tiny_model(registry: Registry) -> Callable[..., Any]:
    """Build a quarter-width model at 32 px with BatchNorm statistics of noise, so that activations have a range."""

    def build(source: str, **options: Any) -> Any:
        import torch

        torch.manual_seed(0)
        spec = {"source": source, "num_classes": 10, "width": 0.25, "input_size": 32, "dropout": 0.0, **options}
        model = registry.build_model(spec).load()
        model.train()
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.momentum = None  # a plain mean over the batches below
            for _ in range(3):
                model(torch.randn(32, 3, 32, 32))
        return model.eval()

    return build


@pytest.fixture(scope="session")
def digits(registry: Registry) -> Any:
    """Digits at 32 px."""
    return registry.build_dataset({"name": "digits"}).load((3, 32, 32), 0)


@pytest.fixture
def make_context(digits: Any) -> Callable[..., Any]:
    """Build a context on digits for a baseline."""

    def make(baseline: Any, **changes: Any) -> Any:
        import copy
        from dataclasses import replace

        import torch

        from mbcompress.contract.context import Context

        frozen = copy.deepcopy(baseline).eval().requires_grad_(False)
        context = Context(digits.development(), frozen, (3, 32, 32), torch.device("cpu"), 0)
        return replace(context, **changes)

    return make
