"""AOTInductor packages that include the libraries of their custom operators."""

from __future__ import annotations

import json
import re
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mbcompress import ConvolutionCount, MbcompressError, Session
from mbcompress.errors import brief, first_line
from mbcompress.graph import quiet_export, registered_operators

from .program import count_convolutions as count_in_program
from .program import program_of

if TYPE_CHECKING:
    import numpy as np
    from torch import nn
    from torch.export import ExportedProgram

FOLDER = "mbcompress"
"""Folder in the package for FACTS and the libraries of custom operators."""

FACTS = "model.json"
"""File with the number of convolutions."""

INTEGER_CONVOLUTION = re.compile(r"\baoti_torch_cpu__qconv\w*\(")
"""Call of an int8 convolution in the generated code, with or without a fused addition."""


def save(model: nn.Module, input_shape: tuple[int, int, int], path: Path, *, freezing: bool) -> None:
    """Compile the model and write its package; needs a C++ compiler.

    Args:
        freezing: pack the weights for oneDNN, which supports int8 convolutions.

    Raises:
        MbcompressError: torch cannot export or compile the model.
    """
    program = program_of(model, input_shape)
    # no_grad: with gradients enabled, the compiler silently skips freezing
    with tempfile.TemporaryDirectory(dir=path.parent) as folder, quiet_export(), torch.no_grad():
        package = Path(folder) / "model.pt2"
        try:
            torch._inductor.aoti_compile_and_package(
                program, package_path=str(package), inductor_configs={"freezing": freezing}
            )
        except Exception as error:  # the compiler's exceptions have no common base class
            raise MbcompressError(
                f"aotinductor: the model cannot be compiled ({type(error).__name__}: {brief(first_line(error))}); "
                "AOTInductor needs a C++ compiler"
            ) from error
        with zipfile.ZipFile(package, "a") as archive:
            root = archive.namelist()[0].split("/")[0]
            code = "".join(archive.read(name).decode() for name in archive.namelist() if name.endswith(".wrapper.cpp"))
            for library in _libraries(program):
                archive.write(library, f"{root}/{FOLDER}/{library.name}")
            facts = ConvolutionCount(count_in_program(program), len(INTEGER_CONVOLUTION.findall(code)))._asdict()
            archive.writestr(f"{root}/{FOLDER}/{FACTS}", json.dumps(facts))
        package.replace(path)


def _libraries(program: ExportedProgram) -> list[Path]:
    """Libraries of the custom operators that the program calls."""
    namespaces = {str(node.target).partition(".")[0] for node in program.graph.nodes if node.op == "call_function"}
    libraries = [operators.library for name, operators in registered_operators().items() if name in namespaces]
    return [library for library in libraries if library is not None]


def count_convolutions(path: Path) -> ConvolutionCount:
    """Return the counts that `save` stored in the package."""
    with zipfile.ZipFile(path) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(f"/{FOLDER}/{FACTS}")]
        return ConvolutionCount(**json.loads(archive.read(name)))


class PackageSession(Session):
    """An open package, with its custom operators loaded."""

    def __init__(self, path: Path, threads: int) -> None:
        if not path.is_file():
            raise MbcompressError(f"{path}: no such file")
        torch.set_num_threads(threads)
        try:
            _load_libraries(path)
            with quiet_export():
                self._call: Any = torch._inductor.aoti_load_package(str(path))
        except Exception as error:  # the loader raises C++ errors
            raise MbcompressError(f"{path}: AOTInductor cannot open it: {first_line(error)}") from error

    def run(self, images: np.ndarray) -> np.ndarray:
        batch = torch.from_numpy(images).contiguous()
        with torch.inference_mode():
            logits: np.ndarray = self._call(batch).numpy()
        return logits


def _load_libraries(path: Path) -> None:
    """Unpack and load the libraries of custom operators; the files are not needed afterwards."""
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
        for name in archive.namelist():
            if Path(name).parent.name == FOLDER and name.endswith(".so"):
                library = Path(folder) / Path(name).name
                library.write_bytes(archive.read(name))
                torch.ops.load_library(library)  # type: ignore[no-untyped-call]
