"""Depthwise 3x3 layers and MobileNets: our kernels against torch, ONNX Runtime, OpenVINO and the roofline.

    python benchmarks/winograd.py layers [--clock cpu]
    python benchmarks/winograd.py networks [--size 32] [--runtimes aotinductor]
    python benchmarks/winograd.py profile [--size 32]
    python benchmarks/winograd.py roofline

Each engine runs in its own process with one thread, in interleaved rounds, every other one in reverse order. Layers
with stride 1 are timed in a chain of six, so that layout conversions at the graph's input and output count only a
sixth; layers with stride 2 are timed alone. `onednn` is the call that torch.compile makes with frozen weights. On a
busy machine, use `--clock cpu` to measure CPU time instead of wall-clock time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HERE = Path(__file__).parent
CHAIN, ROUNDS, ROUND_SECONDS = 6, 31, 2e-3
TORCH = ("eager", "onednn", "direct", "f2", "f2x2")
ENGINES = {"torch": TORCH, "onnxruntime": ("onnxruntime",), "openvino": ("openvino",)}
OURS = ("direct", "f2", "f2x2")
LAYERS = {  # channels, height, stride: every depthwise layer of V1 and V2 at both sizes, once; of V3 those of stride 1
    "V2 224": [(32, 112, 1), (96, 112, 2), (144, 56, 1), (144, 56, 2), (192, 28, 1), (192, 28, 2), (384, 14, 1),
               (576, 14, 1), (576, 14, 2), (960, 7, 1)],
    "V1 224": [(32, 112, 1), (64, 112, 2), (128, 56, 1), (128, 56, 2), (256, 28, 1), (256, 28, 2), (512, 14, 1),
               (512, 14, 2), (1024, 7, 1)],
    "V3 224": [(16, 112, 1), (72, 56, 1), (88, 28, 1), (184, 14, 1), (200, 14, 1), (480, 14, 1), (672, 14, 1)],
    "V2 32": [(32, 16, 1), (96, 16, 2), (144, 8, 1), (144, 8, 2), (192, 4, 1), (192, 4, 2), (384, 2, 1), (576, 2, 1),
              (576, 2, 2), (960, 1, 1)],
    "V1 32": [(32, 16, 1), (64, 16, 2), (128, 8, 1), (128, 8, 2), (256, 4, 1), (256, 4, 2), (512, 2, 1), (512, 2, 2),
              (1024, 1, 1)],
}  # fmt: skip


def weights_of(channels: int) -> tuple[np.ndarray, np.ndarray]:
    """(C, 1, 3, 3) and (C,) float32, small enough that values stay within ReLU6 along a chain."""
    random = np.random.default_rng(0)
    return random.uniform(0, 0.2, (channels, 1, 3, 3)).astype(np.float32), np.full(channels, 0.1, np.float32)


def torch_calls(channels: int, height: int, stride: int) -> dict[str, Callable[[], object]]:
    """One chain for each implementation in torch, including ours."""
    import torch
    from mbcompress_winograd.candidates import ONEDNN, original_calls
    from mbcompress_winograd.graph import DepthwiseLayer
    from mbcompress_winograd.operators import operator
    from mbcompress_winograd.reference import pack
    from mbcompress_winograd.tiles import ACTIVATIONS, TILES

    torch.set_num_threads(1)
    weight, bias = (torch.from_numpy(each) for each in weights_of(channels))
    layer = DepthwiseLayer("", (), weight, bias, (height, height), stride, "relu6")
    x = torch.rand(1, channels, height, height).contiguous(memory_format=torch.channels_last)
    ways = original_calls(layer, x)
    for name in OURS if stride == 1 else OURS[:1]:
        packed, compute = pack(weight, TILES[name]), operator()
        ways[name] = lambda y, p=packed, c=compute: c(y, p, bias, stride, ACTIVATIONS.index("relu6"))  # type: ignore[misc]
    assert ONEDNN in ways

    def chain(way: Callable[[Any], Any]) -> Callable[[], object]:
        def call() -> object:
            y = x
            with torch.inference_mode():
                for _ in range(CHAIN if stride == 1 else 1):
                    y = way(y)
            return y

        return call

    return {name: chain(way) for name, way in ways.items()}


def onnx_model(channels: int, height: int, stride: int) -> bytes:
    """The same chain as an ONNX file."""
    from onnx import TensorProto, helper, numpy_helper

    weight, bias = weights_of(channels)
    nodes, name = [], "x"
    length = CHAIN if stride == 1 else 1
    for index in range(length):
        middle, last = f"c{index}", f"y{index}"
        nodes.append(
            helper.make_node("Conv", [name, "w", "b"], [middle], group=channels, kernel_shape=[3, 3],
                             pads=[1, 1, 1, 1], strides=[stride, stride])
        )  # fmt: skip
        nodes.append(helper.make_node("Clip", [middle, "zero", "six"], [last]))
        name = last
    constants = {"w": weight, "b": bias, "zero": np.float32(0), "six": np.float32(6)}
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, channels, height, height])
    wanted = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
    graph = helper.make_graph(
        nodes, "chain", [given], [wanted], [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


def onnxruntime_calls(channels: int, height: int, stride: int) -> dict[str, Callable[[], object]]:
    """ONNX Runtime, which selects its own layout."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = onnx_model(channels, height, stride)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).random((1, channels, height, height), np.float32)
    return {"onnxruntime": lambda: session.run(None, {"x": x})}


