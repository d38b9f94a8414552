"""int8 files of four tools from the same weights: accuracy, size, integer convolutions and speed.

`python benchmarks/int8.py recipes/v1_int8.yaml recipes/v2_int8.yaml` takes model and data from recipes, not the passes;
`--out benchmarks/int8.md` writes the table.
`--random mobilenet_v3_large:224` adds an untrained network, for speed alone; `--qat 3` also trains for so many epochs.
NNCF is not a dependency: `pip install nncf==3.4.0` into the same environment, or its rows are left out.
Each file is timed in a process of its own, all interleaved, on one thread.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mbcompress.data import Augmentation, Images, Normalization, Splits
from mbcompress.host import Catalogue, discover
from mbcompress.measurement.engine import Engine
from mbcompress.measurement.interleaving import time_interleaved
from mbcompress.measurement.statistics import hits, mcnemar, proportion
from mbcompress.recipe import read, resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from torch import nn

    from mbcompress import Runtime

CALIBRATION = 128
WARM_UP_MS, ROUND_MS = 300.0, 20.0
HEADER = (
    "| network | file | test top-1 | against fp32 | MB | int8 convolutions | ms | fp32 of the same engine / it | "
    "ONNX Runtime's own / it |\n|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Subject:
    """A network to quantize; `trained` says whether its accuracy means anything."""

    name: str
    model: nn.Module
    splits: Splits
    shape: tuple[int, int, int]
    trained: bool


@dataclass(frozen=True)
class File:
    """A file and the engine that executes it."""

    label: str
    path: Path
    runtime: Runtime


def from_recipe(path: Path, catalogue: Catalogue) -> Subject:
    """Model and data of a recipe."""
    plan = resolve(read(path), catalogue)
    assert plan.model is not None
    assert plan.data is not None
    shape = plan.model.input_shape
    width = getattr(plan.model, "width", 1.0)
    name = f"{plan.model.name} {width:g}, {shape[1]} px"
    return Subject(name, plan.model.load().eval(), plan.data.load(shape, plan.seed), shape, trained=True)


def untrained(spec: str, catalogue: Catalogue) -> Subject:
    """`SOURCE:PIXELS` at width 1 with random weights, BatchNorm's statistics those of noise."""
    import torch

    source, _, pixels = spec.partition(":")
    torch.manual_seed(0)
    built = catalogue.build_model({"source": source, "num_classes": 10, "input_size": int(pixels)})
    model, shape = built.load().train(), built.input_shape
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
    """The four tools, each of which writes a file from the same float model and calibration images."""

    def __init__(self, subject: Subject, catalogue: Catalogue, directory: Path, epochs: int) -> None:
        self.subject = subject
        self.catalogue = catalogue
        self.directory = directory
        self.epochs = epochs
        self.onnx = catalogue.runtimes.build("onnx", {}, catalogue)
        self.openvino = catalogue.runtimes.build("openvino", {}, catalogue)
        calibration = subject.splits.calibration.pixels[:CALIBRATION]
        self.images: NDArray[np.float32] = subject.splits.normalization.apply(calibration)

    def files(self) -> Iterator[File]:
        """Float files of both engines first."""
        fp32 = self._export("fp32", self.subject.model)
        yield File("fp32, ONNX Runtime", fp32, self.onnx)
        yield File("fp32, OpenVINO", fp32, self.openvino)
        ours = self._export("ptq", self._applied("ptq", {}))
        yield File("ours, ptq, ONNX Runtime", ours, self.onnx)
        yield File("ours, ptq, OpenVINO", ours, self.openvino)
        if self.epochs and self.subject.trained:
            trained = self._export("qat", self._applied("qat", {"epochs": self.epochs}))
            yield File("ours, qat, ONNX Runtime", trained, self.onnx)
        yield File("ONNX Runtime static", self._onnxruntime(fp32), self.onnx)
        yield File("neural-compressor, ONNX Runtime", self._neural_compressor(), self.onnx)
        if importlib.util.find_spec("nncf"):
            yield File("NNCF, OpenVINO", self._nncf(fp32), self.openvino)

    def _export(self, name: str, model: nn.Module) -> Path:
        path = self.directory / f"{name}.onnx"
        self.onnx.export(model, self.subject.shape, path)
        return path

    def _applied(self, name: str, options: dict[str, Any]) -> nn.Module:
        import copy

        import torch

        from mbcompress import Context

        model = self.subject.model
        frozen = copy.deepcopy(model).requires_grad_(False)
        data = self.subject.splits.development()
        context = Context(data, frozen, self.subject.shape, torch.device("cpu"), seed=0)
        return self.catalogue.passes.build(name, options, self.catalogue).apply(model, context)

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
        """As its documentation has it, but with folded weights, without which the file is as large as fp32."""
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
    """A converted graph has no train and eval, which an exporter wants."""
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


