"""Accuracy, size and latency of the files of a run in their engines, without mbcompress.

`python benchmarks/runtimes.py [RUN_DIR]` opens every file of a run with several runtimes, each in a new process with
only its engine and numpy, and runs the test images. Without RUN_DIR, it first quantizes the model `--model` for every
installed runtime. It prints a Markdown table: top-1, agreement with the fp32 file in ONNX Runtime, size, and latency
relative to ONNX Runtime with the same model (below 1 is faster): the median of interleaved rounds with one thread and
batch 1, as wall-clock time and as CPU time, which a busy machine disturbs less.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

EXTRAS = {
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "executorch": "executorch",
    "litert": "ai_edge_litert",
    "aotinductor": "torch",
}
ENGINES = {
    "onnx": """
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
def run(image):
    return session.run(None, {"image": image})[0]
""",
    "openvino": """
import openvino
core = openvino.Core()
model = core.read_model(path)
model.reshape([1, *images.shape[1:]])
settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
request = core.compile_model(model, "CPU", settings).create_infer_request()
def run(image):
    return request.infer([image], share_inputs=True).to_tuple()[0].copy()
""",
    "executorch": """
import warnings
warnings.simplefilter("ignore")
import torch
from executorch.extension.pybindings import portable_lib
portable_lib._unsafe_reset_threadpool(1)
module = portable_lib._load_for_executorch(path)
def run(image):
    return module.forward((torch.from_numpy(image),))[0].numpy()
""",
    "litert": """
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(path, num_threads=1)
interpreter.allocate_tensors()
entry, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
def run(image):
    interpreter.set_tensor(entry, image)
    interpreter.invoke()
    return interpreter.get_tensor(result)
""",
    "aotinductor": """
import torch
torch.set_num_threads(1)
package = torch._inductor.aoti_load_package(path)
def run(image):
    with torch.inference_mode():
        return package(torch.from_numpy(image)).numpy()
""",
}
"""Code that opens a file (`path`) and runs one of `images`, (1, C, H, W) float32, for each runtime."""

WORKER = """
import os, sys, time
import numpy as np
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # engines may print to standard output
path, images, logits = sys.argv[1], np.load(sys.argv[2]), sys.argv[3]
{engine}
np.save(logits, np.concatenate([run(image[None]) for image in images]))
assert "mbcompress" not in sys.modules
print(flush=True, file=answers)
for line in sys.stdin:
    calls, end, before = [], time.perf_counter() + float(line) / 1e3, time.process_time()
    while not calls or time.perf_counter() < end:
        start = time.perf_counter()
        run(images[:1])
        calls.append((time.perf_counter() - start) * 1e3)
    print(np.median(calls), 1e3 * (time.process_time() - before) / len(calls), flush=True, file=answers)
"""


@dataclass
class Engine:
    """One file in its own process; `logits` are those of all images, (N, K) float32."""

    runtime: str
    role: str
    path: Path
    images: Path

    def __enter__(self) -> Self:
        with tempfile.TemporaryDirectory() as folder:
            logits = Path(folder) / "logits.npy"
            code = WORKER.format(engine=ENGINES[self.runtime])
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-c", code, self.path, self.images, logits],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            assert self.process.stdout is not None
            if not self.process.stdout.readline():
                raise SystemExit(f"{self.path}: cannot be run by {self.runtime} alone")
            self.logits = np.load(logits)
        return self

    def time(self, milliseconds: float) -> tuple[float, float]:
        """Median wall-clock and mean CPU milliseconds of one call."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(milliseconds, file=self.process.stdin, flush=True)
        clock, processor = self.process.stdout.readline().split()
        return float(clock), float(processor)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate()


def make(source: str, folder: Path) -> Path:
    """Quantize the bundled digits model for all installed runtimes."""
    import importlib.util

    import mbcompress
    from mbcompress.registry.discovery import discover

    zoo = f"{source}_digits"
    card = json.loads((discover().models.classes[source].zoo.directory / f"{zoo}.json").read_text())  # type: ignore[union-attr]
    installed = [name for name, module in EXTRAS.items() if importlib.util.find_spec(module)]
    recipe: dict[str, Any] = {
        "model": {**card["model"], "weights": f"zoo:{zoo}"},
        "data": {"name": "digits"},
        "passes": [{"qat": {"training": {"epochs": 0}}}],
        "export": installed,
        "measure": {"threads": [1]},
    }
    return mbcompress.compress(None, recipe, out=folder / "run").path


def test_images(run: Path, folder: Path, count: int | None) -> tuple[Path, np.ndarray]:
    """Write the normalized test split of a run, or `count` images of it, to a file; return the labels."""
    import yaml

    from mbcompress.registry.discovery import discover

    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    dataset = discover().build_dataset(recipe["data"])
    channels, height, width = json.loads((run / "report.json").read_text())["preprocessing"]["shape"][1:]
    splits = dataset.load((channels, height, width), dataset.split_seed)
    path = folder / "images.npy"
    total = len(splits.test)
    chosen = splits.test.take(np.linspace(0, total - 1, min(count or total, total)).astype(int))
    np.save(path, splits.normalization.apply(chosen.pixels))
    return path, chosen.labels


def compare(run: Path, folder: Path, rounds: int, count: int | None) -> str:
    """Return the table as Markdown."""
    images, labels = test_images(run, folder, count)
    report = json.loads((run / "report.json").read_text())
    rows = []
    reference = None
    for role in ("baseline", "result"):
        artifacts = [each for each in report["artifacts"] if each["role"] == role and each["runtime"] in ENGINES]
        engines = [Engine(each["runtime"], role, run / each["path"], images) for each in artifacts]
        rows += _rows(engines, labels, rounds, reference)
        reference = reference if reference is not None else rows[0][1]
        assert reference is not None
    head = "| file | runtime | top-1 | agreement | bytes | ms | relative time | relative CPU time |"
    return "\n".join([head, "|---|---|---:|---:|---:|---:|---:|---:|", *(text for text, _ in rows)])


def _rows(
    engines: list[Engine], labels: np.ndarray, rounds: int, reference: np.ndarray | None
) -> list[tuple[str, np.ndarray]]:
    """One row per engine, all open at the same time; the first is the reference."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        for engine in engines:
            stack.enter_context(engine)
        times = np.array([[engine.time(20.0) for engine in engines] for _ in range(rounds)])  # (rounds, engines, 2)
    classes = [engine.logits.argmax(axis=1) for engine in engines]
    expected = classes[0] if reference is None else reference
    rows = []
    for index, engine in enumerate(engines):
        (clock, low, high), (processor, *_) = np.percentile(times[:, index] / times[:, 0], [50, 5, 95], axis=0).T
        top1, same = (classes[index] == labels).sum(), (classes[index] == expected).sum()
        rows.append(
            (
                f"| {engine.path.name} | {engine.runtime} | {top1} of {len(labels)} | {same} of {len(labels)} "
                f"| {engine.path.stat().st_size:,} | {np.median(times[:, index, 0]):.3f} "
                f"| {clock:.2f} ({low:.2f} to {high:.2f}) | {processor:.2f} |",
                expected,
            )
        )
    return rows


def main() -> None:
    """Print the table of a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="a run directory")
    parser.add_argument("--model", default="mobilenet_v2", help="mobilenet_v1, mobilenet_v2 or mobilenet_v3_small")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--images", type=int, help="number of test images (default: all)")
    options = parser.parse_args()
    if options.images is not None and options.images < 1:
        parser.error("--images must be at least 1")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(compare(options.run or make(options.model, folder), folder, options.rounds, options.images))


if __name__ == "__main__":
    main()
