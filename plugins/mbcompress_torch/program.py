"""Save, load and run programs of torch.export, with or without torch.compile."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import torch
import torch._inductor.config as inductor
import torch.ao.quantization.fx._decomposed  # registers the operators of int8 programs
from torch._dynamo.utils import counters

from mbcompress import MbcompressError, Session
from mbcompress.errors import first_line
from mbcompress.graph import export_program, prepare_for_export, quiet_export, registered_operators, to_channels_last

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from torch import nn
    from torch.export import ExportedProgram


def program_of(model: nn.Module, input_shape: tuple[int, int, int]) -> ExportedProgram:
    """Export the model: (N, C, H, W) float32 -> (N, K), N dynamic, weights in channels_last.

    Images must be contiguous: AOTInductor packages do not check the memory format, and silently return wrong logits for
    other formats.

    Raises:
        MbcompressError: torch.export cannot capture the model.
    """
    plain = to_channels_last(prepare_for_export(model)).requires_grad_(False)
    return export_program(plain, torch.zeros(2, *input_shape), "torch")


def save(model: nn.Module, input_shape: tuple[int, int, int], path: Path) -> None:
    """Write the model's program."""
    content = io.BytesIO()  # torch would store the file name in the file
    with quiet_export():
        torch.export.save(program_of(model, input_shape), content)
    path.write_bytes(content.getvalue())
    _converted.pop(path, None)


def load(path: Path) -> ExportedProgram:
    """Load a program. Only load files that you trust: torch unpickles parts of them, which can run code.

    Raises:
        MbcompressError: there is no such file, or it is not an exported program.
    """
    if not path.is_file():
        raise MbcompressError(f"{path}: no such file")
    with quiet_export():
        try:
            return torch.export.load(str(path))
        except Exception as error:  # damaged files raise various exceptions
            raise MbcompressError(f"{path}: torch cannot open it: {first_line(error)}") from error


def count_convolutions(program: ExportedProgram) -> int:
    """Count the convolutions of a program, including custom operators of plugins."""
    ours = {operator for operators in registered_operators().values() for operator in operators.operators}
    targets = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    return sum(target in ours or target.startswith("aten.conv2d.") for target in targets)


def integer_convolutions(path: Path) -> int:
    """Count the convolutions that run in int8 after torch.compile with freezing; compile if not yet done."""
    if path not in _converted:
        program = load(path)
        (images,) = program.graph_signature.user_inputs
        shape = next(node.meta["val"].shape for node in program.graph.nodes if node.name == images)
        session = ProgramSession(path, torch.get_num_threads(), compiled=True, freezing=True)
        session.run(torch.zeros(1, *map(int, shape[1:])).numpy())
    return _converted[path]


_converted: dict[Path, int] = {}
"""Path of a program -> number of its int8 convolutions after compilation with freezing."""


def _integer_matches() -> int:
    """Number of convolutions that this process has compiled to int8 so far."""
    return counters["inductor"]["qconv_weight_prepack_matcher_count"]


class ProgramSession(Session):
    """An open program; if compiled, first for one batch size, then for a dynamic one."""

    def __init__(self, path: Path, threads: int, *, compiled: bool, freezing: bool) -> None:
        torch.set_num_threads(threads)
        self._path, self._frozen = path, compiled and freezing
        module: nn.Module = load(path).module(check_guards=False)
        self._call: Callable[[torch.Tensor], torch.Tensor] = module
        self._seen: set[int] = set()
        if compiled:
            with quiet_export():
                self._call = torch.compile(module)

    def run(self, images: np.ndarray) -> np.ndarray:
        batch = torch.from_numpy(images).contiguous()
        if len(batch) in self._seen:
            return self._run(batch)
        before = _integer_matches()
        with quiet_export(), inductor.patch(freezing=self._frozen):  # a new batch size may recompile
            logits = self._run(batch)
        if self._frozen and not self._seen:
            _converted[self._path] = _integer_matches() - before
        self._seen.add(len(batch))
        return logits

    def _run(self, images: torch.Tensor) -> np.ndarray:
        with torch.inference_mode():
            logits: np.ndarray = self._call(images).numpy()
        return logits
