"""int8 networks as `qat` makes them, quickly: random weights, calibrated on noise."""

import torch
from mbcompress_quantize.calibration import calibrate
from mbcompress_quantize.graph import FakeQuantized, canonical_graph
from mbcompress_quantize.scheme import Scheme
from torch import Tensor, nn


class Blocks(nn.Module):
    """Every kind of block that MobileNets have, once: seven convolutions, squeeze-excite, h-swish, a residual add."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        self.depthwise = nn.Sequential(
            nn.Conv2d(16, 16, 3, 1, 1, groups=16, bias=False), nn.BatchNorm2d(16), nn.Hardswish()
        )
        self.squeeze = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 8, 1), nn.ReLU(), nn.Conv2d(8, 16, 1), nn.Hardsigmoid()
        )
        self.project = nn.Sequential(nn.Conv2d(16, 16, 1, bias=False), nn.BatchNorm2d(16))
        self.head = nn.Sequential(nn.Conv2d(16, 32, 1), nn.ReLU6(), nn.Conv2d(32, 32, 1), nn.ReLU())
        self.classifier = nn.Linear(32, 10)

    def forward(self, images: Tensor) -> Tensor:
        stem = self.stem(images)
        x = self.depthwise(stem)
        x = stem + self.project(x * self.squeeze(x))
        logits: Tensor = self.classifier(self.head(x).mean((2, 3)))
        return logits


def fake_quantized(model: nn.Module, batches: list[Tensor], **steps: int) -> FakeQuantized:
    """Return `model` with fake quantization, its ranges from `batches`."""
    graph = canonical_graph(model, batches[0][:2], "test")
    return FakeQuantized(graph, Scheme(), calibrate(graph, Scheme(), batches).ranges, **steps)


def integer(model: nn.Module) -> nn.Module:
    """Return `model` in int8."""
    model.eval()
    noise = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return fake_quantized(model, [noise]).convert()