def rows(subject: Subject, catalogue: Catalogue, rounds: int, epochs: int) -> list[str]:
    """Table rows of one network."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        directory = Path(name)
        files = list(Tools(subject, catalogue, directory, epochs).files())
        test = subject.splits.test
        np.save(directory / "test.npy", test.pixels)
        engines = [stack.enter_context(Engine(each.runtime, each.path, subject.shape, 1)) for each in files]
        right = [
            hits(engine.predict(directory / "test.npy", subject.splits.normalization), test.labels, 1)
            for engine in engines
        ]
        for engine in engines:
            engine.time(WARM_UP_MS)
        times = [
            [float(np.median(calls)) for calls in each] for each in time_interleaved(engines, range(rounds), ROUND_MS)
        ]
        counts = [engine.convolutions() for engine in engines]
        own = next(index for index, file in enumerate(files) if file.label == "ONNX Runtime static")
        return [
            _row(subject, file, right[0], right[index], counts[index], times[index], times[_float(file)], times[own])
            for index, file in enumerate(files)
        ]


def _float(file: File) -> int:
    return 0 if file.runtime.name == "onnx" else 1


def _row(
    subject: Subject,
    file: File,
    baseline: NDArray[np.bool_],
    right: NDArray[np.bool_],
    count: Any,
    times: list[float],
    floating: list[float],
    own: list[float],
) -> str:
    accuracy = against = "-"
    if subject.trained:
        share, test = proportion(right), mcnemar(baseline, right)
        accuracy = f"{share['k']}/{share['n']} ({100 * share['low']:.1f}-{100 * share['high']:.1f} %)"
        against = f"{100 * (right.mean() - baseline.mean()):+.2f} (p {test['p_value']:.2f})"
    size = sum(part.stat().st_size for part in _parts(file.path)) / 1e6
    ratio: Callable[[list[float]], float] = lambda other: float(np.median(np.divide(other, times)))  # noqa: E731
    figures = (
        f"{size:.2f}",
        f"{count.int8}/{count.total}",
        f"{np.median(times):.3f}",
        f"{ratio(floating):.2f}",
        f"{ratio(own):.2f}",
    )
    return f"| {subject.name} | {file.label} | {accuracy} | {against} | {' | '.join(figures)} |"


def _parts(path: Path) -> list[Path]:
    return [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]


def main() -> None:
    """Print the table, or write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", type=Path, help="recipes whose model and data are taken")
    parser.add_argument(
        "--random", nargs="*", default=[], metavar="SOURCE:PIXELS", help="untrained networks, for speed"
    )
    parser.add_argument("--qat", type=int, default=0, metavar="EPOCHS", help="also train; 0 does not")
    parser.add_argument("--rounds", type=int, default=60, help="interleaved rounds of timing")
    parser.add_argument("--out", type=Path, help="file to write the table to")
    options = parser.parse_args()
    catalogue = discover()
    subjects = [from_recipe(path, catalogue) for path in options.recipes]
    subjects += [untrained(spec, catalogue) for spec in options.random]
    lines = [HEADER]
    for subject in subjects:
        lines += rows(subject, catalogue, options.rounds, options.qat)
        print("\n".join(lines[-12:]), flush=True)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
