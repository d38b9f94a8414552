"""Server process with one engine: reads one JSON request per line, writes one JSON reply per line.

Started by `Engine`. Imports no torch, so that the reported memory is the runtime's.
"""

import json
import os
import sys
import time
from pathlib import Path
from pkgutil import resolve_name
from typing import IO, Any

import numpy as np

from mbcompress.contract.runtimes import Runtime, Session
from mbcompress.data.splits import Normalization
from mbcompress.errors import MbcompressError
from mbcompress.graph.operators import register_operators

BATCH = 100  # images per call of `predict`


def serve(requests: IO[str], answers: IO[str]) -> None:
    """Serve requests until the input ends; the first one names the runtime, the file and the threads."""
    setup = json.loads(requests.readline())
    runtime: Runtime = resolve_name(setup["runtime"]).model_validate(setup["options"])
    if runtime.needs_torch:
        register_operators(resolve_name(operators)() for operators in setup["operators"])
    path = Path(setup["path"])
    name = runtime.describe()  # imports the engine, so that its memory is not counted as the model's
    before = peak_memory()
    images = np.zeros(setup["images"], np.float32)
    try:
        session = runtime.open(path, setup["threads"])
        session.run(images)
    except MbcompressError as error:
        _answer(answers, {"error": str(error)})
        return
    _answer(answers, {"runtime": name})
    for line in requests:
        request = json.loads(line)
        try:
            _answer(answers, _respond(request, runtime, session, path, images, before))
        except MbcompressError as error:
            _answer(answers, {"error": str(error)})


def _respond(
    request: dict[str, Any], runtime: Runtime, session: Session, path: Path, images: np.ndarray, before: int
) -> dict[str, Any]:
    match request["do"]:
        case "time":
            return {"ms": time_calls(session, images, request["ms"])}
        case "memory":
            peak = peak_memory()
            return {"peak_bytes": peak, "model_bytes": peak - before}
        case "predict":
            pixels = np.load(request["images"], mmap_mode="r", allow_pickle=False)
            normalization = Normalization(tuple(request["mean"]), tuple(request["std"]), request["scale"])
            parts = (normalization.apply(pixels[i : i + BATCH]) for i in range(0, len(pixels), BATCH))
            batches = [session.run(np.ascontiguousarray(part)) for part in parts]
            np.save(request["logits"], np.concatenate(batches), allow_pickle=False)
            return {}
        case "convolutions":
            return runtime.convolutions(path)._asdict()
        case "zero_weights":
            counted = runtime.zero_weights(path)
            return {"counted": counted._asdict() if counted else None}
        case unknown:
            raise ValueError(unknown)


def time_calls(session: Session, images: np.ndarray, duration_ms: float) -> list[float]:
    """Call for `duration_ms`, at least once; return the milliseconds of each call."""
    calls: list[float] = []
    end = time.perf_counter() + duration_ms / 1e3
    while True:
        start = time.perf_counter()
        session.run(images)
        stop = time.perf_counter()
        calls.append((stop - start) * 1e3)
        if stop >= end:
            return calls


def peak_memory() -> int:
    """Peak resident size of this process in bytes.

    From /proc on Linux, because `ru_maxrss` includes the parent's memory before exec.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def _answer(answers: IO[str], content: dict[str, Any]) -> None:
    answers.write(json.dumps(content) + "\n")
    answers.flush()


def main() -> None:
    """Serve on standard input; reply on a copy of standard output, because a runtime may print."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(sys.stdin, answers)


if __name__ == "__main__":
    main()
