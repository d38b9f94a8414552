"""`mbcompress doctor`: whether everything here is as fast as it can be, and what is broken or missing."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "doctor", help="say what is broken or slow in this installation, and why", description=__doc__
    )
    parser.add_argument("--json", action="store_true", help="print JSON on standard output")
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Look at plugins, operators and the processor."""
    found = examine()
    if options.json:
        json.dump(found, sys.stdout, indent=2)
        print()
        return 0
    print(f"processor: {found['processor']}, {found['threads']} threads, torch uses {found['instructions']}")
    for each in found["operators"]:
        print(f"operators {each['name']} ({each['plugin']}): {each['status']}")
    for each in found["broken"]:
        print(f"broken: {each}")
    if not found["broken"]:
        print("plugins: none is broken")
    return 0


def examine() -> dict[str, Any]:
    """What `execute` prints."""
    import torch

    from mbcompress.measure.cpu import processor
    from mbcompress.registry.discovery import discover

    registry = discover()
    return {
        "processor": processor().model,
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "operators": [
            {"name": name, "plugin": origin.plugin, "status": offered.status}
            for name, (origin, offered) in registry.operators.items()
        ],
        "broken": [f"{each.origin}: {each.reason}" for each in registry.broken],
    }
