"""Read weights without executing code: safetensors, or PyTorch checkpoints with `weights_only=True`.

The sizes that a checkpoint declares are checked against its file size, because zip members can unpack to far more and
strided tensors can repeat a few bytes a million times.
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
"""Maximum declared bytes per byte of the file; more than 1 because tensors can share storage."""

COUNTER = ".num_batches_tracked"
"""BatchNorm's step counter, which older checkpoints lack."""


def load_weights(model: nn.Module, path: Path, expected: str) -> None:
    """Copy the weights at `path` into `model`, converted to its dtypes.

    Args:
        expected: description of the model for error messages.

    Raises:
        MbcompressError: the file contains no weights, or its keys or shapes differ from the model's.
    """
    state = read_weights(path)
    own = model.state_dict()
    check_fit(state, own, path, expected)
    model.load_state_dict({**own, **state})


def check_fit(state: Mapping[str, Tensor], own: Mapping[str, Tensor], path: Path, expected: str) -> None:
    """Raise MbcompressError if the keys or shapes of the weights from `path` differ from the model's."""
    missing = [key for key in own if key not in state and not key.endswith(COUNTER)]
    unknown = [key for key in state if key not in own]
    shapes = [
        f"{key} is {_shape(state[key])} in the file and {_shape(own[key])} in the model"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    problems = [
        f"{len(keys)} {kind}: {', '.join(map(brief, keys[:SHOWN]))}{', …' if len(keys) > SHOWN else ''}"
        for kind, keys in (("missing keys", missing), ("unknown keys", unknown), ("other shapes", shapes))
        if keys
    ]
    if problems:
        raise MbcompressError(f"{path}: does not fit {expected}: {'; '.join(problems)}")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a `.safetensors` file or a PyTorch checkpoint by name.

    A checkpoint is a state dict, or contains one under `state_dict` or `model`; a `module.` prefix is removed.

    Raises:
        MbcompressError: the file is damaged, contains other objects than tensors, or has another format.
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
    except Exception as error:  # SafetensorError, or PyTorch's errors for impossible shapes
        raise MbcompressError(f"{path}: is not a readable safetensors file: {brief(first_line(error))}") from None


def _load_checkpoint(path: Path) -> dict[str, Tensor]:
    _refuse_zip_bombs(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about deprecated formats and dtypes; all tensors are checked below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise MbcompressError(
            f"{path}: is not a checkpoint of tensors only; loading it could execute code, so it was refused "
            "(save model.state_dict(), or use safetensors)"
        ) from None
    except OSError:
        raise
    except Exception as error:  # damaged pickles raise many unhelpful errors
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
    """Raise MbcompressError if a zip file unpacks to far more than its size."""
    try:
        with zipfile.ZipFile(path) as archive:
            declared = sum(member.file_size for member in archive.infolist())
    except OSError:
        raise
    except Exception:  # not a zip file, or one that torch.load rejects too
        return
    _check_size(path, declared, "unpacks to")


def _check_tensors(path: Path, state: Mapping[str, Tensor]) -> None:
    """Raise MbcompressError if a tensor is not dense and real, or if tensors declare far more bytes than the file."""
    for name, tensor in state.items():
        # class and layout first: other tensors lack some attributes
        dense = type(tensor) in (Tensor, nn.Parameter) and tensor.layout == torch.strided and not tensor.is_nested
        if not dense or tensor.is_quantized or tensor.is_complex() or tensor.device.type != "cpu":
            raise MbcompressError(f"{path}: {shown(name)} must be a plain dense tensor of real numbers")
    _check_size(path, sum(tensor.nbytes for tensor in state.values()), "its tensors declare")


def _check_size(path: Path, declared: int, what: str) -> None:
    size = path.stat().st_size
    if declared > LARGEST_RATIO * size:
        raise MbcompressError(f"{path}: is {size} bytes, but {what} {declared}; save the state dict again")


def _shape(tensor: Tensor) -> str:
    return "x".join(str(size) for size in tensor.shape) or "a scalar"
