"""`mbcompress doctor`: report what is broken or slow in this installation."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "doctor", help="report what is broken or slow in this installation", description=__doc__
    )
    parser.add_argument("--json", action="store_true", help="print JSON on standard output")
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Print the processor, the operators and the broken plugins."""
    found = examine()
    if options.json:
        json.dump(found, sys.stdout, indent=2)
        print()
        return 0
    print(f"processor: {found['processor']}, {found['threads']} threads, torch uses {found['instructions']}")
    for operators in found["operators"]:
        print(f"operators {operators['name']} ({operators['plugin']}): {operators['status']}")
    for broken in found["broken"]:
        print(f"broken: {broken}")
    if not found["broken"]:
        print("plugins: none broken")
    return 0


def examine() -> dict[str, Any]:
    """Return what `execute` prints."""
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
        "broken": [f"{broken.origin}: {broken.reason}" for broken in registry.broken],
    }
