"""List image folders with one subfolder per class."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mbcompress import MbcompressError

LITTER = frozenset({"thumbs.db", "desktop.ini"})
"""Files of file managers to skip; hidden files such as `.DS_Store` are skipped too."""


@dataclass(frozen=True)
class ImageFile:
    """An image file; size and modification time detect changes since it was decoded."""

    path: str
    name: str
    """Class and file name, independent of the folder's location."""
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Listing:
    """The image files under one root, sorted by class and name.

    Attributes:
        labels: (N,) int64, indices into `classes`.
    """

    root: Path
    classes: tuple[str, ...]
    files: tuple[ImageFile, ...]
    labels: NDArray[np.int64]


def has_own_test(path: Path) -> bool:
    """Whether the folder has the subfolders `train` and `test`."""
    return all(os.path.isdir(path / part) for part in ("train", "test"))  # noqa: PTH112 (Path.is_dir may raise)


def list_classes(root: Path) -> Listing:
    """List the files `root/<class>/<file>`.

    Raises:
        MbcompressError: there are no class folders, or one is empty or contains a folder.
    """
    try:
        return _list_classes(root)
    except OSError as error:
        raise MbcompressError(f"data: cannot list {str(error.filename or root)!r}: {error.strerror}") from None


def check_same_classes(train: Listing, test: Listing) -> None:
    """Raise MbcompressError if a class is in only one of the two listings."""
    for here, there in ((train, test), (test, train)):
        if lacking := sorted(set(here.classes) - set(there.classes)):
            name = lacking[0]
            raise MbcompressError(f"data: class {name!r} is in {str(here.root)!r} but not in {str(there.root)!r}")


def _list_classes(root: Path) -> Listing:
    folders = [entry.name for entry in _visible(root) if entry.is_dir()]
    if not folders:
        raise MbcompressError(
            f"data: {str(root)!r} has no class folders; put the images of each class in a separate folder"
        )
    by_class = [tuple(_image_files(root / name)) for name in folders]
    labels = np.repeat(np.arange(len(folders)), [len(files) for files in by_class])
    return Listing(root, tuple(folders), tuple(file for files in by_class for file in files), labels)


def _image_files(folder: Path) -> Iterator[ImageFile]:
    empty = True
    for entry in _visible(folder):
        if entry.is_dir():
            raise MbcompressError(
                f"data: {entry.path!r} is a folder inside a class folder; images must be directly in the class "
                "folder, either in <path>/<class> or in both <path>/train/<class> and <path>/test/<class>"
            )
        if not entry.is_file():  # reading a pipe would block; a broken link would go unnoticed
            raise MbcompressError(f"data: {entry.path!r} is not a readable file")
        status = entry.stat()
        empty = False
        yield ImageFile(entry.path, f"{folder.name}/{entry.name}", status.st_size, status.st_mtime_ns)
    if empty:
        raise MbcompressError(f"data: class folder {str(folder)!r} has no images")


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        shown = [e for e in entries if not e.name.startswith(".") and e.name.lower() not in LITTER]
    return sorted(shown, key=lambda entry: entry.name)
