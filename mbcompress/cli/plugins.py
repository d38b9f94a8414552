"""`mbcompress plugins`: which plugins are installed, from where, what each offers, and what is wrong with it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from mbcompress.cli.installed import add_block_argument, registry_for, report_needless_blocks

if TYPE_CHECKING:
    import argparse

    from mbcompress.registry.registry import Origin, Registry


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "plugins", help="list installed plugins, what they offer and what is broken", description=__doc__
    )
    add_block_argument(parser)
    parser.add_argument("--json", action="store_true", help="print JSON on standard output")
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """List every plugin, ours first."""
    registry = registry_for(options)
    report_needless_blocks(registry)
    found = describe_plugins(registry)
    if options.json:
        json.dump(found, sys.stdout, indent=2)
        print()
        return 0
    for plugin in found:
        print(f"{plugin['plugin']}  ({plugin['distribution']} {plugin['version']}, {plugin['location'] or '?'})")
        for what in plugin["offers"]:
            print(f"    {what['kind']} {what['name']}")
        for reason in plugin["problems"]:
            print(f"    broken: {reason}")
        if plugin["status"] == "blocked":
            print("    blocked")
    return 0


def describe_plugins(registry: Registry) -> list[dict[str, Any]]:
    """Each plugin with what it offers; `status` is 'fine', 'broken' (wholly or in part) or 'blocked'."""
    # two distributions may give one name, and one plugin may be broken in several ways
    there = dict.fromkeys([*registry.plugins, *registry.blocked, *(broken.origin for broken in registry.broken)])
    return [_describe(origin, registry) for origin in there]


def _describe(origin: Origin, registry: Registry) -> dict[str, Any]:
    problems = [broken.reason for broken in registry.broken if broken.origin == origin]
    offers = [
        {"kind": kind.name, "name": cls.name} for kind in registry.kinds for cls, provider in kind if provider == origin
    ]
    return {
        "plugin": origin.plugin,
        "distribution": origin.distribution,
        "version": origin.version,
        "location": origin.location,
        "status": "blocked" if origin in registry.blocked else "broken" if problems else "fine",
        "offers": [*offers, *_listeners(origin, registry)],
        "problems": problems,
    }


def _listeners(origin: Origin, registry: Registry) -> list[dict[str, str]]:
    return [
        {"kind": "listener", "name": hook}
        for hook, listeners in registry.listeners.items()
        if any(provider == origin for provider, _ in listeners)
    ]
