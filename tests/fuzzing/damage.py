"""Damage that knows nothing of a format (bytes) or only that it is nested (plain data)."""

import copy
import math
from random import Random
from typing import Any

EDGES = (0, 1, 0x7F, 0x80, 0xFE, 0xFF)
SIZES = (0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1)
STRINGS = (
    "", " ", "..", "../../x", "/etc/passwd", "~nobody/x", "a\nb", "a\0b", "\ud800", "\u202e", "é" * 40, "x" * 5000,
    "null", "{}", "zoo:", "zoo:../x", "os:abort", "\x1b[2J", "%s%n{0}", "__class__", "con",
)  # fmt: skip
NUMBERS = (-1, 0, 1, 2, 3, 10**6, 2**31, 2**63, 2**64, -(2**63), 10**400, 0.5, -0.0, 1e308, 5e-324)
ODD = (None, True, False, math.nan, math.inf, -math.inf, [], {}, [[]], [None], {"": None}, [0] * 50)


def in_bytes(random: Random, content: bytes) -> bytes:
    """One to four changes: bits, bytes, integers of four, blocks that are cut, doubled, blanked or moved."""
    data = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        at = random.randrange(len(data) + 1)
        length = min(random.choice((1, 2, 4, 8, 64, 1024)), len(data) - at)
        match random.randrange(8):
            case 0 if at < len(data):
                data[at] ^= 1 << random.randrange(8)
            case 1 if at < len(data):
                data[at] = random.choice(EDGES)
            case 2:
                value = random.choice(SIZES) % 2**32
                data[at : at + 4] = value.to_bytes(4, random.choice(("little", "big")))
            case 3:
                del data[at : at + length]
            case 4:
                data[at:at] = data[at : at + length] * random.choice((1, 2, 50))
            case 5:
                data[at : at + length] = bytes(length)
            case 6:
                data[at:at] = random.randbytes(length or 1)
            case 7 if random.random() < 0.5:
                del data[at:]
    return bytes(data)


def strange_value(random: Random) -> Any:
    """Something that is seldom right."""
    kind = random.choice((STRINGS, NUMBERS, SIZES, ODD))
    return copy.deepcopy(random.choice(kind))


def in_structure(random: Random, value: Any, times: int | None = None) -> Any:
    """A copy with one to three changes: values of other types, renamed, dropped, doubled and swapped entries."""
    root = [copy.deepcopy(value)]
    for _ in range(times or random.choice((1, 1, 2, 3))):
        places = list(_places(root))
        owner, key = random.choice(places)
        match random.randrange(7):
            case 0 | 1 | 2:
                owner[key] = strange_value(random)
            case 3:
                other, there = random.choice(places)
                owner[key] = copy.deepcopy(other[there])
            case 4 if isinstance(owner, dict):
                owner[random.choice((f"{key}x", "", "x" * 200, str(strange_value(random))[:300]))] = owner.pop(key)
            case 5 if owner is not root:
                del owner[key]
            case 6 if isinstance(owner, list) and owner is not root:
                owner.insert(key, copy.deepcopy(owner[key]))
            case _:
                owner[key] = nested(random.choice((2, 20, 40, 100)), owner[key], as_list=random.random() < 0.5)
    return root[0]


def nested(levels: int, value: Any, *, as_list: bool) -> Any:
    """`value` inside that many lists or mappings."""
    for _ in range(levels):
        value = [value] if as_list else {"a": value}
    return value


def _places(root: list[Any]) -> Any:
    """Every container with each of its keys; not deeper than damage has made it useless to go."""
    waiting: list[tuple[Any, int]] = [(root, 0)]
    while waiting:
        container, depth = waiting.pop()
        for key in list(container) if isinstance(container, dict) else range(len(container)):
            yield container, key
            if isinstance(container[key], dict | list) and depth < 30:
                waiting.append((container[key], depth + 1))
