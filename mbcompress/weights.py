"""Reads weights without executing anything: safetensors, or PyTorch checkpoints in weights-only mode."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mbcompress.errors import MbcompressError, first_line

SHOWN = 3
COUNTER = ".num_batches_tracked"  # BatchNorm's step counter, which older checkpoints lack


def load_weights(model: nn.Module, path: Path, expected: str) -> None:
    """Copy the weights at `path` into `model`, converted to its dtypes.

    Args:
        expected: what the model is, for the error message.

    Raises:
        MbcompressError: the file is not weights, or its keys or shapes are not the model's; says which differ.
    """
    state = read_weights(path)
    own = model.state_dict()
    check_fit(state, own, path, expected)
    model.load_state_dict({**own, **state})


def check_fit(state: Mapping[str, Tensor], own: Mapping[str, Tensor], path: Path, expected: str) -> None:
    """Raise MbcompressError where the weights that were read from `path` lack keys or have others than the model's."""
    missing = [key for key in own if key not in state and not key.endswith(COUNTER)]
    foreign = [key for key in state if key not in own]
    shapes = [
        f"{key} is {_shape(state[key])} in the file and {_shape(own[key])} in the model"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    problems = [
        f"{len(keys)} {what}: {', '.join(keys[:SHOWN])}{', …' if len(keys) > SHOWN else ''}"
        for what, keys in (("missing keys", missing), ("unknown keys", foreign), ("other shapes", shapes))
        if keys
    ]
    if problems:
        raise MbcompressError(f"{path}: does not fit {expected}: {'; '.join(problems)}")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name from a `.safetensors` file or a PyTorch checkpoint.

    A checkpoint may be a state dict or hold one under `state_dict` or `model`; a `module.` prefix is dropped.

    Raises:
        MbcompressError: the file is damaged, holds more than tensors, or is of another format.
    """
    try:
        content = load_file(path) if path.suffix == ".safetensors" else _load_checkpoint(path)
    except safetensors.SafetensorError as error:
        raise MbcompressError(f"{path}: is not a readable safetensors file: {error}") from None
    except OSError as error:
        raise MbcompressError(f"{path}: cannot be read: {error.strerror or error}") from None
    return content


def _load_checkpoint(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise MbcompressError(
            f"{path}: is not a checkpoint of tensors alone; loading it could execute code, so it was refused "
            "(save model.state_dict(), or use safetensors)"
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise MbcompressError(f"{path}: is not a readable PyTorch checkpoint: {first_line(error)}") from None
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise MbcompressError(f"{path}: holds no state dict (names with tensors), but {type(content).__name__}")
    return {str(key).removeprefix("module."): value for key, value in content.items()}


def _shape(tensor: Tensor) -> str:
    return "x".join(str(size) for size in tensor.shape) or "a scalar"
