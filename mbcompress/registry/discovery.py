"""Find the installed plugins and build the registry from their components. The only module that calls pluggy."""

from __future__ import annotations

import importlib.metadata
import json
import os
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pluggy
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from mbcompress.contract import hookspecs
from mbcompress.contract.events import LIFECYCLE, Listener
from mbcompress.contract.operators import OperatorSet
from mbcompress.errors import MbcompressError, brief, unknown
from mbcompress.registry.registry import Broken, Kind, Origin, Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["BLOCK", "Broken", "Kind", "Origin", "Registry", "blocked_names", "discover"]

GROUP = OURS = "mbcompress"
BLOCK = "MBCOMPRESS_BLOCK"
"""Environment variable with comma-separated names of plugins or distributions not to load."""

MACHINERY = (__file__, "<frozen importlib", str(Path(importlib.__file__).parent), str(Path(pluggy.__file__).parent))
"""Traceback frames from these files are between our code and a plugin's."""

Entry = tuple[Origin, importlib.metadata.EntryPoint, importlib.metadata.Distribution]


def discover(block: Iterable[str] = ()) -> Registry:
    """Load the installed plugins; plugins that fail to load are listed as broken.

    Args:
        block: names of plugins or distributions not to load, in addition to MBCOMPRESS_BLOCK.
    """
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    registry = Registry()
    _load_plugins(manager, registry, blocked_names(block))
    for hook, base, register in (
        ("mbcompress_passes", registry.passes.base, registry.passes.register),
        ("mbcompress_models", registry.models.base, registry.models.register),
        ("mbcompress_datasets", registry.datasets.base, registry.datasets.register),
        ("mbcompress_runtimes", registry.runtimes.base, registry.runtimes.register),
        ("mbcompress_metrics", registry.metrics.base, registry.metrics.register),
        ("mbcompress_operators", OperatorSet, registry.add_operators),
    ):
        functions = {impl.plugin_name: impl.function for impl in getattr(manager.hook, hook).get_hookimpls()}
        for origin in registry.plugins:
            if origin.plugin in functions:
                _register_all(registry, base, register, functions[origin.plugin], origin, hook)
    registry.listeners.update({hook: _listeners(manager, registry, hook) for hook in LIFECYCLE})
    return registry


def blocked_names(block: Iterable[str] = ()) -> set[str]:
    """Return the names in `block` and MBCOMPRESS_BLOCK in canonical form: Squeeze_it -> squeeze-it."""
    return {canonicalize_name(name.strip()) for name in (*block, *os.environ.get(BLOCK, "").split(",")) if name.strip()}


def _listeners(manager: pluggy.PluginManager, registry: Registry, hook: str) -> list[tuple[Origin, Listener]]:
    """Return a separate caller for each plugin that implements `hook`, so that errors do not affect other plugins."""
    origins = {origin.plugin: origin for origin in registry.plugins}
    plugins = {impl.plugin_name: impl.plugin for impl in getattr(manager.hook, hook).get_hookimpls()}
    others = {name: [plugin for other, plugin in plugins.items() if other != name] for name in plugins}
    return [(origins[name], manager.subset_hook_caller(hook, others[name])) for name in plugins]


def _load_plugins(manager: pluggy.PluginManager, registry: Registry, blocked: set[str]) -> None:
    """Register the plugins of all distributions, built-in ones first."""
    seen: dict[str, Origin] = {}
    for origin, entry, distribution in _entry_points(registry):
        first = seen.setdefault(origin.plugin, origin)
        if first is not origin:
            if first != origin:  # an editable install can appear twice on sys.path
                registry.broken.append(Broken(origin, _taken(origin, first)))
        elif blocked & {canonicalize_name(origin.plugin), canonicalize_name(origin.distribution)}:
            registry.blocked.append(origin)
        else:
            _load(manager, registry, origin, entry, distribution)


def _taken(origin: Origin, first: Origin) -> str:
    if canonicalize_name(origin.distribution) != canonicalize_name(first.distribution):
        return f"its name is already taken by {first}"
    return (
        f"{origin.distribution} is installed twice, and {first.version} in {first.location} comes before "
        f"{origin.version} in {origin.location}; uninstall one of them"
    )


def _load(
    manager: pluggy.PluginManager,
    registry: Registry,
    origin: Origin,
    entry: importlib.metadata.EntryPoint,
    distribution: importlib.metadata.Distribution,
) -> None:
    try:
        _check_version(distribution)
        plugin = entry.load()
        _check_hooks(manager, plugin)
        manager.register(plugin, origin.plugin)
    except (Exception, SystemExit) as error:  # a plugin may raise anything
        if manager.has_plugin(origin.plugin):
            manager.unregister(name=origin.plugin)
        registry.broken.append(Broken(origin, _reason(error)))
    else:
        registry.plugins.append(origin)


