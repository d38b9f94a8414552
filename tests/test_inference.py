"""`fuse_conv_bn` folds BatchNorm and removes in-place activations only where the network computes the same."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mbcompress.graph import fuse_conv_bn

EXAMPLE = torch.zeros(2, 3, 32, 32)


def kinds(model: nn.Module) -> set[type[nn.Module]]:
    return {type(module) for module in model.modules()}


@pytest.mark.parametrize("source", ["mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small"])
def test_the_fused_copy_computes_the_same(source: str, tiny_model: Callable[..., Any]) -> None:
    model = tiny_model(source)
    twin = fuse_conv_bn(model, EXAMPLE, inplace=False)
    assert not any(getattr(module, "inplace", False) for module in twin.modules())
    assert nn.BatchNorm2d not in kinds(twin)
    assert any(getattr(module, "inplace", False) for module in model.modules())
    assert nn.BatchNorm2d in kinds(model)
    images = torch.randn(EXAMPLE.shape)
    with torch.no_grad():
        torch.testing.assert_close(twin(images), model(images), rtol=1e-4, atol=1e-4)


def test_inplace_activations_may_stay(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("mobilenet_v2")
    twin = fuse_conv_bn(model, EXAMPLE)
    assert any(getattr(module, "inplace", False) for module in twin.modules())
    assert nn.BatchNorm2d not in kinds(twin)


class ReadsAgain(nn.Module):
    """Adds a tensor that an in-place activation has changed, as some residual networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 10, 3)
        self.act = nn.ReLU(inplace=True)

    def forward(self, images: Tensor) -> Tensor:
        features = self.body(images)
        return (self.act(features) + features).mean((2, 3))


class CallsByItself(nn.Module):
    """Calls the layers of a Sequential one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 10, 3), nn.BatchNorm2d(10))
        norm = self.body[1]
        assert isinstance(norm, nn.BatchNorm2d)
        nn.init.uniform_(norm.weight, 2, 3)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.body[0](images)
        return (self.body[1](features) + features).mean((2, 3))


class Plain(nn.Module):
    """Has nothing to fuse."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


@pytest.mark.parametrize("network", [ReadsAgain, CallsByItself, Plain])
def test_networks_that_cannot_be_fused_are_returned(network: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model = network().eval()
    assert fuse_conv_bn(model, EXAMPLE, inplace=False) is model


class Halved(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight / 2


def test_layers_with_hooks_or_parametrizations_are_not_folded() -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 10, 3), nn.BatchNorm2d(10), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert nn.BatchNorm2d not in kinds(fuse_conv_bn(layers.eval(), EXAMPLE))
    layers[0].register_forward_hook(lambda module, inputs, output: output + 1)
    assert fuse_conv_bn(layers, EXAMPLE) is layers
    layers[0]._forward_hooks.clear()
    parametrize.register_parametrization(layers[0], "weight", Halved())
    assert fuse_conv_bn(layers, EXAMPLE) is layers
