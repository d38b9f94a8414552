"""Reads weights without executing anything: safetensors, or PyTorch checkpoints in weights-only mode.

A checkpoint is data that its reader computes with, so what it claims is held against the size of the file: members of a
zip that unpack to far more, and tensors that show the same few bytes a million times over.
"""

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mbcompress.errors import MbcompressError, brief, first_line, shown

SHOWN = 3
LARGEST_RATIO = 32
"""How many times the bytes of its file a checkpoint may claim: some share tensors, none has a thousand copies."""

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
        f"{len(keys)} {what}: {', '.join(map(brief, keys[:SHOWN]))}{', …' if len(keys) > SHOWN else ''}"
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
        return _load_safetensors(path) if path.suffix == ".safetensors" else _load_checkpoint(path)
    except OSError as error:
        raise MbcompressError(f"{path}: cannot be read: {error.strerror or error}") from None


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except OSError:
        raise
    except Exception as error:  # beside SafetensorError, what PyTorch raises for shapes that it has no tensors for
        raise MbcompressError(f"{path}: is not a readable safetensors file: {brief(first_line(error))}") from None


def _load_checkpoint(path: Path) -> dict[str, Tensor]:
    _refuse_zip_bombs(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of formats and dtypes that may change; what is read is checked below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise MbcompressError(
            f"{path}: is not a checkpoint of tensors alone; loading it could execute code, so it was refused "
            "(save model.state_dict(), or use safetensors)"
        ) from None
    except OSError:
        raise
    except Exception as error:  # what its reader raises where a damaged pickle leads it astray says nothing to a user
        problem = brief(first_line(error)) if isinstance(error, RuntimeError | MemoryError) else "its pickle is damaged"
        raise MbcompressError(f"{path}: is not a readable PyTorch checkpoint: {problem}") from None
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise MbcompressError(f"{path}: holds no state dict (names with tensors), but {type(content).__name__}")
    state = {str(key).removeprefix("module."): value for key, value in content.items()}
    _check_tensors(path, state)
    return state


def _refuse_zip_bombs(path: Path) -> None:
    """Raise MbcompressError where the members of a zip unpack to far more than its size."""
    try:
        with zipfile.ZipFile(path) as archive:
            claimed = sum(member.file_size for member in archive.infolist())
    except OSError:
        raise
    except Exception:  # no zip, or one that PyTorch will refuse as well
        return
    _check_size(path, claimed, "unpacks to")


def _check_tensors(path: Path, state: Mapping[str, Tensor]) -> None:
    """Raise MbcompressError where tensors are not plain numbers in memory, or claim more of them than there are."""
    for name, tensor in state.items():
        # the class and the layout are looked at first: others do not answer every question
        dense = type(tensor) in (Tensor, nn.Parameter) and tensor.layout == torch.strided and not tensor.is_nested
        if not dense or tensor.is_quantized or tensor.is_complex() or tensor.device.type != "cpu":
            raise MbcompressError(f"{path}: {shown(name)} must be a plain dense tensor of real numbers")
    _check_size(path, sum(tensor.nbytes for tensor in state.values()), "its tensors claim")


def _check_size(path: Path, claimed: int, what: str) -> None:
    size = path.stat().st_size
    if claimed > LARGEST_RATIO * size:
        raise MbcompressError(f"{path}: is {size} bytes, but {what} {claimed}; save the state dict once more")


def _shape(tensor: Tensor) -> str:
    return "x".join(str(size) for size in tensor.shape) or "a scalar"
