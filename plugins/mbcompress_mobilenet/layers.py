"""Layers that the MobileNets share."""

from collections.abc import Callable

from torch import Tensor, nn

Norm = Callable[[int], nn.Module]
"""Number of channels -> normalization layer."""


def round_channels(channels: float, divisor: int = 8) -> int:
    """Nearest multiple of `divisor`, never more than 10 % below `channels` (MobileNetV2, reference code)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


class ConvNormActivation(nn.Sequential):
    """Convolution without bias (`0`), normalization (`1`) and activation (`2`).

    Args:
        kernel: size of the square kernel; padding keeps the image size at stride 1.
        activation: class of the activation; None for none.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        norm: Norm = nn.BatchNorm2d,
        activation: type[nn.Module] | None = nn.ReLU6,
    ) -> None:
        convolution = nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)
        layers = [convolution, norm(outputs)]
        if activation is not None:
            layers.append(activation(inplace=True))
        super().__init__(*layers)


class GlobalAveragePool(nn.Module):
    """Mean over height and width: (N, C, H, W) -> (N, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.pool(x)
        return pooled.flatten(1)


def initialize(model: nn.Module) -> None:
    """Kaiming initialization with fan-out (He et al. 2015), as in the reference implementations."""
    for module in model.modules():
        match module:
            case nn.Conv2d():
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            case nn.BatchNorm2d():
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
            case nn.Linear():
                nn.init.normal_(module.weight, 0.0, 0.01)
                nn.init.zeros_(module.bias)
