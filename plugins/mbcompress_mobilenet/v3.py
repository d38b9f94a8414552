"""MobileNetV3, small and large: squeeze-and-excitation and h-swish on inverted residuals.

Howard et al., "Searching for MobileNetV3", 2019, https://arxiv.org/abs/1905.02244, tables 1 and 2. State-dict keys and
BatchNorm settings (eps 1e-3, momentum 1e-2) are torchvision's.
"""

from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from .layers import ConvNormActivation, GlobalAveragePool, initialize, round_channels

STEM = 16
NORM = partial(nn.BatchNorm2d, eps=1e-3, momentum=1e-2)


class Block(NamedTuple):
    """One row of the paper's tables, at width 1."""

    kernel: int
    expanded: int
    outputs: int
    squeeze: bool
    activation: type[nn.Module]
    stride: int


RE, HS = nn.ReLU, nn.Hardswish
SMALL = (
    Block(3, 16, 16, True, RE, 2),
    Block(3, 72, 24, False, RE, 2),
    Block(3, 88, 24, False, RE, 1),
    Block(5, 96, 40, True, HS, 2),
    Block(5, 240, 40, True, HS, 1),
    Block(5, 240, 40, True, HS, 1),
    Block(5, 120, 48, True, HS, 1),
    Block(5, 144, 48, True, HS, 1),
    Block(5, 288, 96, True, HS, 2),
    Block(5, 576, 96, True, HS, 1),
    Block(5, 576, 96, True, HS, 1),
)
LARGE = (
    Block(3, 16, 16, False, RE, 1),
    Block(3, 64, 24, False, RE, 2),
    Block(3, 72, 24, False, RE, 1),
    Block(5, 72, 40, True, RE, 2),
    Block(5, 120, 40, True, RE, 1),
    Block(5, 120, 40, True, RE, 1),
    Block(3, 240, 80, False, HS, 2),
    Block(3, 200, 80, False, HS, 1),
    Block(3, 184, 80, False, HS, 1),
    Block(3, 184, 80, False, HS, 1),
    Block(3, 480, 112, True, HS, 1),
    Block(3, 672, 112, True, HS, 1),
    Block(5, 672, 160, True, HS, 2),
    Block(5, 960, 160, True, HS, 1),
    Block(5, 960, 160, True, HS, 1),
)
SMALL_HIDDEN, LARGE_HIDDEN = 1024, 1280


class SqueezeExcitation(nn.Module):
    """Squeeze-and-excitation (Hu et al. 2018) with reduction 4 and hard sigmoid."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = round_channels(channels // 4)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.activation = nn.ReLU()
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.scale_activation = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        scale: Tensor = self.scale_activation(self.fc2(self.activation(self.fc1(self.avgpool(x)))))
        return x * scale


class InvertedResidual(nn.Module):
    """MobileNetV2's block with an optional squeeze-and-excitation after the depthwise convolution."""

    def __init__(self, inputs: int, expanded: int, outputs: int, row: Block, stride: int) -> None:
        super().__init__()
        self.residual = stride == 1 and inputs == outputs
        layer = partial(ConvNormActivation, norm=NORM)
        layers: list[nn.Module] = []
        if expanded != inputs:
            layers.append(layer(inputs, expanded, 1, activation=row.activation))
        layers.append(layer(expanded, expanded, row.kernel, stride=stride, groups=expanded, activation=row.activation))
        if row.squeeze:
            layers.append(SqueezeExcitation(expanded))
        layers.append(layer(expanded, outputs, 1, activation=None))
        self.block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(x)
        return x + y if self.residual else y


class MobileNetV3(nn.Module):
    """(N, 3, H, W) float images -> (N, num_classes) logits.

    Args:
        rows: `SMALL` or `LARGE`.
        hidden: features between the two layers of the classifier, at width 1.
        width: width multiplier; channels are rounded to multiples of 8.
        strides: strides of the five downsampling layers, from the input.
    """

    def __init__(
        self,
        rows: tuple[Block, ...],
        hidden: int,
        num_classes: int,
        width: float,
        strides: tuple[int, ...],
        dropout: float,
    ) -> None:
        super().__init__()
        stem, *halvings = strides
        channels = round_channels(STEM * width)
        layers: list[nn.Module] = [ConvNormActivation(3, channels, 3, stride=stem, norm=NORM, activation=nn.Hardswish)]
        for row in rows:
            stride = halvings.pop(0) if row.stride == 2 else 1
            expanded, outputs = round_channels(row.expanded * width), round_channels(row.outputs * width)
            layers.append(InvertedResidual(channels, expanded, outputs, row, stride))
            channels = outputs
        layers.append(ConvNormActivation(channels, 6 * channels, 1, norm=NORM, activation=nn.Hardswish))
        self.features = nn.Sequential(*layers)
        self.pool = GlobalAveragePool()
        hidden = round_channels(hidden * width)
        self.classifier = nn.Sequential(
            nn.Linear(6 * channels, hidden),
            nn.Hardswish(inplace=True),
            nn.Dropout(dropout, inplace=True),
            nn.Linear(hidden, num_classes),
        )
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.pool(self.features(x)))
        return logits
