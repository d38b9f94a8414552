"""The process that holds one engine. Reads one JSON request a line, answers one JSON object a line.

Started by `Engine`; imports no torch, so that the memory it reports is the runtime's.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import IO, Any

import numpy as np

from mbcompress.contract.runtimes import Runtime, Session
from mbcompress.data.splits import Normalization
from mbcompress.errors import MbcompressError
from mbcompress.registry.discovery import discover

BATCH = 100  # images in one call where only the logits matter


def serve(requests: IO[str], answers: IO[str]) -> None:
    """Answer requests until the input ends; the first one names the runtime, the file and the threads."""
    setup = json.loads(requests.readline())
    registry = discover()
    runtime = registry.runtimes.build(setup["runtime"], setup["options"], registry)
    path = Path(setup["path"])
    name = runtime.describe()  # imports the engine, whose own memory is not the model's
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
    """Milliseconds of each call, calling until `duration_ms` have passed."""
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
    """Largest resident size of this process so far, in bytes.

    Linux's own counter for the process image; `ru_maxrss` would include that of the parent before exec.
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
    """Keep the answers' channel apart from standard output, on which a runtime may print."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(sys.stdin, answers)


if __name__ == "__main__":
    main()
