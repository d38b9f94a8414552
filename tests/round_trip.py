"""What the tests of loading share: a module that is hard to store, and how two models are compared."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mbcompress
from mbcompress.contract.traits import Trait
from mbcompress.graph import to_contiguous

SHAPE = (3, 32, 32)
FLOAT, INT8 = frozenset({Trait.FLOAT}), frozenset({Trait.INT8})


def noise(batch: int = 4) -> Tensor:
    return torch.randn(batch, *SHAPE, generator=torch.Generator().manual_seed(1))


def difference(one: nn.Module, other: nn.Module) -> float:
    """Largest absolute difference of the logits, the weights of both in the same memory layout."""
    with torch.no_grad():
        return float((to_contiguous(one)(noise()) - to_contiguous(other)(noise())).abs().max())


def described(step: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((step / "architecture.json").read_text())
    return content


def refused(path: Path, model: nn.Module | None = None) -> str:
    with pytest.raises(mbcompress.MbcompressError) as failure:
        mbcompress.load(path, model=model)
    message = str(failure.value)
    assert "\n" not in message
    assert len(message) < 500
    return message


class Net(nn.Module):
    """Constants that no state dict has, a tensor that two layers share, and a random choice if asked for."""

    def __init__(self, *, undecided: bool = False) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1)
        self.third = nn.Conv2d(8, 8, 3, 1, 1)
        self.third.weight = self.second.weight
        self.head = nn.Linear(8, 10)
        self.undecided = undecided
        self.register_buffer("gain", torch.full((8, 1, 1), 1.5), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu() * torch.tensor(0.5)
        if self.undecided and bool(x.sum() > 1e9):  # torch.export cannot follow values
            x = -x
        left, right = self.third(self.second(x) * self.gain).chunk(2, 1)
        logits: Tensor = self.head(torch.cat([right, left], 1).mean((2, 3)))
        return logits
