"""Machines that fail: a clear sentence or a clean continuation, nothing half-written, and no silent success."""

import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from plugin_packages import OFFERS_SQUEEZE, SQUEEZE, Install
from toys import Lines
from toys import toy as toy

import mbcompress
from mbcompress.cache.eviction import evict, items
from mbcompress.cache.store import Store
from mbcompress.contract.progress import Progress
from mbcompress.errors import system_limits
from mbcompress.pipeline.rerun import compare_runs

Recipe = dict[str, Any]
FULL = OSError(errno.ENOSPC, "No space left on device")


def fail(error: BaseException) -> Callable[..., None]:
    def fails(*_: object, **__: object) -> None:
        raise error

    return fails


def test_a_full_disk_is_one_sentence(toy: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", fail(FULL))
    with pytest.raises(mbcompress.MbcompressError) as raised:
        mbcompress.compress(None, {**toy, "passes": []}, out=tmp_path / "run", cache=False)
    place = tmp_path / "run" / ".partial" / "recipe.yaml"
    assert str(raised.value) == f"{place}: cannot be written: No space left on device"
    assert not (tmp_path / "run").exists()


def test_a_full_disk_under_the_cache_costs_the_cache_only(
    toy: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MBCOMPRESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("mbcompress.cache.store.write_json", fail(FULL))
    told = Lines()
    recipe = {**toy, "passes": [{"prune": {"target_macs": 0.8}}]}
    result = mbcompress.compress(None, recipe, out=tmp_path / "run", progress=told)
    assert told.lines == ["cache: 'prune' was not cached: [Errno 28] No space left on device"]
    assert mbcompress.load(result.path)(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert items(tmp_path / "cache") == []
    assert list((tmp_path / "cache" / "passes").iterdir()) == []


RUN = """
import resource, sys
from mbcompress.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
sys.exit(main(["run", "r.yaml", "--out", "run", "--quiet"]))
"""


def test_a_file_size_limit_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(
        "model: {source: mobilenet_v1, width: 0.25, num_classes: 10, input_size: 32}\n"
        "data: {name: digits}\npasses: [{prune: {target_macs: 0.9}}]\nmeasure: {baseline_after: 1}\n"
    )
    environment = {**os.environ, "MBCOMPRESS_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", RUN], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr == (
        "mbcompress: run/.partial/passes/01-prune/state.safetensors: cannot be written: File too large\n"
    )
    assert not (tmp_path / "run").exists()
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 9.3 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to"),
    ],
)
def test_memory_that_is_short_is_one_sentence(error: Exception) -> None:
    said = r"^out of memory \(.*allocate.*\); lower 'batch_size', or close"
    with pytest.raises(mbcompress.MbcompressError, match=said), system_limits():
        raise error
    with pytest.raises(RuntimeError, match="a bug"), system_limits():
        raise RuntimeError("a bug")


def test_a_pass_that_runs_out_of_memory_is_named(toy: Recipe, tmp_path: Path, install: Install) -> None:
    huge = "import torch; torch.empty(2**60); return model"
    install("mb-squeeze", SQUEEZE.replace("return model", huge) + OFFERS_SQUEEZE)
    with pytest.raises(mbcompress.MbcompressError) as raised:
        mbcompress.compress(None, {**toy, "passes": ["squeeze"]}, out=tmp_path / "run")
    assert str(raised.value).startswith("recipe: squeeze: out of memory (")
    assert str(raised.value).endswith("); lower 'batch_size', or close other programs")


def test_a_training_that_diverges_is_one_sentence_and_not_kept(
    toy: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MBCOMPRESS_CACHE", str(tmp_path / "cache"))
    passes = [{"train": {"training": {"epochs": 3, "lr": 10, "weight_decay": 1, "clip_norm": None, "warmup": 0}}}]
    with pytest.raises(mbcompress.MbcompressError) as raised:
        mbcompress.compress(None, {**toy, "passes": passes}, out=tmp_path / "run")
    assert "train: the loss or its gradient is not finite in epoch " in str(raised.value)
    assert str(raised.value).endswith("; lower 'lr' or set 'clip_norm'")
    assert items(tmp_path / "cache") == []
    assert not (tmp_path / "run").exists()


DYING = """
import os, sys
import numpy as np, torch, mbcompress
from torch.utils.data import DataLoader, Dataset, get_worker_info

def killed():
    os.kill(os.getpid(), 9)  # as the system does where memory is short

def gone():
    os._exit(3)

class Dying(Dataset):
    def __init__(self, die):
        self.die = die

    def __len__(self):
        return 64

    def __getitem__(self, index):
        if index == 40 and get_worker_info() is not None:
            self.die()
        return np.zeros((3, 32, 32), np.float32), index % 10

net = torch.nn.Sequential(torch.nn.Conv2d(3, 10, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
for die in killed, gone:
    loader = DataLoader(Dying(die), batch_size=8, num_workers=1)
    try:
        mbcompress.compress(net, {"passes": []}, {"train": loader}, out="run")
    except mbcompress.MbcompressError as error:
        print(error)
"""


def test_a_dead_data_worker_is_one_sentence(tmp_path: Path) -> None:
    """In a process of its own: the worker is a fork of it."""
    done = subprocess.run([sys.executable, "-c", DYING], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (
        done.stdout
        == ("data: 'train': a worker process of its loader died; it may have run out of memory; try num_workers=0\n")
        * 2
    )
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run with the toy runtime, where no process of ours knows of it."""
    directory = tmp_path_factory.mktemp("finished")
    from toys import FAST, MODEL, TOY

    with pytest.MonkeyPatch.context() as patch:
        from plugin_packages import write_distribution

        write_distribution(directory / "packages", "mb-toy", TOY, plugin="toy")
        patch.syspath_prepend(str(directory / "packages"))
        patch.setenv("PYTHONPATH", str(directory / "packages"), prepend=os.pathsep)
        recipe = {"model": MODEL, "data": {"name": "digits"}, "passes": [{"prune": {"target_macs": 0.8}}]}
        recipe |= {"export": ["toy"], "measure": FAST}
        mbcompress.compress(None, recipe, out=directory / "run")
        yield directory / "run"
        sys.modules.pop("mb_toy", None)


def test_a_run_directory_that_was_copied_is_as_good(finished: Path, tmp_path: Path) -> None:
    copy_model = shutil.copytree(finished, tmp_path / "elsewhere" / "renamed")
    images = torch.zeros(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(mbcompress.load(copy_model)(images), mbcompress.load(finished)(images))
    assert all(finding.same for finding in compare_runs(finished, copy_model))


def test_rerun_says_what_came_out_the_same(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mbcompress.cli import main

    again = tmp_path / "again"
    monkeypatch.chdir(finished.parent)
    assert main(["rerun", finished.name, "--out", str(again), "--quiet"]) == 0
    *findings, last = capsys.readouterr().out.splitlines()
    assert last == f"repeated in {again}"
    assert [line.split(":")[0] for line in findings] == [
        "top-1 of the baseline",
        "top-1 of the result",
        "baseline.npy",
        "model.npy",
        "passes/01-prune/state.safetensors",
    ]
    assert all(": the same, " in line for line in findings)
    recipe = (finished / "recipe.yaml").read_text()
    changed = shutil.copytree(finished, tmp_path / "changed")
    (changed / "recipe.yaml").write_text(recipe.replace("seed: 0", "seed: 1"))
    assert main(["rerun", str(changed), "--out", str(tmp_path / "no"), "--quiet"]) == 2
    assert "recipe.yaml: was changed after the run" in capsys.readouterr().err


def test_differences_are_found(finished: Path, tmp_path: Path) -> None:
    from mbcompress.checkpoint.manifest import write_manifest
    from mbcompress.pipeline.rerun import compare_environments

    other = shutil.copytree(finished, tmp_path / "other")
    report = (other / "report.json").read_text()
    (other / "report.json").write_text(report.replace('"k": ', '"k": 1'))
    environment = (other / "environment.json").read_text()
    (other / "environment.json").write_text(environment.replace('"torch_threads": ', '"torch_threads": 1'))
    (other / "passes" / "01-prune" / "state.safetensors").unlink()
    write_manifest(other)
    findings = {finding.subject: finding for finding in compare_runs(finished, other)}
    assert not findings["top-1 of the result"].same
    assert findings["passes/01-prune/state.safetensors"].second == "absent"
    assert findings["model.npy"].same
    assert [each.subject for each in compare_environments(finished, other)] == ["torch_threads"]


def test_clocks_that_jump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry from the future is as good as any, and the checkpoints' interval does not follow the clock."""
    from mbcompress.cache.checkpoints import CheckpointFolder

    store = Store(tmp_path, Progress())
    place = store.keep("key", "train", lambda entry: None)
    assert place is not None
    os.utime(place / "entry.json", (2**33, 2**33))
    assert store.find("key", "train") == place
    assert [item.key for item in evict(tmp_path, -1)] == ["key"]
    checkpoints = CheckpointFolder(tmp_path, interval=1e6)
    monkeypatch.setattr("time.time", lambda: 2.0**33)
    assert not checkpoints.due


def test_limits_are_as_they_were() -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
