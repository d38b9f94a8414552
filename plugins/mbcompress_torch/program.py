"""Programs of torch.export: written, read back, executed by torch with or without compilation."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import torch
import torch._inductor.config as inductor
from torch._dynamo.utils import counters

from mbcompress import MbcompressError, Session
from mbcompress.errors import first_line
from mbcompress.files import write_atomically
from mbcompress.graph.export import program, silenced
from mbcompress.graph.layout import prepare_for_export, to_channels_last
from mbcompress.registry.discovery import discover

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from torch import nn
    from torch.export import ExportedProgram


def program_of(model: nn.Module, input_shape: tuple[int, int, int]) -> ExportedProgram:
    """The model as a program: (N, C, H, W) float32 -> (N, K), N free, weights in channels_last.

    Images are contiguous, as everybody has them: a package of AOTInductor takes the memory of others for that, and
    answers wrongly without a word.

    Raises:
        MbcompressError: torch.export cannot capture it.
    """
    plain = to_channels_last(prepare_for_export(model)).requires_grad_(False)
    return program(plain, torch.zeros(2, *input_shape), "torch")


def save(model: nn.Module, input_shape: tuple[int, int, int], path: Path) -> None:
    """Write the model's program."""
    written = io.BytesIO()
    with silenced():
        torch.export.save(program_of(model, input_shape), written)
    write_atomically(path, written.getvalue())
    _converted.pop(path, None)


def load(path: Path) -> ExportedProgram:
    """A program that mbcompress has written: torch unpickles parts of it, so a stranger's may run code.

    Raises:
        MbcompressError: there is no such file, or it is no program.
    """
    if not path.is_file():
        raise MbcompressError(f"{path}: no such file")
    register_operators()
    with silenced():
        try:
            return torch.export.load(str(path))
        except Exception as error:  # its reader raises whatever it happens to meet
            raise MbcompressError(f"{path}: torch cannot open it: {first_line(error)}") from error


def register_operators() -> None:
    """What plugins offer and what int8 networks need, known to torch, so that programs can name it."""
    import torch.ao.quantization.fx._decomposed  # noqa: F401  # registers torch.ops.quantized_decomposed

    for _, offered in discover().operators.values():
        offered.register()


def count_convolutions(program: ExportedProgram) -> int:
    """Convolutions of a program, those that operators of plugins compute among them."""
    ours = {operator for _, offered in discover().operators.values() for operator in offered.operators}
    targets = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    return sum(target in ours or target.startswith("aten.conv2d.") for target in targets)


def integer_convolutions(path: Path) -> int:
    """Convolutions that torch.compile turns into integer ones with frozen weights; compiles unless this process has."""
    if path not in _converted:
        program = load(path)
        (images,) = program.graph_signature.user_inputs
        shape = next(node.meta["val"].shape for node in program.graph.nodes if node.name == images)
        session = ProgramSession(path, torch.get_num_threads(), compiled=True, freezing=True)
        session.run(torch.zeros(1, *map(int, shape[1:])).numpy())
    return _converted[path]


_converted: dict[Path, int] = {}
"""By the path of a program: convolutions that its compilation with frozen weights made integer."""


def _integer_matches() -> int:
    """Convolutions that this process has compiled to integer ones so far."""
    return counters["inductor"]["qconv_weight_prepack_matcher_count"]


class ProgramSession(Session):
    """One program, open; compiled for the batch size that is asked for first, then for any."""

    def __init__(self, path: Path, threads: int, *, compiled: bool, freezing: bool) -> None:
        torch.set_num_threads(threads)
        self._path, self._frozen = path, compiled and freezing
        module: nn.Module = load(path).module(check_guards=False)
        self._call: Callable[[torch.Tensor], torch.Tensor] = module
        self._seen: set[int] = set()
        if compiled:
            with silenced():
                self._call = torch.compile(module)

    def run(self, images: np.ndarray) -> np.ndarray:
        given = torch.from_numpy(images).contiguous()
        if len(given) in self._seen:
            return self._run(given)
        before = _integer_matches()
        with silenced(), inductor.patch(freezing=self._frozen):  # a new batch size may be compiled
            logits = self._run(given)
        if self._frozen and not self._seen:
            _converted[self._path] = _integer_matches() - before
        self._seen.add(len(given))
        return logits

    def _run(self, images: torch.Tensor) -> np.ndarray:
        with torch.inference_mode():
            logits: np.ndarray = self._call(images).numpy()
        return logits
