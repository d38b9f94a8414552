"""Writes the package that a plugin begins as, from the templates beside this module."""

from __future__ import annotations

import importlib.metadata
import keyword
import re
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name
from packaging.version import Version

from mbcompress.errors import MbcompressError, shown
from mbcompress.pipeline.run_directory import provisional

if TYPE_CHECKING:
    from mbcompress.registry.registry import Registry

TEMPLATES = Path(__file__).parent / "templates"
FILES = {
    "pyproject.toml": "pyproject.toml.template",
    "README.md": "README.md.template",
    "src/{module}.py": "plugin.py.template",
    "tests/test_{name}.py": "test_plugin.py.template",
}
NAME = re.compile(r"[a-zA-Z]([a-zA-Z0-9._-]*[a-zA-Z0-9])?")  # a name by PEP 508 that can also begin a Python name
LONGEST = 64
IMPORTED = {"Pass", "Trait", "Field", "ClassVar"}  # names that the template's module uses itself


def write_package(name: str, directory: Path | None, registry: Registry) -> Path:
    """Write a package with a pass called `name` to `directory`, by default one of that name; return the directory.

    Raises:
        MbcompressError: the name is not one, or is taken, or the directory exists. Nothing is written then.
    """
    words = _words(name, registry)
    directory = Path(name) if directory is None else directory
    if directory.exists() or directory.is_symlink():
        raise MbcompressError(f"{directory}: already exists; choose another --directory, or remove it first")
    with provisional(directory) as partial:
        for target, template in FILES.items():
            path = partial / target.format(**words)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(Template((TEMPLATES / template).read_text()).substitute(words))
    return directory


def _words(name: str, registry: Registry) -> dict[str, str]:
    """What the templates' placeholders stand for."""
    if len(name) > LONGEST or not NAME.fullmatch(name):
        raise MbcompressError(
            f"plugin name {shown(name)}: must be at most {LONGEST} letters, digits, '-', '_' or '.', begin with a "
            "letter and end with a letter or digit"
        )
    canonical = canonicalize_name(name)
    word = canonical.replace("-", "_")
    for kind in registry.kinds:
        if word in kind.classes:
            raise MbcompressError(
                f"plugin name {shown(name)}: {kind.name} {word!r} is already provided by "
                f"{kind.origins[word]}; choose another name"
            )
    distribution = canonical if canonical.startswith("mbcompress-") else f"mbcompress-{canonical}"
    for origin in (*registry.plugins, *registry.blocked, *(broken.origin for broken in registry.broken)):
        if {canonical, distribution} & {canonicalize_name(origin.plugin), canonicalize_name(origin.distribution)}:
            raise MbcompressError(f"plugin name {shown(name)}: is taken by {origin}; choose another name")
    camel = "".join(part.capitalize() for part in word.split("_"))
    version = Version(importlib.metadata.version("mbcompress"))
    return {
        "name": word,
        "plugin": canonical,
        "distribution": distribution,
        "module": distribution.replace("-", "_"),
        "class_name": f"{camel}Pass" if camel in IMPORTED or keyword.iskeyword(camel) else camel,
        "requirement": f"mbcompress>={version.major}.{version.minor},<{version.major + 1}",
    }
