"""Read the processor of this machine."""

import platform
from dataclasses import dataclass
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
"""Where Linux describes its processors."""


@dataclass(frozen=True)
class Processor:
    """A processor.

    Attributes:
        model: name, never empty.
        flags: instruction sets and other features; None if unknown.
    """

    model: str
    flags: frozenset[str] | None


def processor(cpuinfo: Path = CPUINFO) -> Processor:
    """Read the first processor of `cpuinfo`, a file in Linux's format."""
    name = platform.processor() or platform.machine()
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return Processor(name, None)
    facts: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    flags = frozenset(facts["flags"].split()) if "flags" in facts else None
    return Processor(facts.get("model name", name), flags)
