"""Installed plugin packages for tests: a module on sys.path with the metadata of a distribution."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

IMPORTS = """
from typing import ClassVar
import mbcompress
from pydantic import Field
"""
SQUEEZE = """
class Squeeze(mbcompress.Pass):
    "Squeezes."
    name: ClassVar[str] = "squeeze"
    force: float = Field(default=1.0, gt=0, description="How hard.")
    def apply(self, model, context):
        return model
"""
OFFERS_SQUEEZE = """
@mbcompress.hookimpl
def mbcompress_passes():
    return [Squeeze]
"""

Install = Callable[..., None]


def write_distribution(
    directory: Path,
    distribution: str,
    code: str,
    *,
    plugin: str = "squeezer",
    entry: str | None = None,
    version: str = "1.2",
    requires: str = "mbcompress",
) -> None:
    """Write a plugin module into `directory`, with the metadata of an installed distribution."""
    module = distribution.replace("-", "_")
    info = directory / f"{module}-{version}.dist-info"
    info.mkdir(parents=True)
    (directory / f"{module}.py").write_text(IMPORTS + code)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\nRequires-Dist: {requires}\n"
    )
    (info / "entry_points.txt").write_text(f"[mbcompress]\n{entry or f'{plugin} = {module}'}\n")


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a distribution with one plugin module on sys.path, before all installed packages."""

    def make(distribution: str, code: str, *, into: str = "packages", **metadata: Any) -> None:
        module, directory = distribution.replace("-", "_"), tmp_path / into
        if not directory.exists():
            monkeypatch.syspath_prepend(str(directory))
        write_distribution(directory, distribution, code, **metadata)
        monkeypatch.delitem(sys.modules, module, raising=False)
        monkeypatch.setitem(sys.modules, module, None)  # restored after the test
        del sys.modules[module]
        importlib.invalidate_caches()

    return make