def openvino_calls(channels: int, height: int, stride: int) -> dict[str, Callable[[], object]]:
    """OpenVINO in float32."""
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(onnx_model(channels, height, stride)), "CPU", settings)
    request = compiled.create_infer_request()
    x = np.random.default_rng(0).random((1, channels, height, height), np.float32)
    return {"openvino": lambda: request.infer([x], share_inputs=True, share_outputs=True)}


CALLS = {"torch": torch_calls, "onnxruntime": onnxruntime_calls, "openvino": openvino_calls}


def serve(engine: str, clock: Callable[[], float]) -> None:
    """Server process of one engine: prepares a layer, or times one implementation, for each line of JSON."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # engines may print to standard output
    calls: dict[str, Callable[[], object]] = {}
    counts: dict[str, int] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "layer" in request:
            calls = CALLS[engine](*request["layer"])
            for name, call in calls.items():
                call()
                counts[name] = max(1, int(ROUND_SECONDS / max(timed(call, 3, time.perf_counter), 1e-7)))
            answer: object = sorted(calls)
        else:
            answer = timed(calls[request["time"]], counts[request["time"]], clock)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def timed(call: Callable[[], object], count: int, clock: Callable[[], float]) -> float:
    """Seconds of one call."""
    start = clock()
    for _ in range(count):
        call()
    return (clock() - start) / count


class Worker:
    """Client of a server process."""

    def __init__(self, engine: str, clock: str) -> None:
        command = [sys.executable, __file__, "serve", "--engine", engine, "--clock", clock]
        threads = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **threads}
        )

    def ask(self, request: dict[str, object]) -> Any:
        """Send one request and return the reply."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def layers(clock: str, only: Sequence[str]) -> None:
    """Table of layers: microseconds per layer, and geometric means."""
    workers = {name: Worker(name, clock) for name in ENGINES}
    every = " | ".join(way for ways in ENGINES.values() for way in ways)
    print(f"| layer, us | {every} | ours over the best | f2 over direct |")
    print(f"|---|{'---|' * 9}")
    gains: dict[str, list[float]] = {}
    for group in only or LAYERS:
        for shape in LAYERS[group]:
            ways = {way: name for name, worker in workers.items() for way in worker.ask({"layer": shape})}
            rounds: dict[str, list[float]] = {way: [] for way in ways}
            for number in range(ROUNDS):
                for way in list(ways) if number % 2 == 0 else reversed(list(ways)):
                    rounds[way].append(workers[ways[way]].ask({"time": way}))
            length = CHAIN if shape[2] == 1 else 1
            times = {way: np.asarray(each) / length for way, each in rounds.items()}
            medians = {way: float(np.median(each)) for way, each in times.items()}
            best = min((way for way in ways if way not in OURS), key=medians.__getitem__)
            ours = min((way for way in ways if way in OURS), key=medians.__getitem__)
            gain = float(np.median(times[best] / times[ours]))
            gains.setdefault(group, []).append(gain)
            cells = [
                f"{1e6 * medians[way]:.1f}" if way in medians else "-" for each in ENGINES.values() for way in each
            ]
            f2 = f"{np.median(times['direct'] / times['f2']):.2f}" if "f2" in times else "-"
            name = f"{group}: {shape[0]}x{shape[1]}x{shape[1]}/{shape[2]}"
            print(f"| {name} | {' | '.join(cells)} | {gain:.2f} ({ours} over {best}) | {f2} |", flush=True)
    for group, found in [*gains.items(), ("all", [gain for each in gains.values() for gain in each])]:
        mean = np.exp(np.mean(np.log(found)))
        print(f"geometric mean, {group}: {mean:.2f} (least {min(found):.2f}, {len(found)} layers)")


