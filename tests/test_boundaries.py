"""Built-ins enter by the same door as strangers: they import only what mbcompress makes public."""

import ast
from configparser import ConfigParser
from pathlib import Path

import pytest

import mbcompress

ROOT = Path(__file__).parent.parent
PLUGINS = sorted((ROOT / "plugins").rglob("*.py"))
PUBLIC = {
    "mbcompress",
    "mbcompress.contract.components",
    "mbcompress.testing",
    "mbcompress.testing.tiny",
    "mbcompress.graph.count",
    "mbcompress.data.splits",
    "mbcompress.measure.deployment",
    "mbcompress.errors",
    "mbcompress.graph.export",
    "mbcompress.files",
    "mbcompress.contract.hookspecs",
    "mbcompress.registry.discovery",
    "mbcompress.graph.fuse",
    "mbcompress.graph.layout",
    "mbcompress.contract.events",
    "mbcompress.data.loading",
    "mbcompress.report.pictures",
    "mbcompress.measure.processor",
    "mbcompress.graph.int8",
    "mbcompress.contract.models",
    "mbcompress.training",
    "mbcompress.contract.training",
    "mbcompress.contract.traits",
    "mbcompress.contract.unsupported",
    "mbcompress.checkpoint.weights",
    "mbcompress.contract.zoo",
}
"""Modules that plugins may use, ours and strangers'."""


def imports(path: Path) -> list[ast.ImportFrom | ast.Import]:
    return [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom | ast.Import)]


def modules(path: Path) -> set[str]:
    found = set()
    for node in imports(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif node.level == 0 and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: str(path.relative_to(ROOT)))
def test_plugins_use_public_modules_and_not_each_other(path: Path) -> None:
    own = path.relative_to(ROOT / "plugins").parts[0].removesuffix(".py")
    used = {module for module in modules(path) if module.split(".")[0].startswith("mbcompress")}
    assert {module for module in used if module.split(".")[0] == "mbcompress"} <= PUBLIC
    assert {module.split(".")[0] for module in used} <= {"mbcompress", own}


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: str(path.relative_to(ROOT)))
def test_plugins_use_no_private_names(path: Path) -> None:
    names = {
        alias.name
        for node in imports(path)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mbcompress")
        for alias in node.names
    }
    assert not {name for name in names if name.startswith("_")}


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: str(path.relative_to(ROOT)))
def test_plugins_import_what_is_public_from_where_it_is_public(path: Path) -> None:
    """So that any of them can be copied as a start."""
    elsewhere = {
        alias.name
        for node in imports(path)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mbcompress.")
        for alias in node.names
    }
    assert not elsewhere & set(mbcompress.__all__)


def test_there_is_no_plugins_package() -> None:
    assert not (ROOT / "plugins" / "__init__.py").exists()
    assert len(PLUGINS) > 10


def test_only_the_host_talks_to_pluggy() -> None:
    users = {path.name for path in (ROOT / "mbcompress").rglob("*.py") if "pluggy" in modules(path)}
    assert users == {"host.py", "hookspecs.py"}


def test_every_package_is_shipped() -> None:
    settings = ConfigParser()
    settings.read(ROOT / "setup.cfg")
    listed = set(settings["options"]["packages"].split())
    found = {
        ".".join(path.parent.relative_to(root).parts)
        for root, package in ((ROOT, "mbcompress"), (ROOT / "plugins", "."))
        for path in (root / package).rglob("__init__.py")
    }
    assert listed == found
