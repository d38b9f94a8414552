"""The processor that this program runs on, as far as the system tells."""

import platform
from dataclasses import dataclass
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Processor:
    """What the system says of its first processor.

    Attributes:
        model: name, never empty.
        flags: names of instruction sets and other features; None where the system does not list them.
    """

    model: str
    flags: frozenset[str] | None


def processor(cpuinfo: Path = CPUINFO) -> Processor:
    """The first processor of `cpuinfo`, a file as Linux has it."""
    named = platform.processor() or platform.machine()
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return Processor(named, None)
    facts: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    flags = frozenset(facts["flags"].split()) if "flags" in facts else None
    return Processor(facts.get("model name", named), flags)
