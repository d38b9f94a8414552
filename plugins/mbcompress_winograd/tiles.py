"""Tilings of a depthwise 3x3 convolution, and their costs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Tile:
    """A block of outputs that is computed at once.

    Attributes:
        height, width: size in outputs; a side of 1 is not transformed.
        taps: number of rows of the packed weights.
        kernel: whether there is a compiled kernel.
    """

    name: str
    height: int
    width: int
    taps: int
    kernel: bool = True

    @property
    def multiplications(self) -> float:
        """Multiplications per output, ignoring borders; 9 without transforms."""
        return self.taps / (self.height * self.width)


TILES = {
    tile.name: tile
    for tile in (
        Tile("direct", 1, 1, 9),
        Tile("f2", 1, 2, 12),
        Tile("f2x2", 2, 2, 16),
        Tile("f4", 1, 4, 18, kernel=False),
        Tile("f4x4", 4, 4, 36, kernel=False),
    )
}
"""By name: no transform, F(2,3) along rows, F(2x2,3x3), F(4,3) along rows, F(4x4,3x3)."""

ACTIVATIONS = ("none", "relu", "relu6", "hardswish")
"""The index is the operator's `activation` argument."""
