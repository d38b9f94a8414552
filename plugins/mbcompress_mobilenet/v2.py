"""MobileNetV2: inverted residuals with linear bottlenecks.

Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018, https://arxiv.org/abs/1801.04381,
table 2. State-dict keys are torchvision's.
"""

from torch import Tensor, nn

from .layers import ConvNormActivation, GlobalAveragePool, initialize, round_channels

STEM, HEAD = 32, 1280
STAGES = (  # expansion, output channels, blocks, stride of the first block
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise, 1x1 linear projection, with a residual connection if the shapes match."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        layers: list[nn.Module] = [] if expansion == 1 else [ConvNormActivation(inputs, hidden, 1)]
        layers += [
            ConvNormActivation(hidden, hidden, 3, stride=stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """(N, 3, H, W) float images -> (N, num_classes) logits.

    Args:
        width: width multiplier (for the head only above 1); channels are rounded to multiples of 8.
        strides: strides of the five downsampling layers, from the input.
    """

    def __init__(self, num_classes: int, width: float, strides: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        stem, *halvings = strides
        channels = round_channels(STEM * width)
        head = round_channels(HEAD * max(1.0, width))
        layers: list[nn.Module] = [ConvNormActivation(3, channels, 3, stride=stem)]
        for expansion, outputs, blocks, first_stride in STAGES:
            scaled = round_channels(outputs * width)
            for block in range(blocks):
                stride = halvings.pop(0) if block == 0 and first_stride == 2 else 1
                layers.append(InvertedResidual(channels, scaled, stride, expansion))
                channels = scaled
        layers.append(ConvNormActivation(channels, head, 1))
        self.features = nn.Sequential(*layers)
        self.pool = GlobalAveragePool()
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(head, num_classes))
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.pool(self.features(x)))
        return logits
