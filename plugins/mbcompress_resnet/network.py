"""ResNet-9: David Page, "How to Train Your ResNet 4: Architecture", myrtle.ai, 2018.

It has dense convolutions and few feature maps, so a CPU with matrix instructions trains it several times faster than a
MobileNet with as many MACs, which spends most of its time reading and writing large feature maps.
"""

from torch import Tensor, nn

CHANNELS = 64


def convolution(inputs: int, outputs: int, *, pool: bool = False) -> nn.Sequential:
    """3x3 convolution, optional max pooling, BatchNorm and ReLU; pooling first makes BatchNorm and ReLU cheaper."""
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)]
    if pool:
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """Two convolutions and a skip connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(convolution(channels, channels), convolution(channels, channels))

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        result: Tensor = features + self.branch(features)
        return result


class ResNet9(nn.Module):
    """(N, 3, H, W) -> (N, num_classes) logits; H and W at least 8."""

    def __init__(self, num_classes: int, width: float = 1.0) -> None:
        super().__init__()
        first = round(width * CHANNELS)
        self.features = nn.Sequential(
            convolution(3, first),
            convolution(first, 2 * first, pool=True),
            Residual(2 * first),
            convolution(2 * first, 4 * first, pool=True),
            convolution(4 * first, 8 * first, pool=True),
            Residual(8 * first),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(8 * first, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        features = self.pool(self.features(images)).flatten(1)
        logits: Tensor = self.classifier(features)
        return logits
