"""Read arrays from an .npz file, with checks before anything is loaded.

The dtype and shape in an array's header must match its size in the archive, and the size is limited, so neither pickled
objects nor zip bombs are expanded.
"""

import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from mbcompress import MbcompressError
from mbcompress.errors import brief

MAX_BYTES = 8 * 2**30
"""Limit for the total memory of the arrays of one archive."""

MAX_RATIO, SMALL_BYTES = 200, 256 * 2**20
"""Largest compression ratio of arrays above SMALL_BYTES; images compress about 10 times, zeros 1,000 times."""

HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def array_names(path: Path) -> set[str]:
    """Return the names of the arrays in an .npz file.

    Raises:
        ValueError: it is not an .npz file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")}
    except Exception:  # zipfile raises various exceptions on a damaged archive
        raise ValueError(f"not an .npz file: {str(path)!r}") from None


def read_arrays(path: Path, names: Collection[str]) -> dict[str, NDArray[Any]]:
    """Load integer arrays by name.

    Raises:
        MbcompressError: the archive is damaged, or an array is missing, too large or not of an integer dtype.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_size(path, [archive.getinfo(f"{name}.npy") for name in names])
            return {name: _read_member(path, archive, name) for name in names}
    except KeyError as error:
        problem = str(error.args[0])
    except MbcompressError:
        raise
    except MemoryError as error:
        raise MbcompressError(f"data: the arrays of {str(path)!r} do not fit into memory: {error}") from None
    except Exception as error:  # zipfile and its decompressors raise various exceptions on damaged members
        problem = str(error) or type(error).__name__
    raise MbcompressError(f"data: {str(path)!r} is damaged: {brief(problem)}")


def _check_size(path: Path, members: list[zipfile.ZipInfo]) -> None:
    size = sum(member.file_size for member in members)
    if size > MAX_BYTES:
        raise MbcompressError(
            f"data: the arrays of {str(path)!r} would take {size / 2**30:.1f} GiB of memory, "
            f"more than the limit of {MAX_BYTES / 2**30:.0f} GiB"
        )
    packed = sum(member.compress_size for member in members)
    if size > SMALL_BYTES and size > MAX_RATIO * packed:
        raise MbcompressError(
            f"data: the arrays of {str(path)!r} unpack to {size / 2**20:.0f} MiB from {packed / 2**20:.1f} MiB, "
            "far more than images would; if this is correct, save them uncompressed"
        )


def _read_member(path: Path, archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(f"{name}.npy") as member:
        shape, dtype = _header(member)
        if dtype.kind not in "iu":
            held = "Python objects, which could execute code" if dtype.hasobject else f"{dtype} values"
            raise MbcompressError(f"data: {name!r} in {str(path)!r} must hold integers, not {held}")
        declared = member.tell() + int(np.prod(shape, dtype=object)) * dtype.itemsize
    if declared != archive.getinfo(f"{name}.npy").file_size:
        raise ValueError(f"the size of {name!r} is not what its header says")
    with archive.open(f"{name}.npy") as member:
        return np.asarray(npy.read_array(member, allow_pickle=False))


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    try:
        shape, _, dtype = HEADERS[npy.read_magic(member)](member)
    except Exception as error:  # NumPy raises various exceptions on a damaged header
        raise ValueError("the header of an array cannot be read") from error
    return shape, dtype
