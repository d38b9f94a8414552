"""Quantize a model with four tools and measure their files together; used by other benchmarks.

OpenVINO is an extra, `pip install 'mbcompress[openvino]'`. NNCF is not a dependency: without
`pip install nncf==3.4.0` in the same environment, its files are left out.
"""

from __future__ import annotations

import importlib.util
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mbcompress.data.splits import Augmentation, Images, Normalization, Splits
from mbcompress.measure.interleaving import Times, open_engines, time_interleaved
from mbcompress.measure.statistics import hits
from mbcompress.recipe import read, resolve

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import nn

    from mbcompress import ConvolutionCount, Runtime
    from mbcompress.registry.discovery import Registry

CALIBRATION = 128


@dataclass(frozen=True)
class Subject:
    """A model to quantize; the accuracy of an untrained one is meaningless."""

    name: str
    model: nn.Module
    splits: Splits
    shape: tuple[int, int, int]
    trained: bool


@dataclass(frozen=True)
class File:
    """A file and the engine that runs it."""

    label: str
    path: Path
    runtime: Runtime

    @property
    def size(self) -> int:
        """Bytes, including the separate weights file of OpenVINO."""
        beside = self.path.with_suffix(".bin")
        return self.path.stat().st_size + (beside.stat().st_size if self.path.suffix == ".xml" else 0)


@dataclass(frozen=True)
class Measured:
    """Predictions of a file on the test images, and its latency on one thread.

    Attributes:
        correct: (N,) bool.
        times: of interleaved rounds with all files.
        convolutions: all, and those in int8.
    """

    correct: NDArray[np.bool_]
    times: Times
    convolutions: ConvolutionCount


def measure(files: Sequence[File], data: Splits, rounds: int, round_ms: float) -> list[Measured]:
    """Measure all files together, each in its own process."""
    shape = data.test.pixels.shape[1:]
    with (
        tempfile.TemporaryDirectory() as folder,
        open_engines([(file.runtime, file.path) for file in files], shape, threads=1) as engines,
    ):
        images = Path(folder) / "test.npy"
        np.save(images, data.test.pixels, allow_pickle=False)
        times = time_interleaved(engines, range(rounds), round_ms)
        return [
            Measured(hits(engine.predict(images, data.normalization), data.test.labels, 1), each, engine.convolutions())
            for engine, each in zip(engines, times, strict=True)
        ]


def from_recipe(path: Path, registry: Registry) -> Subject:
    """The model and data of a recipe."""
    plan = resolve(read(path), registry)
    assert plan.model is not None
    assert plan.data is not None
    shape = plan.model.input_shape
    width = getattr(plan.model, "width", 1.0)
    name = f"{plan.model.name} {width:g}, {shape[1]} px"
    return Subject(name, plan.model.load().eval(), plan.data.load(shape, plan.data.split_seed), shape, trained=True)


def untrained(spec: str, registry: Registry) -> Subject:
    """`SOURCE:PIXELS` at width 1 with 1000 classes and random weights; BatchNorm statistics are those of noise."""
    import torch

    source, _, pixels = spec.partition(":")
    torch.manual_seed(0)
    built = registry.build_model({"source": source, "num_classes": 1000, "input_size": int(pixels)})
    model, shape = built.load().train(), built.input_shape
    for layer in model.modules():
        if isinstance(layer, torch.nn.Linear):  # converters may drop a bias of zeros
            torch.nn.init.uniform_(layer.bias, -0.1, 0.1)
    noise = np.random.default_rng(0).integers(0, 256, (64, *shape), np.uint8)
    images = Images(noise, (np.arange(len(noise)) % 10).astype(np.int64))
    normalization = Normalization((0.5,) * 3, (0.25,) * 3)
    splits = Splits.divide(
        images,
        0.25,
        calibration=16,
        validation=0.25,
        seed=0,
        classes=tuple("0123456789"),
        normalization=normalization,
        augmentation=Augmentation(),
    )
    with torch.no_grad():
        model(torch.from_numpy(normalization.apply(noise[:32])))
    return Subject(f"{source} 1, {pixels} px", model.eval(), splits, shape, trained=False)


