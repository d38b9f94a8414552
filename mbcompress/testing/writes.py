"""Record the files that code writes outside the temporary directory."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
PATHS = {"os.mkdir": 1, "os.remove": 1, "os.rmdir": 1, "os.truncate": 1, "os.rename": 2, "os.link": 2, "os.symlink": 2,
         "sqlite3.connect": 1}  # fmt: skip
"""Audit events that change files, and how many of their arguments are paths."""

DEVICES = ("/dev/", "/proc/")
HOMES = ("HOME", "USERPROFILE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")

# Python cannot remove an audit hook, so the process has one; it adds to the last of these sets.
_recorders: list[set[str]] = []
_installed: list[bool] = []


@contextmanager
def watched() -> Iterator[set[str]]:
    """Run the block with its own working directory, home and temporary directory.

    Afterwards the set holds the paths outside the temporary directory that were written, created, moved or deleted: by
    Python anywhere, by compiled code in the working directory and the home.
    """
    if not _installed:
        sys.addaudithook(_notice)
        _installed.append(True)
    touched: set[str] = set()
    # resolved, because the temporary directory is a link on some systems
    with tempfile.TemporaryDirectory(prefix="mbcompress-check-", ignore_cleanup_errors=True) as name:
        root = Path(name).resolve()
        work, home, temporary = (root / part for part in ("work", "home", "tmp"))
        for directory in (work, home, temporary):
            directory.mkdir()
        with _moved(work, home, temporary):
            _recorders.append(touched)
            try:
                yield touched
            finally:
                _recorders.pop()
        created = {str(path) for place in (work, home) for path in place.rglob("*")}
        kept = {path for path in touched | created if not Path(path).resolve().is_relative_to(temporary)}
    touched.clear()
    touched.update(kept)


@contextmanager
def _moved(work: Path, home: Path, temporary: Path) -> Iterator[None]:
    before, environment = Path.cwd(), dict(os.environ)
    bytecode, temporary_before = sys.dont_write_bytecode, tempfile.tempdir
    os.environ.update(dict.fromkeys(HOMES, str(home)), TMPDIR=str(temporary))
    # caches of matplotlib and torch are allowed
    os.environ.update(MPLCONFIGDIR=str(temporary), TORCHINDUCTOR_CACHE_DIR=str(temporary))
    os.chdir(work)
    sys.dont_write_bytecode, tempfile.tempdir = True, str(temporary)  # late imports must not write bytecode
    try:
        yield
    finally:
        os.chdir(before)
        os.environ.clear()
        os.environ.update(environment)
        sys.dont_write_bytecode, tempfile.tempdir = bytecode, temporary_before


def _notice(event: str, arguments: tuple[Any, ...]) -> None:
    if not _recorders:
        return
    if event == "open":
        path, mode, flags = arguments
        paths = [path] if _writes(mode, flags) else []
    else:
        paths = list(arguments[: PATHS.get(event, 0)])
    for path in paths:
        if isinstance(path, str | bytes | os.PathLike):
            absolute = str(Path(os.fsdecode(path)).absolute())
            if not absolute.startswith(DEVICES) and os.fsdecode(path) != ":memory:":
                _recorders[-1].add(absolute)


def _writes(mode: object, flags: object) -> bool:
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return isinstance(flags, int) and bool(flags & WRITING)
