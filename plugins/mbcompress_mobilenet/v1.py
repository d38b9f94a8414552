"""MobileNetV1: depthwise separable convolutions.

Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications", 2017,
https://arxiv.org/abs/1704.04861, table 1.
"""

from torch import Tensor, nn

from .layers import ConvNormActivation, GlobalAveragePool, initialize

STEM = 32
BLOCKS = (  # output channels, stride of the depthwise convolution
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
)


class DepthwiseSeparable(nn.Sequential):
    """3x3 depthwise, then 1x1 pointwise, each with normalization and ReLU6."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(
            ConvNormActivation(inputs, inputs, 3, stride=stride, groups=inputs),
            ConvNormActivation(inputs, outputs, 1),
        )


class MobileNetV1(nn.Module):
    """(N, 3, H, W) float images -> (N, num_classes) logits.

    Args:
        width: width multiplier; products are rounded down, as in the paper.
        strides: strides of the five downsampling layers, from the input.
    """

    def __init__(self, num_classes: int, width: float, strides: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        stem, *halvings = strides
        channels = self._scale(STEM, width)
        layers: list[nn.Module] = [ConvNormActivation(3, channels, 3, stride=stem)]
        for outputs, stride in BLOCKS:
            scaled = self._scale(outputs, width)
            layers.append(DepthwiseSeparable(channels, scaled, halvings.pop(0) if stride == 2 else 1))
            channels = scaled
        self.features = nn.Sequential(*layers)
        self.pool = GlobalAveragePool()
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(channels, num_classes))
        initialize(self)

    @staticmethod
    def _scale(channels: int, width: float) -> int:
        return max(8, int(channels * width))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.pool(self.features(x)))
        return logits