def networks(size: int, runtimes: Sequence[str], rounds: int) -> None:
    """MobileNetV2 before and after the pass in each runtime, and in ONNX Runtime."""
    from mbcompress.measure.interleaving import open_engines, time_interleaved
    from mbcompress.registry.discovery import discover
    from mbcompress.testing.tiny import tiny_context

    registry = discover()
    spec = {"source": "mobilenet_v2", "num_classes": 1000, "input_size": size}
    model = registry.build_model(spec).load().eval()
    step = registry.passes.build("winograd", {"mode": "force"}, registry)
    context = tiny_context(model)
    shape = (3, size, size)
    context = type(context)(**{**vars(context), "input_shape": shape, "data": _Noise(shape)})
    substituted = step.apply(model, context)
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for name in [*runtimes, "onnx"]:
            runtime = registry.runtimes.build(name, {"freezing": True} if name == "torch" else {}, registry)
            for kind, network in {"as it was": model, "substituted": substituted}.items():
                if name == "onnx" and kind == "substituted":
                    continue
                path = Path(folder) / f"{kind.replace(' ', '_')}{runtime.suffix}"
                runtime.export(network, shape, path)
                files[name, kind] = (runtime, path)
        with open_engines(files.values(), shape, threads=1) as engines:
            times = dict(zip(files, time_interleaved(engines, range(rounds), 40.0), strict=True))
    for key, each in times.items():
        print(f"{size} px, {key[0]}, {key[1]}: {np.median(each.medians):.3f} ms")
    for name in runtimes:
        p5, p50, p95 = np.percentile(times[name, "as it was"].over(times[name, "substituted"]), [5, 50, 95])
        print(f"{size} px, {name}: substituted is {p50:.2f} times as fast ({p5:.2f} to {p95:.2f})")
        ours = np.median(times["onnx", "as it was"].over(times[name, "substituted"]))
        print(f"{size} px, ONNX Runtime over {name} substituted: {ours:.2f}")


def profile(size: int, rounds: int) -> None:
    """Profile of a float MobileNetV2 in ONNX Runtime."""
    import onnxruntime

    from mbcompress.registry.discovery import discover

    registry = discover()
    model = registry.build_model({"source": "mobilenet_v2", "num_classes": 1000, "input_size": size}).load().eval()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        registry.runtimes.build("onnx", {}, registry).export(model, (3, size, size), path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        image = np.random.default_rng(0).random((1, 3, size, size), np.float32)
        for _ in range(rounds):
            session.run(None, {"image": image})
        events = json.loads(Path(session.end_profiling()).read_text())
    times: dict[tuple[str, str], list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            kind = event["args"]["op_name"]
            if kind == "Conv":  # a depthwise kernel is 3x3 with one input channel per group
                weights = next(iter(event["args"]["input_type_shape"][1].values()))
                kind = "depthwise" if (weights[2] == 3 and weights[0] > 32) or weights[1] == 1 else "other convolutions"
            times.setdefault((kind, event["name"]), []).append(event["dur"])
    totals: dict[str, float] = {}
    for (kind, _), each in times.items():
        totals[kind] = totals.get(kind, 0.0) + float(np.median(each))
    for kind, total in sorted(totals.items(), key=lambda pair: -pair[1]):
        print(f"{size} px, ONNX Runtime, {kind}: {total:.0f} us, {total / sum(totals.values()):.0%}")


class _Noise:
    """Data for the pass, with noise as calibration images."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        from mbcompress import Images, Normalization

        pixels = np.random.default_rng(0).integers(0, 256, (4, *shape), dtype=np.uint8)
        self.calibration = Images(pixels, np.zeros(4, np.int64))
        self.normalization = Normalization((0.5,) * 3, (0.25,) * 3)


def roofline() -> None:
    """Peak throughput of the processor at each instruction set; needs g++."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "roofline"
        for flags in (["-mavx512f", "-mprefer-vector-width=512"], ["-mavx2", "-mfma"], []):
            command = ["g++", "-O3", "-std=c++17", *flags, str(HERE / "roofline.cpp"), "-o", str(program)]
            subprocess.run(command, check=True)
            ended = subprocess.run([str(program)], capture_output=True, text=True, check=False)
            print(ended.stdout.strip() or f"{' '.join(flags)}: not on this processor")


def main() -> None:
    """Print one of the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=("layers", "networks", "profile", "roofline", "serve"))
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--group", action="append", default=[], choices=tuple(LAYERS))
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--runtimes", nargs="+", default=["aotinductor"])
    parser.add_argument("--engine", choices=tuple(CALLS))
    options = parser.parse_args()
    clocks = {"wall": time.perf_counter, "cpu": time.process_time}
    match options.table:
        case "serve":
            serve(options.engine, clocks[options.clock])
        case "layers":
            layers(options.clock, options.group)
        case "networks":
            networks(options.size, options.runtimes, options.rounds)
        case "profile":
            profile(options.size, options.rounds)
        case "roofline":
            roofline()


if __name__ == "__main__":
    main()