def _check_version(distribution: importlib.metadata.Distribution) -> None:
    """Reject plugins whose requirements exclude this version of mbcompress."""
    ours = importlib.metadata.version(OURS)
    for line in distribution.requires or ():
        try:
            wanted = Requirement(line)
        except InvalidRequirement:
            continue  # pip reports it; it may not concern mbcompress
        concerns_us = canonicalize_name(wanted.name) == OURS and (wanted.marker is None or wanted.marker.evaluate())
        if concerns_us and not wanted.specifier.contains(ours, prereleases=True):
            raise MbcompressError(
                f"it requires mbcompress {wanted.specifier}, and this is {ours}; install another version of "
                f"{distribution.metadata['Name']} or of mbcompress"
            )


def _check_hooks(manager: pluggy.PluginManager, plugin: object) -> None:
    """Reject hooks that would never be called: misspelled names, and functions without the decorator."""
    known = [name for name in vars(hookspecs) if name.startswith(f"{GROUP}_")]
    marked = {name: manager.parse_hookimpl_opts(plugin, name) for name in dir(plugin)}
    for name, options in marked.items():
        if options is not None and (hook := options.get("specname") or name) not in known:
            raise MbcompressError(unknown("hook", hook, known))
        if options is None and name in known:
            raise MbcompressError(f"function {name} lacks the decorator @mbcompress.hookimpl")
    if not any(marked.values()):
        raise MbcompressError(f"it has no function with @mbcompress.hookimpl (known hooks: {', '.join(known)})")


def _entry_points(registry: Registry) -> Iterator[Entry]:
    """Yield the entry points of our group, built-in ones first, so that other plugins cannot replace them."""
    found = []
    for distribution in importlib.metadata.distributions():
        try:
            entries = [entry for entry in distribution.entry_points if entry.group == GROUP]
        except Exception as error:  # importlib.metadata can raise anything on damaged files
            reason = f"its entry points cannot be read ({_reason(error)})"
            registry.broken.append(Broken(Origin("?", distribution.name, distribution.version), reason))
            continue
        if entries:  # reading name and version is slow
            found.append((distribution, entries))
    for distribution, entries in sorted(found, key=lambda item: item[0].name != OURS):
        for entry in entries:
            origin = Origin(entry.name, distribution.name, distribution.version, _location(distribution))
            yield origin, entry, distribution


def _location(distribution: importlib.metadata.Distribution) -> str:
    """Return the source directory of an editable install, or else the installation directory."""
    try:
        direct = json.loads(distribution.read_text("direct_url.json") or "{}")
        if direct.get("dir_info", {}).get("editable"):
            return unquote(urlsplit(direct["url"]).path)
    except (ValueError, KeyError, AttributeError):
        pass  # damaged metadata; the location below is still correct
    return str(distribution.locate_file(""))


def _reason(error: BaseException) -> str:
    """Return one line: the message of an MbcompressError, or type, message and plugin line of other exceptions."""
    if isinstance(error, MbcompressError):
        return str(error)
    text = " ".join(f"{type(error).__name__}: {error}".split())
    files = ((frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__))
    theirs = [(Path(name).name, line) for name, line in files if not name.startswith(MACHINERY)]
    return f"{text} ({theirs[0][0]}, line {theirs[0][1]})" if theirs else text


def _register_all(
    registry: Registry,
    base: type[Any],
    register: Callable[[Any, Origin], None],
    function: Callable[[], object],
    origin: Origin,
    hook: str,
) -> None:
    """Register the classes that a hook returns; an unusable class is listed as broken without affecting the others."""
    try:
        offered = function()
        if not isinstance(offered, list | tuple):
            raise MbcompressError(f"hook {hook} must return a list of classes, got {brief(repr(offered))}")
    except (Exception, SystemExit) as error:  # a plugin may raise anything
        registry.broken.append(Broken(origin, _reason(error)))
        return
    for cls in offered:
        try:
            if not (isinstance(cls, type) and issubclass(cls, base)):
                wanted = f"subclasses of {base.__name__}"
                raise MbcompressError(f"hook {hook} must return {wanted}, got {brief(repr(cls))}")
            register(cls, origin)
        except Exception as error:
            registry.broken.append(Broken(origin, _reason(error)))
