"""The virtual environment of the LiteRT converter, created on first use in the user's cache.

The converter needs an older pydantic than mbcompress. Its environment falls back to the packages of the current one, so
both use the same torch.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import sysconfig
import venv
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from mbcompress import MbcompressError
from mbcompress.data import cache_folder

if TYPE_CHECKING:
    from mbcompress import Progress

REQUIREMENTS = Path(__file__).with_name("converter.txt")
COMPLETE = "complete"


def is_ready() -> bool:
    """Whether the environment exists."""
    return (folder() / COMPLETE).exists()


def folder() -> Path:
    """Return the environment's path, which depends on the requirements, Python and torch."""
    parts = (REQUIREMENTS.read_text(), sys.version, sysconfig.get_path("purelib"), version("torch"))
    return cache_folder() / "litert" / hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def interpreter(place: Path) -> Path:
    """Return the Python executable of the environment at `place`."""
    return place / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def make(progress: Progress) -> Path:
    """Create the environment if it does not exist, and return its Python executable.

    Raises:
        MbcompressError: the environment cannot be created; has pip's error.
    """
    place = folder()
    if is_ready():
        return interpreter(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(place.with_suffix(".lock")):
        if not is_ready():
            progress.say(f"litert: installing the converter into {place} (once, about 900 MB)")
            with progress.busy("installing the LiteRT converter"):
                _build(place)
    return interpreter(place)


def _build(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)  # an interrupted attempt
    try:
        venv.create(place)
        parent = sysconfig.get_path("purelib")
        packages = sysconfig.get_path("purelib", vars={"base": str(place), "platbase": str(place)})
        (Path(packages) / "mbcompress_parent.pth").write_text(f"{parent}\n")
        _install(place)
        (place / COMPLETE).touch()
    except OSError as error:
        raise MbcompressError(f"litert: cannot create the converter's environment: {error}") from error
    except subprocess.CalledProcessError as error:
        raise MbcompressError(f"litert: cannot create the converter's environment: {_reason(error)}") from error


def _install(place: Path) -> None:
    python = [str(interpreter(place)), "-m"]
    pip = [*python, "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(REQUIREMENTS)]
    for command in ([*python, "ensurepip"], pip):
        subprocess.run(command, check=True, capture_output=True, text=True)


def _reason(error: subprocess.CalledProcessError) -> str:
    """Pip's first error, which is the cause of the others."""
    lines = [line.strip() for line in (error.stderr or "").splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return next(iter(errors or lines[-1:]), f"exit code {error.returncode}")
