"""The layer sizes of a pruned model, from which it can be rebuilt."""

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from mbcompress.errors import MbcompressError, brief, shown, unknown

LAYERS = (nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.GroupNorm, nn.PReLU)
Sizes = Mapping[str, Mapping[str, int]]


def layer_sizes(model: nn.Module) -> dict[str, dict[str, int]]:
    """Return the sizes of all layers with channels, by module name."""
    return {name: _sizes(module) for name, module in model.named_modules() if isinstance(module, LAYERS)}


def identities(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the `nn.Identity` modules."""
    return tuple(name for name, module in model.named_modules() if type(module) is nn.Identity)


def set_identities(model: nn.Module, names: Iterable[str]) -> None:
    """Replace the named modules of `model` with `nn.Identity`, in place.

    Raises:
        MbcompressError: the model has no such module.
    """
    modules = dict(model.named_modules())
    for name in names:
        if not name or name not in modules:
            raise MbcompressError(unknown("module", name, list(modules)[1:4]))
        if type(modules[name]) is not nn.Identity:
            model.set_submodule(name, nn.Identity())


def _sizes(module: nn.Module) -> dict[str, int]:
    match module:
        case nn.Conv2d():
            return {"in_channels": module.in_channels, "out_channels": module.out_channels, "groups": module.groups}
        case nn.Linear():
            return {"in_features": module.in_features, "out_features": module.out_features}
        case nn.BatchNorm2d():
            return {"num_features": module.num_features}
        case nn.GroupNorm():
            return {"num_channels": module.num_channels, "num_groups": module.num_groups}
        case nn.PReLU():
            return {"num_parameters": module.num_parameters}
    raise TypeError(type(module))


def resize_layers(model: nn.Module, sizes: Sizes) -> None:
    """Resize the layers of `model`, in place.

    Resized tensors move to the meta device, so that even huge declared sizes allocate no memory; load the weights
    afterwards.

    Raises:
        MbcompressError: the model has no such layer, or it has another type.
    """
    modules = {name: module for name, module in model.named_modules() if isinstance(module, LAYERS)}
    for name, layer in sizes.items():
        if name not in modules:
            raise MbcompressError(unknown("layer", name, list(modules)[:3]))
        module = modules[name]
        if set(layer) != set(_sizes(module)):
            raise MbcompressError(
                f"layer {shown(name)} is a {type(module).__name__}, but has {brief(', '.join(layer))}"
            )
        for attribute, size in layer.items():
            setattr(module, attribute, size)
        for key, shape in _shapes(module).items():
            old = getattr(module, key)
            if old is not None and old.shape != shape:
                new = torch.empty(shape, dtype=old.dtype, device="meta")
                parameter = isinstance(old, nn.Parameter)
                setattr(module, key, nn.Parameter(new, old.requires_grad) if parameter else new)


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    match module:
        case nn.Conv2d():
            weight = (module.out_channels, module.in_channels // module.groups, *module.kernel_size)
            return {"weight": weight, "bias": (module.out_channels,)}
        case nn.Linear():
            return {"weight": (module.out_features, module.in_features), "bias": (module.out_features,)}
        case nn.BatchNorm2d():
            return dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (module.num_features,))
        case nn.GroupNorm():
            return dict.fromkeys(("weight", "bias"), (module.num_channels,))
        case nn.PReLU():
            return {"weight": (module.num_parameters,)}
    raise TypeError(type(module))
