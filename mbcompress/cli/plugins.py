"""`mbcompress plugins`: list the installed plugins, their components and problems."""

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
        "plugins", help="list installed plugins, their components and problems", description=__doc__
    )
    add_block_argument(parser)
    parser.add_argument("--json", action="store_true", help="print JSON on standard output")
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """List all plugins, built-in ones first."""
    registry = registry_for(options)
    report_needless_blocks(registry)
    plugins = describe_plugins(registry)
    if options.json:
        json.dump(plugins, sys.stdout, indent=2)
        print()
        return 0
    for plugin in plugins:
        print(f"{plugin['plugin']}  ({plugin['distribution']} {plugin['version']}, {plugin['location'] or '?'})")
        for offer in plugin["offers"]:
            print(f"    {offer['kind']} {offer['name']}")
        for reason in plugin["problems"]:
            print(f"    broken: {reason}")
        if plugin["status"] == "blocked":
            print("    blocked")
    return 0


def describe_plugins(registry: Registry) -> list[dict[str, Any]]:
    """Describe each plugin and its components; `status` is 'fine', 'broken' (completely or partly) or 'blocked'."""
    return [_describe(origin, registry) for origin in registry.origins]


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
