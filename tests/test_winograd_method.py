"""Winograd's matrices and the reference in plain PyTorch, against what is published and against conv2d."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mbcompress_winograd.matrices import Matrix, winograd
from mbcompress_winograd.reference import depthwise3x3, pack
from mbcompress_winograd.tiles import ACTIVATIONS, TILES
from torch.nn import functional

F = Fraction
PUBLISHED = {  # Lavin and Gray 2015, sections 4.1 and 4.3
    2: (
        [[1, 1, 1, 0], [0, 1, -1, -1]],
        [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]],
        [[1, 0, 0], [F(1, 2), F(1, 2), F(1, 2)], [F(1, 2), F(-1, 2), F(1, 2)], [0, 0, 1]],
    ),
    4: (
        [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
        [
            [4, 0, -5, 0, 1, 0],
            [0, -4, -4, 1, 1, 0],
            [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0],
            [0, 2, -1, -2, 1, 0],
            [0, 4, 0, -5, 0, 1],
        ],
        [
            [F(1, 4), 0, 0],
            [F(-1, 6), F(-1, 6), F(-1, 6)],
            [F(-1, 6), F(1, 6), F(-1, 6)],
            [F(1, 24), F(1, 12), F(1, 6)],
            [F(1, 24), F(-1, 12), F(1, 6)],
            [0, 0, 1],
        ],
    ),
}


@pytest.mark.parametrize("outputs", PUBLISHED)
def test_matrices_are_the_published_ones(outputs: int) -> None:
    """Up to signs that cancel: of F(2,3), the paper negates what belongs to infinity in both A^T and B^T."""
    output, data, taps = PUBLISHED[outputs]
    found = winograd(outputs)
    assert [list(row) for row in found.filter] == taps
    for index, row in enumerate(data):
        sign = 1 if list(found.data[index]) == row else -1
        assert [sign * each for each in found.data[index]] == row
        assert [sign * line[index] for line in found.output] == [line[index] for line in output]


def product(matrix: Matrix, vector: list[Fraction]) -> list[Fraction]:
    return [sum((a * b for a, b in zip(row, vector, strict=True)), F(0)) for row in matrix]


@given(st.data(), st.integers(2, 4), st.sampled_from([2, 3]))
def test_filtering_is_exact_in_rationals(data: st.DataObject, outputs: int, taps: int) -> None:
    found = winograd(outputs, taps)
    size = outputs + taps - 1
    numbers = st.fractions(-100, 100, max_denominator=20)
    g = data.draw(st.lists(numbers, min_size=taps, max_size=taps))
    d = data.draw(st.lists(numbers, min_size=size, max_size=size))
    products = [a * b for a, b in zip(product(found.filter, g), product(found.data, d), strict=True)]
    expected = [sum((d[i + k] * g[k] for k in range(taps)), F(0)) for i in range(outputs)]
    assert product(found.output, products) == expected


def test_too_many_points_are_refused() -> None:
    with pytest.raises(ValueError, match=r"F\(8,3\) needs 9 points, and there are 5"):
        winograd(8)


EXACT = {"none": lambda x: x, "relu": torch.relu, "relu6": functional.relu6, "hardswish": functional.hardswish}


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(list(TILES)), st.integers(1, 3), st.integers(1, 5), st.integers(1, 13), st.integers(1, 13),
    st.sampled_from(ACTIVATIONS), st.integers(0, 2**31),
)  # fmt: skip
def test_reference_is_conv2d_in_double(
    tile: str, batch: int, channels: int, height: int, width: int, activation: str, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, weight, bias = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((batch, channels, height, width), (channels, 1, 3, 3), (channels,))
    )
    packed = pack(weight, TILES[tile])
    assert packed.shape == (TILES[tile].taps, channels)
    y = depthwise3x3(x, packed, bias, 1, ACTIVATIONS.index(activation))
    expected = EXACT[activation](functional.conv2d(x, weight, bias, padding=1, groups=channels))
    torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)


def test_stride_2_is_direct() -> None:
    x, weight, bias = torch.randn(2, 5, 7, 8).double(), torch.randn(5, 1, 3, 3).double(), torch.randn(5).double()
    y = depthwise3x3(x, pack(weight, TILES["direct"]), bias, 2, 0)
    torch.testing.assert_close(y, functional.conv2d(x, weight, bias, 2, 1, groups=5))


@pytest.mark.parametrize("tile", TILES)
def test_one_can_train_through_the_reference(tile: str) -> None:
    x = torch.randn(1, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(2, dtype=torch.float64, requires_grad=True)

    def through(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return depthwise3x3(x, pack(weight, TILES[tile]), bias, 1, 0)

    assert torch.autograd.gradcheck(through, (x, weight, bias))


class Filter(torch.nn.Module):
    def __init__(self, tile: str) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(4, 1, 3, 3))
        self.bias = torch.nn.Parameter(torch.randn(4))
        self.tile = TILES[tile]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return depthwise3x3(x, pack(self.weight, self.tile), self.bias, 1, 2)


@pytest.mark.parametrize("tile", TILES)
def test_reference_can_be_exported_with_a_free_batch(tile: str) -> None:
    module = Filter(tile).eval()
    example, other = torch.randn(2, 4, 7, 9), torch.randn(5, 4, 7, 9)
    program = torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(other), module(other))


def test_multiplications() -> None:
    assert {name: tile.multiplications for name, tile in TILES.items()} == {
        "direct": 9, "f2": 6, "f2x2": 4, "f4": 4.5, "f4x4": 2.25,
    }  # fmt: skip
