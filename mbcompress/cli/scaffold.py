"""Create the package of a new plugin from the templates in this directory."""

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
FILES = {"pyproject.toml": "pyproject.toml.template", "README.md": "README.md.template"}
PLAIN = {"src/{module}.py": "plugin.py.template", "tests/test_{name}.py": "test_plugin.py.template"}
TRAINS = {
    "src/{module}/__init__.py": "plugin_trains.py.template",
    "src/{module}/callbacks.py": "callbacks.py.template",
    "tests/test_{name}.py": "test_plugin_trains.py.template",
}
README_PLAIN = {"option": "share", "does": "sets the smallest weights of each convolution to zero"}
README_TRAINS = {"option": "limit", "does": "fine-tunes with clamped weights"}
NAME = re.compile(r"[a-zA-Z]([a-zA-Z0-9._-]*[a-zA-Z0-9])?")  # a PEP 508 name that starts with a letter
LONGEST = 64
IMPORTED = {"ClassVar", "Field", "Pass", "Trait", "TrainingConfig", "TrainingPass"}  # names that the templates import


def write_package(name: str, directory: Path | None, registry: Registry, *, trains: bool = False) -> Path:
    """Create a package with a pass called `name` in `directory` (default: `name`) and return the directory.

    Raises:
        MbcompressError: the name is invalid or taken, or the directory exists; nothing is written.
    """
    words = _words(name, registry, trains)
    directory = Path(name) if directory is None else directory
    if directory.exists() or directory.is_symlink():
        raise MbcompressError(f"{directory}: already exists; choose another --directory, or remove it first")
    with provisional(directory) as partial:
        for target, template in (FILES | (TRAINS if trains else PLAIN)).items():
            path = partial / target.format(**words)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(Template((TEMPLATES / template).read_text()).substitute(words))
    return directory


def _words(name: str, registry: Registry, trains: bool) -> dict[str, str]:
    """Return the values of the template placeholders."""
    canonical = _check_name(name, registry)
    word = canonical.replace("-", "_")
    distribution = _distribution(canonical)
    module = distribution.replace("-", "_")
    camel = "".join(part.capitalize() for part in word.split("_"))
    version = Version(importlib.metadata.version("mbcompress"))
    return {
        "name": word,
        "plugin": canonical,
        "distribution": distribution,
        "module": module,
        "class_name": f"{camel}Pass" if camel in IMPORTED or keyword.iskeyword(camel) else camel,
        "requirement": f"mbcompress>={version.major}.{version.minor},<{version.major + 1}",
        "source": f"src/{module}/__init__.py" if trains else f"src/{module}.py",
        **(README_TRAINS if trains else README_PLAIN),
    }


def _distribution(canonical: str) -> str:
    return canonical if canonical.startswith("mbcompress-") else f"mbcompress-{canonical}"


def _check_name(name: str, registry: Registry) -> str:
    """Return the canonical form of the name.

    Raises:
        MbcompressError: the name is invalid, or taken by a component or plugin.
    """
    if len(name) > LONGEST or not NAME.fullmatch(name):
        raise MbcompressError(
            f"plugin name {shown(name)}: must be at most {LONGEST} letters, digits, '-', '_' or '.', begin with a "
            "letter and end with a letter or digit"
        )
    canonical = canonicalize_name(name)
    word = canonical.replace("-", "_")
    for kind in registry.kinds:
        if word in kind.classes:
            taken = f"{kind.name} {word!r} is already provided by {kind.origins[word]}"
            raise MbcompressError(f"plugin name {shown(name)}: {taken}; choose another name")
    for origin in registry.origins:
        names = {canonicalize_name(origin.plugin), canonicalize_name(origin.distribution)}
        if {canonical, _distribution(canonical)} & names:
            raise MbcompressError(f"plugin name {shown(name)}: is taken by {origin}; choose another name")
    return canonical
