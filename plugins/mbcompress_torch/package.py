"""AOTInductor packages that carry the libraries of the operators they call."""

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
from mbcompress.graph.export import silenced
from mbcompress.registry.discovery import discover

from .program import count_convolutions as count_in_program
from .program import program_of

if TYPE_CHECKING:
    import numpy as np
    from torch import nn
    from torch.export import ExportedProgram

FOLDER = "mbcompress"
"""In the package: libraries of operators, and what is known of the model."""

FACTS = "model.json"

INTEGER_CONVOLUTION = re.compile(r"\baoti_torch_cpu__qconv\w*\(")
"""What compiled code calls for one, alone or with the addition behind it."""


def save(model: nn.Module, input_shape: tuple[int, int, int], path: Path, *, freezing: bool) -> None:
    """Compile the model and write its package; needs a C++ compiler.

    Args:
        freezing: pack the weights for oneDNN, which has integer convolutions, while compiling.

    Raises:
        MbcompressError: torch cannot export or compile it.
    """
    program = program_of(model, input_shape)
    # with gradients the compiler would not freeze, and would not say so
    with tempfile.TemporaryDirectory(dir=path.parent) as folder, silenced(), torch.no_grad():
        package = Path(folder) / "model.pt2"
        try:
            torch._inductor.aoti_compile_and_package(
                program, package_path=str(package), inductor_configs={"freezing": freezing}
            )
        except Exception as error:  # the compiler's own classes share no base but Exception
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
    """Of the operators that the program calls."""
    namespaces = {str(node.target).partition(".")[0] for node in program.graph.nodes if node.op == "call_function"}
    found = [offered.library for name, (_, offered) in discover().operators.items() if name in namespaces]
    return [library for library in found if library is not None]


def count_convolutions(path: Path) -> ConvolutionCount:
    """As `save` counted them in the code that was compiled."""
    with zipfile.ZipFile(path) as archive:
        (name,) = [each for each in archive.namelist() if each.endswith(f"/{FOLDER}/{FACTS}")]
        return ConvolutionCount(**json.loads(archive.read(name)))


class PackageSession(Session):
    """One package, open, with the operators that it carries."""

    def __init__(self, path: Path, threads: int) -> None:
        if not path.is_file():
            raise MbcompressError(f"{path}: no such file")
        torch.set_num_threads(threads)
        try:
            _load_libraries(path)
            with silenced():
                self._call: Any = torch._inductor.aoti_load_package(str(path))
        except Exception as error:  # the loader's errors are of C++
            raise MbcompressError(f"{path}: AOTInductor cannot open it: {first_line(error)}") from error

    def run(self, images: np.ndarray) -> np.ndarray:
        given = torch.from_numpy(images).contiguous()
        with torch.inference_mode():
            logits: np.ndarray = self._call(given).numpy()
        return logits


def _load_libraries(path: Path) -> None:
    """Unpack and load the operators' libraries; once loaded, their files are not needed."""
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
        for name in archive.namelist():
            if Path(name).parent.name == FOLDER and name.endswith(".so"):
                library = Path(folder) / Path(name).name
                library.write_bytes(archive.read(name))
                torch.ops.load_library(library)  # type: ignore[no-untyped-call]
