"""A pruned model as data: the channel counts of each layer, from which the shrunken network can be built again."""

from typing import Any

import torch
from torch import nn

LAYERS = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)


def describe(model: nn.Module) -> dict[str, dict[str, int]]:
    """Sizes of every convolution, linear layer and BatchNorm by module name."""
    return {name: _sizes(module) for name, module in model.named_modules() if isinstance(module, LAYERS)}


def _sizes(module: nn.Module) -> dict[str, int]:
    match module:
        case nn.Conv2d():
            return {"in_channels": module.in_channels, "out_channels": module.out_channels, "groups": module.groups}
        case nn.Linear():
            return {"in_features": module.in_features, "out_features": module.out_features}
        case nn.BatchNorm2d():
            return {"num_features": module.num_features}
    raise TypeError(type(module))


def resize(model: nn.Module, description: dict[str, dict[str, int]]) -> None:
    """Give the layers of `model` the described sizes, with weights to be loaded afterwards, in place.

    Raises:
        KeyError: a described layer is not in the model.
    """
    modules = dict(model.named_modules())
    for name, sizes in description.items():
        module: Any = modules[name]
        for attribute, size in sizes.items():
            setattr(module, attribute, size)
        for key, shape in _shapes(module).items():
            old = getattr(module, key)
            if old is not None:
                new = torch.zeros(shape, dtype=old.dtype, device=old.device)
                setattr(module, key, nn.Parameter(new) if isinstance(old, nn.Parameter) else new)


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    match module:
        case nn.Conv2d():
            weight = (module.out_channels, module.in_channels // module.groups, *module.kernel_size)
            return {"weight": weight, "bias": (module.out_channels,)}
        case nn.Linear():
            return {"weight": (module.out_features, module.in_features), "bias": (module.out_features,)}
        case nn.BatchNorm2d():
            return dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (module.num_features,))
    raise TypeError(type(module))
