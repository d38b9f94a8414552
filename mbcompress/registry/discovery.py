"""Finds the installed plugins and turns what they offer into a registry. The only file that talks to pluggy."""

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
    from collections.abc import Callable, Iterator

__all__ = ["BLOCK", "Broken", "Kind", "Origin", "Registry", "blocked_names", "discover"]

GROUP = OURS = "mbcompress"
BLOCK = "MBCOMPRESS_BLOCK"
"""Environment variable: names of plugins or distributions that are not to be loaded, with commas between them."""

MACHINERY = (__file__, "<frozen importlib", str(Path(importlib.__file__).parent), str(Path(pluggy.__file__).parent))
"""What stands between a plugin's code and ours in a traceback."""

Entry = tuple[Origin, importlib.metadata.EntryPoint, importlib.metadata.Distribution]


def discover() -> Registry:
    """Load every installed plugin but the blocked ones; what fails is listed as broken and takes nothing else down."""
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    registry = Registry()
    _load_plugins(manager, registry)
    kinds: dict[str, Kind[Any]] = {
        "mbcompress_passes": registry.passes,
        "mbcompress_models": registry.models,
        "mbcompress_datasets": registry.datasets,
        "mbcompress_runtimes": registry.runtimes,
        "mbcompress_metrics": registry.metrics,
    }
    for hook, kind in kinds.items():
        functions = {each.plugin_name: each.function for each in getattr(manager.hook, hook).get_hookimpls()}
        for origin in registry.plugins:
            if origin.plugin in functions:
                function = functions[origin.plugin]
                _register_all(registry, kind.base, kind.register, function, origin, hook)
    functions = {each.plugin_name: each.function for each in manager.hook.mbcompress_operators.get_hookimpls()}
    for origin in registry.plugins:
        if origin.plugin in functions:
            hook = "mbcompress_operators"
            _register_all(registry, OperatorSet, registry.add_operators, functions[origin.plugin], origin, hook)
    registry.listeners.update({hook: _listeners(manager, registry, hook) for hook in LIFECYCLE})
    return registry


def _listeners(manager: pluggy.PluginManager, registry: Registry, hook: str) -> list[tuple[Origin, Listener]]:
    """Who implements `hook`, each as a call of its own, so that one that raises keeps nothing from the others."""
    origins = {origin.plugin: origin for origin in registry.plugins}
    plugins = {each.plugin_name: each.plugin for each in getattr(manager.hook, hook).get_hookimpls()}
    others = {name: [plugin for each, plugin in plugins.items() if each != name] for name in plugins}
    return [(origins[name], manager.subset_hook_caller(hook, others[name])) for name in plugins]


def blocked_names() -> set[str]:
    """What the environment says is not to be loaded, as names are compared: Squeeze_it is squeeze-it."""
    return {canonicalize_name(name.strip()) for name in os.environ.get(BLOCK, "").split(",") if name.strip()}


def _load_plugins(manager: pluggy.PluginManager, registry: Registry) -> None:
    """Register the plugins of every distribution, ours first."""
    blocked = blocked_names()
    seen: dict[str, Origin] = {}
    for origin, entry, distribution in _entry_points(registry):
        first = seen.setdefault(origin.plugin, origin)
        if first is not origin:
            if first != origin:  # else the same distribution is seen twice on sys.path, as editable installs are
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
    except (Exception, SystemExit) as error:  # a stranger's code may raise anything
        if manager.has_plugin(origin.plugin):
            manager.unregister(name=origin.plugin)
        registry.broken.append(Broken(origin, _reason(error)))
    else:
        registry.plugins.append(origin)


def _check_version(distribution: importlib.metadata.Distribution) -> None:
    """Refuse a plugin whose own metadata does not admit this version of mbcompress."""
    ours = importlib.metadata.version(OURS)
    for line in distribution.requires or ():
        try:
            wanted = Requirement(line)
        except InvalidRequirement:
            continue  # pip's business, and perhaps not about us
        about_us = canonicalize_name(wanted.name) == OURS and (wanted.marker is None or wanted.marker.evaluate())
        if about_us and not wanted.specifier.contains(ours, prereleases=True):
            raise MbcompressError(
                f"it was built for mbcompress {wanted.specifier}, and this is {ours}; install a version of "
                f"{distribution.metadata['Name']} that fits, or such an mbcompress"
            )


def _check_hooks(manager: pluggy.PluginManager, plugin: object) -> None:
    """Refuse hooks that would never be called: misspelt ones, and ones that lack the mark."""
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
    """Entry points of our group; nobody who comes earlier on sys.path can take the place of a built-in."""
    found = []
    for distribution in importlib.metadata.distributions():
        try:
            entries = [entry for entry in distribution.entry_points if entry.group == GROUP]
        except Exception as error:  # importlib.metadata raises what its parser happens to meet
            reason = f"its entry points cannot be read ({_reason(error)})"
            registry.broken.append(Broken(Origin("?", distribution.name, distribution.version), reason))
            continue
        if entries:  # only then is it worth the time to read whose they are
            found.append((distribution, entries))
    for distribution, entries in sorted(found, key=lambda each: each[0].name != OURS):
        for entry in entries:
            origin = Origin(entry.name, distribution.name, distribution.version, _location(distribution))
            yield origin, entry, distribution


def _location(distribution: importlib.metadata.Distribution) -> str:
    """Where the plugin's code is: the directory it is edited in, or the one it was installed to."""
    try:
        direct = json.loads(distribution.read_text("direct_url.json") or "{}")
        if direct.get("dir_info", {}).get("editable"):
            return unquote(urlsplit(direct["url"]).path)
    except (ValueError, KeyError, AttributeError):
        pass  # as damaged as it may be, the plugin is still where it is
    return str(distribution.locate_file(""))


def _reason(error: BaseException) -> str:
    """One line: our own sentences as they are, a stranger's exception with its type and the place that raised it."""
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
    """Register what a hook returns; a class that cannot be used is listed, and the plugin's others still work."""
    try:
        offered = function()
        if not isinstance(offered, list | tuple):
            raise MbcompressError(f"hook {hook} must return a list of classes, got {brief(repr(offered))}")
    except (Exception, SystemExit) as error:  # a stranger's code may raise anything
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
