"""Describe files of tensors: names, shapes, dtypes, bytes, and the number of zeros."""

from __future__ import annotations

import re
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import safetensors

from mbcompress.errors import MbcompressError, brief, first_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from torch import Tensor

CHECKPOINTS = (".pt", ".pth", ".ckpt", ".bin")
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
INTEGERS = {f"{sign}{n}": f"{word}{n}" for sign, word in (("I", "int"), ("U", "uint")) for n in (8, 16, 32, 64)}
DTYPES = FLOATS | INTEGERS | {"BOOL": "bool"}
BITS = re.compile(r"\d+")  # in the name of a dtype; BOOL has none and takes a byte


class Entry(NamedTuple):
    """One tensor; `zeros` is None if NumPy cannot read its values."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    zeros: int | None


def describe_safetensors(path: Path) -> dict[str, Any]:
    """Describe the tensors of a .safetensors file.

    Raises:
        MbcompressError: the header is damaged or does not match the file size.
    """
    try:
        with safetensors.safe_open(path, framework="np") as file:
            entries = sorted(_entries(file))
    except OSError as error:
        raise MbcompressError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # SafetensorError, or NumPy's errors for impossible shapes
        raise MbcompressError(f"{path}: is not a readable safetensors file: {brief(first_line(error))}") from None
    return {"kind": "safetensors", "path": str(path), "bytes": path.stat().st_size, **summarize(entries)}


def _entries(file: Any) -> Iterator[Entry]:
    for name in file.keys():  # noqa: SIM118  # not a mapping
        view = file.get_slice(name)
        kind, shape = view.get_dtype(), tuple(view.get_shape())
        zeros = None
        if kind in DTYPES and kind != "BF16":  # NumPy has no bfloat16 and no 8-bit floats
            zeros = prod(shape) - int(np.count_nonzero(file.get_tensor(name)))
        bits = BITS.search(kind)
        size = prod(shape) * (int(bits[0]) if bits else 8) // 8
        yield Entry(name, DTYPES.get(kind, kind), shape, size, zeros)


def describe_checkpoint(path: Path) -> dict[str, Any]:
    """Describe the tensors of a PyTorch checkpoint, loaded with `weights_only=True`.

    Raises:
        MbcompressError: the file is damaged or contains other objects than tensors.
    """
    from mbcompress.contract.weights import read_weights

    entries = [
        Entry(
            name,
            str(tensor.dtype).removeprefix("torch."),
            tuple(tensor.shape),
            tensor.nbytes,
            _zeros(tensor),
        )
        for name, tensor in read_weights(path).items()
    ]
    return {"kind": "checkpoint", "path": str(path), "bytes": path.stat().st_size, **summarize(entries)}


def _zeros(tensor: Tensor) -> int | None:
    try:
        return tensor.numel() - int(tensor.count_nonzero())
    except RuntimeError:  # not implemented for every dtype
        return None


def summarize(entries: Iterable[Entry]) -> dict[str, Any]:
    """Return totals by dtype, the sparsity of weights (tensors with at least two dimensions), and all tensors."""
    entries = list(entries)
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.dtype, []).append(entry)
    weights = [entry for entry in entries if len(entry.shape) > 1 and entry.zeros is not None]
    elements = sum(prod(entry.shape) for entry in weights)
    learned = [entry for entry in entries if not entry.name.endswith(STATISTICS)]
    return {
        "parameters": sum(prod(entry.shape) for entry in learned),
        "sparsity": sum(entry.zeros or 0 for entry in weights) / elements if elements else 0.0,
        "dtypes": [
            {
                "dtype": dtype,
                "tensors": len(group),
                "elements": sum(prod(entry.shape) for entry in group),
                "bytes": sum(entry.bytes for entry in group),
            }
            for dtype, group in sorted(groups.items())
        ],
        "tensors": [{**entry._asdict(), "shape": list(entry.shape)} for entry in entries],
    }
