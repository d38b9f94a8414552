"""Statistics against published values, and engines in separate processes."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mbcompress import MbcompressError, Normalization
from mbcompress.measure.engine import Engine
from mbcompress.measure.interleaving import time_interleaved
from mbcompress.measure.statistics import hits, mcnemar, proportion, spread
from mbcompress.registry.discovery import Registry


def flags(right: int, wrong: int) -> np.ndarray:
    return np.array([True] * right + [False] * wrong)


def test_wilson_interval_is_newcombes_example() -> None:
    """Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662."""
    result = proportion(flags(81, 182))
    assert (result["k"], result["n"]) == (81, 263)
    assert result["low"] == pytest.approx(0.2553, abs=5e-5)
    assert result["high"] == pytest.approx(0.3662, abs=5e-5)


def test_mcnemar_is_an_exact_binomial_test() -> None:
    """9 discordant images, all one way: p = 2 / 2^9."""
    baseline, result = np.array([True] * 9 + [False] * 3), np.array([False] * 12)
    assert mcnemar(baseline, result) == {"baseline_only": 9, "result_only": 0, "p_value": pytest.approx(2 / 512)}
    assert mcnemar(baseline, baseline)["p_value"] == 1.0


def test_hits_are_top_k_and_nan_is_a_miss() -> None:
    logits = np.array([[3, 2, 1], [1, 2, 3], [np.nan, 0, 0]], np.float32)
    labels = np.array([1, 2, 0])
    assert hits(logits, labels, 1).tolist() == [False, True, False]
    assert hits(logits, labels, 2).tolist() == [True, True, False]


def test_spread() -> None:
    assert spread(list(range(101))) == {"median": 50, "p5": 5, "p95": 95}


class Clock:
    """A fake engine: in round r, a call takes about r times `step`; `log` records the order."""

    def __init__(self, step: float, log: list[float]) -> None:
        self.step, self.log, self.turns = step, log, 0

    def time(self, milliseconds: float) -> list[float]:
        self.turns += 1
        self.log.append(self.step)
        return [self.step * self.turns * factor for factor in (0.5, 1, 3)]


def test_rounds_alternate_in_order_and_are_compared_pairwise() -> None:
    log: list[float] = []
    slow, fast = time_interleaved([Clock(6.0, log), Clock(2.0, log)], range(3), 1.0)
    assert log == [6, 2, 2, 6, 6, 2]
    assert fast.rounds[1] == [2.0, 4.0, 12.0]
    assert slow.medians == [6.0, 12.0, 18.0]
    assert fast.calls == [1, 2, 6, 2, 4, 12, 3, 6, 18]
    assert slow.over(fast) == [3.0, 3.0, 3.0]


@pytest.fixture(scope="module")
def exported(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path, np.ndarray]:
    """A float V1 in an ONNX file, with its logits for four images."""
    import torch

    spec = {"source": "mobilenet_v1", "num_classes": 10, "width": 0.25, "input_size": 32}
    torch.manual_seed(0)
    model = registry.build_model(spec).load()
    runtime = registry.runtimes.build("onnx", {}, registry)
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    runtime.export(model, (3, 32, 32), path)
    with torch.no_grad():
        logits = model(torch.from_numpy(images())).numpy()
    return runtime, path, logits


def images() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((4, 3, 32, 32)).astype(np.float32)


def test_engine_answers_in_a_process_without_torch(exported: tuple[Any, Path, np.ndarray], tmp_path: Path) -> None:
    runtime, path, logits = exported
    np.save(tmp_path / "images.npy", images())
    with Engine(runtime, path, (3, 32, 32), threads=1) as engine:
        assert os.getpgid(engine.process.pid) != os.getpgid(0)  # Ctrl-C does not reach it
        assert engine.runtime.startswith("ONNX Runtime")
        np.testing.assert_allclose(
            engine.predict(tmp_path / "images.npy", Normalization.identity(3)), logits, rtol=1e-3, atol=1e-5
        )
        assert engine.convolutions() == (27, 0)
        total, zero = engine.zero_weights() or (0, 0)
        assert 0 <= zero < 0.01 * total
        assert total > 100_000
        calls = engine.time(5.0)
        assert calls
        assert min(calls) > 0
        memory = engine.memory()
        assert 0 < memory["model_bytes"] < memory["peak_bytes"]
        maps = Path(f"/proc/{engine.process.pid}/maps")
        if maps.exists():
            assert "libtorch" not in maps.read_text()
        process = engine.process
    assert process.poll() is not None  # ended with the block


def test_a_damaged_file_is_reported_in_one_sentence(exported: tuple[Any, Path, np.ndarray], tmp_path: Path) -> None:
    runtime, path, _ = exported
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(MbcompressError, match=r"broken\.onnx.*ONNX Runtime cannot open it"):
        Engine(runtime, broken, (3, 32, 32), threads=1)


def test_the_death_of_an_engine_is_reported(exported: tuple[Any, Path, np.ndarray]) -> None:
    runtime, path, _ = exported
    with Engine(runtime, path, (3, 32, 32), threads=1) as engine:
        engine.process.kill()
        engine.process.wait()
        with pytest.raises(MbcompressError, match=r"measuring process ended with exit code -9"):
            engine.time(1.0)


def test_the_exported_file_has_no_exporter_metadata(exported: tuple[Any, Path, np.ndarray]) -> None:
    import onnx

    graph = onnx.load(exported[1]).graph
    assert not any(node.metadata_props or node.doc_string for node in graph.node)
    assert [value.name for value in (*graph.input, *graph.output)] == ["image", "logits"]
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param  # any batch size
