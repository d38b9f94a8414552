"""Damaged .safetensors files, read as a model's `weights:` and described by `mbcompress info`."""

import json
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from fuzzing import damage
from fuzzing.suites import Reading
from mbcompress.cli.info import render
from mbcompress.contract.weights import load_weights
from mbcompress.info import describe_artifact
from mbcompress.registry.registry import Registry

DTYPES = (
    "F64",
    "F32",
    "F16",
    "BF16",
    "I64",
    "I8",
    "U8",
    "BOOL",
    "F8_E5M2",
    "F8_E4M3",
    "F8_E8M0",
    "F4",
    "C64",
    "X",
    "",
    3,
)


def network() -> nn.Sequential:
    """What the weights fit."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 5))


def describe(path: Path) -> None:
    """`mbcompress info`, to the last line that it prints."""
    described = describe_artifact(str(path), Registry())
    json.dumps(described)
    for _ in render(described):
        pass


def as_weights(random: Random, path: Path) -> Reading:
    """The file, read for a model or described."""
    if random.random() < 0.6:
        return lambda: load_weights(network(), path, "a small network")
    return lambda: describe(path)


class Safetensors:
    """Length of the header, its JSON, dtypes, shapes, offsets; and plain bytes."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.whole = save(network().state_dict(), {"format": "pt"})
        length = int.from_bytes(self.whole[:8], "little")
        self.header, self.body = json.loads(self.whole[8 : 8 + length]), self.whole[8 + length :]

    def prepare(self, random: Random, folder: Path) -> Reading:
        path = folder / "w.safetensors"
        path.write_bytes(self._damaged(random))
        return as_weights(random, path)

    def _damaged(self, random: Random) -> bytes:
        if random.random() < 0.35:
            return damage.in_bytes(random, self.whole)
        header, body = json.loads(json.dumps(self.header)), self.body
        text = _as_text(random, self._edit(random, header))
        if random.random() < 0.2:
            body = random.choice((b"", body[:-1], body + b"x", body * 2, damage.in_bytes(random, body)))
        length = len(text)
        if random.random() < 0.15:
            length = random.choice((*damage.SIZES, length - 1, length + 1, length + len(body))) % 2**64
        return length.to_bytes(8, "little") + text + body

    def _edit(self, random: Random, header: dict[str, Any]) -> Any:
        name = random.choice([key for key in header if key != "__metadata__"])
        entry = header[name]
        match random.randrange(7):
            case 0:
                entry["dtype"] = random.choice(DTYPES)
            case 1:
                entry["shape"] = random.choice(
                    ([], [0], [0, 2**63], [-1], [2**40, 2**40], [1] * 200, [2**64], "x", None)
                )
            case 2:
                entry["data_offsets"] = [random.choice(damage.SIZES), random.choice(damage.SIZES)]
            case 3:
                header[random.choice(damage.STRINGS)] = header.pop(name)
            case 4:
                header["__metadata__"] = random.choice(({"a": 3}, [], {"a": "\ud800"}, {"x" * 9000: "y"}, None))
            case 5:  # nothing in it, but of a size that no machine has
                size = len(self.body)
                header["empty"] = {"dtype": "F32", "shape": [0, 2**62, 9], "data_offsets": [size, size]}
            case 6:
                return damage.in_structure(random, header)
        return header


def _as_text(random: Random, header: Any) -> bytes:
    try:
        text = json.dumps(header, ensure_ascii=random.random() < 0.5)
    except (ValueError, RecursionError):
        text = "[" * 5000
    if random.random() < 0.1:
        text = text[:-1] + "," + text[1:]  # every name twice
    return text.encode("utf-8", "surrogatepass")