class Tools:
    """The four tools; each writes an int8 file from the same float model and calibration images."""

    def __init__(self, subject: Subject, registry: Registry, directory: Path) -> None:
        self.subject = subject
        self.registry = registry
        self.directory = directory
        self.onnx = registry.runtimes.build("onnx", {}, registry)
        self.openvino = registry.runtimes.build("openvino", {}, registry)
        calibration = subject.splits.calibration.pixels[:CALIBRATION]
        self.images: NDArray[np.float32] = subject.splits.normalization.apply(calibration)

    def fp32(self) -> Path:
        """The float model."""
        return self._export("fp32", self.subject.model)

    def ours(self) -> Path:
        """The file of the pass `ptq`."""
        import copy

        import torch

        from mbcompress import Context

        model = self.subject.model
        frozen = copy.deepcopy(model).requires_grad_(False)
        data = self.subject.splits.development()
        context = Context(data, frozen, self.subject.shape, torch.device("cpu"), seed=0)
        return self._export("ptq", self.registry.passes.build("ptq", {}, self.registry).apply(model, context))

    def peers(self, fp32: Path) -> Iterator[File]:
        """The files of the other tools, each in its own engine."""
        yield File("ONNX Runtime static", self._onnxruntime(fp32), self.onnx)
        yield File("neural-compressor, ONNX Runtime", self._neural_compressor(), self.onnx)
        if importlib.util.find_spec("nncf"):
            yield File("NNCF, OpenVINO", self._nncf(fp32), self.openvino)

    def _export(self, name: str, model: nn.Module) -> Path:
        path = self.directory / f"{name}.onnx"
        self.onnx.export(model, self.subject.shape, path)
        return path

    def _onnxruntime(self, fp32: Path) -> Path:
        from onnxruntime.quantization import QuantFormat, QuantType, quant_pre_process, quantize_static

        prepared, path = self.directory / "prepared.onnx", self.directory / "ort.onnx"
        quant_pre_process(str(fp32), str(prepared))
        quantize_static(
            str(prepared),
            str(path),
            _Reader(self.images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return path

    def _neural_compressor(self) -> Path:
        """neural-compressor as documented, but with folded weights; otherwise the file is as large as fp32."""
        import torch
        from neural_compressor.torch.export import export
        from neural_compressor.torch.quantization import StaticQuantConfig, prepare
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

        example = torch.zeros(2, *self.subject.shape)
        graph = export(self.subject.model, (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
        prepared = prepare(graph, StaticQuantConfig())
        with torch.no_grad():
            for part in torch.split(torch.from_numpy(self.images), 64):
                prepared(part)
        return self._export("neural_compressor", _Module(convert_pt2e(prepared, fold_quantize=True)))

    def _nncf(self, fp32: Path) -> Path:
        import nncf
        import openvino

        model = openvino.Core().read_model(str(fp32))
        samples = [image[None] for image in self.images]
        path = self.directory / "nncf.xml"
        openvino.save_model(nncf.quantize(model, nncf.Dataset(samples), subset_size=len(samples)), path)
        return path


def _Module(graph: nn.Module) -> nn.Module:  # noqa: N802
    """Add the methods train and eval, which the exporter calls, to a converted graph."""
    from torch import nn

    class Graph(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.graph_module = graph

        def train(self, mode: bool = True) -> Graph:
            return self

        def forward(self, images: Any) -> Any:
            return self.graph_module(images)

    return Graph()


class _Reader:
    """ONNX Runtime's calibration reader."""

    def __init__(self, images: NDArray[np.float32]) -> None:
        self._batches = iter(np.array_split(images, max(1, len(images) // 16)))

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"image": batch}
