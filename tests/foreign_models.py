"""Networks as users write them; no layer is named as in the MobileNets of mbcompress.

`TensorFlowMobileNetV2` follows the Keras reference: padding as a layer of its own before valid strided convolutions,
BatchNorm folded into the convolutions, functional activations, a mean in place of pooling, a 1x1 convolution as
classifier. `HandWrittenMobileNetV3` spells out h-swish and squeeze-and-excitation. `Inception` concatenates.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

V2 = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def scaled(channels: int, alpha: float) -> int:
    return max(8, int(channels * alpha + 4) // 8 * 8)


class Unit(nn.Module):
    """Convolution, and BatchNorm until `fold`; TensorFlow's 'SAME' at stride 2 pads below and to the right only."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.grow = nn.Identity() if kernel == 1 else nn.ZeroPad2d((0, 1, 0, 1) if stride == 2 else kernel // 2)
        self.kernel = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
        self.moments: nn.Module = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.moments(self.kernel(self.grow(x)))
        return y

    def fold(self) -> None:
        if isinstance(self.moments, nn.BatchNorm2d):
            self.kernel = fuse_conv_bn_eval(self.kernel.eval(), self.moments.eval())
            self.moments = nn.Identity()


class Bottleneck(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, t: int) -> None:
        super().__init__()
        self.expand = Unit(inputs, inputs * t) if t > 1 else None
        self.depthwise = Unit(inputs * t, inputs * t, 3, stride, groups=inputs * t)
        self.project = Unit(inputs * t, outputs)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else torch.clamp(self.expand(x), 0, 6)
        y = F.relu6(self.depthwise(y))
        y = self.project(y)
        return x + y if self.shortcut else y


class TensorFlowMobileNetV2(nn.Module):
    def __init__(self, classes: int = 10, alpha: float = 0.25, head: int = 1280) -> None:
        super().__init__()
        channels = scaled(32, alpha)
        self.Conv1 = Unit(3, channels, 3, 2)
        blocks = []
        for t, outputs, repeats, stride in V2:
            for repeat in range(repeats):
                blocks.append(Bottleneck(channels, scaled(outputs, alpha), stride if repeat == 0 else 1, t))
                channels = scaled(outputs, alpha)
        self.blocks = nn.ModuleList(blocks)
        self.Conv_1 = Unit(channels, head)
        self.Logits = nn.Conv2d(head, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.Conv1(x))
        for block in self.blocks:
            x = block(x)
        x = F.relu(self.Conv_1(x)).clamp(max=6)
        x = x.mean((2, 3), keepdim=True)
        logits: Tensor = self.Logits(x).squeeze(-1).squeeze(-1)
        return logits

    def fold(self) -> TensorFlowMobileNetV2:
        """BatchNorm into the convolutions, as a frozen TensorFlow graph has it."""
        for module in self.modules():
            if isinstance(module, Unit):
                module.fold()
        return self


def hard_swish(x: Tensor) -> Tensor:
    return x * F.relu6(x + 3) / 6


class Attention(nn.Module):
    """Squeeze-and-excitation, functional."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, 8, 1)
        self.up = nn.Conv2d(8, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        s = F.relu(self.down(x.mean((2, 3), keepdim=True)))
        return F.relu6(self.up(s) + 3.0) / 6.0 * x


class HandWrittenMobileNetV3(nn.Module):
    """Three blocks with all parts of MobileNetV3, BatchNorm included."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.c0, self.n0 = nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16, eps=1e-3)
        self.c1, self.n1 = nn.Conv2d(16, 64, 1, bias=False), nn.BatchNorm2d(64, eps=1e-3)
        self.c2, self.n2 = nn.Conv2d(64, 64, 5, padding="same", groups=64, bias=False), nn.BatchNorm2d(64)
        self.se = Attention(64)
        self.c3, self.n3 = nn.Conv2d(64, 16, 1, bias=False), nn.BatchNorm2d(16)
        self.c4 = nn.Conv2d(16, 128, 1)
        self.fc = nn.Linear(128, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = hard_swish(self.n0(self.c0(x)))
        y = hard_swish(self.n1(self.c1(x)))
        y = self.n2(self.c2(y))
        y = y * (F.hardtanh(y + 3, 0, 6) * (1 / 6))
        x = x + self.n3(self.c3(self.se(y)))
        x = hard_swish(self.c4(x))
        x = F.avg_pool2d(x, x.shape[2:]).view(x.size(0), -1)
        logits: Tensor = self.fc(x)
        return logits


class Inception(nn.Module):
    """Concatenated branches, max pooling, and a view that needs NCHW in memory."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.left = nn.Conv2d(16, 16, 1)
        self.right = nn.Conv2d(16, 32, 3, padding=1)
        self.out = nn.Linear(48 * 16, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(torch.relu(self.stem(x)), 4)
        x = torch.cat([self.left(x).relu(), F.relu(self.right(x))], 1)
        x = F.max_pool2d(x, 2)
        logits: Tensor = self.out(x.view(x.shape[0], -1))
        return logits


class Gelu(nn.Module):
    """An activation without an int8 form, and a shape written as a number."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, 2, 1)
        self.fixed = nn.Conv2d(16, 64, 3, 2, 1)
        self.head = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fixed(F.gelu(self.first(x))).reshape(-1, 64, 64)
        logits: Tensor = self.head(x.mean(2))
        return logits


class Moody(nn.Module):
    """Branches on the values of its input, so that torch.export fails."""

    def __init__(self) -> None:
        super().__init__()
        self.only = nn.Conv2d(3, 10, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.only(x).mean((2, 3))
        return y if y.sum() > 0 else 2 * y
