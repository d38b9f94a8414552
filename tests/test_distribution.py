"""Two processes train one model: as one process would, to the same end, and a launcher starts them as its users do."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_resume import Killed, Noisy, Stops, Told
from torch import Tensor, nn
from toys import FAST, MODEL
from toys import toy as toy

from mbcompress import MbcompressError, Progress, TrainingConfig, compress
from mbcompress.cache.checkpoints import CheckpointFolder
from mbcompress.cache.keys import machine
from mbcompress.contract.checkpoints import Checkpoints
from mbcompress.contract.context import Context
from mbcompress.contract.process_group import ProcessGroup
from mbcompress.data.splits import Development, Images
from mbcompress.errors import ProcessLostError, TrainingDivergedError
from mbcompress.pipeline.processes import join, launched
from mbcompress.registry.discovery import discover
from mbcompress.training import Batch, fit
from mbcompress.training.distributed import equalize
from mbcompress.training.evaluation import evaluate
from mbcompress.training.trainer import check_batch_size

pytest.importorskip("accelerate")

PLAIN = {"crop_padding": 0, "flip": False}
DIVIDED = TrainingConfig(epochs=2, batch_size=33, lr=0.05, grad_accum_steps=2, ema=0.9, clip_norm=0.5, **PLAIN)
NOISY = TrainingConfig(epochs=2, batch_size=32, lr=0.05, mixup=0.2, **PLAIN)
IMAGES = 132


class Learning(nn.Module):
    """A loss with weights of its own, and one that never has a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.Linear(2, 2)
        self.adapter = nn.Linear(10, 10)

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        return nn.functional.cross_entropy(self.adapter(model(batch.images)), batch.labels)


def digits_context() -> Context:
    """A few images, and any baseline."""
    data = discover().build_dataset({"name": "digits"}).load((3, 32, 32), 0).development()
    few: Development = replace(data, train=Images(data.train.pixels[:IMAGES], data.train.labels[:IMAGES]))
    return Context(few, nn.Identity(), (3, 32, 32), torch.device("cpu"), 0)


def plain_model() -> nn.Module:
    """Of which images in one batch know nothing of each other."""
    return nn.Sequential(nn.Conv2d(3, 8, 3, 4), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, 10))


def divided(context: Context) -> Any:
    """A training whose shares are uneven, in parts, with an average, a limit to the gradient and a loss that learns."""
    torch.manual_seed(context.process_group.rank)  # main's weights count
    model, loss = plain_model(), Learning()
    history = fit(model, context, DIVIDED, objective=loss, label="divided")
    return model.state_dict(), loss.state_dict(), history


def noisy(context: Context) -> Any:
    """A training with BatchNorm and dropout."""
    model = Noisy()
    history = fit(model, context, NOISY, label="noisy")
    return model.state_dict(), history


def quantized(context: Context) -> Any:
    """A training whose model observes ranges of activations, not those of BatchNorm alone."""
    from integer_models import fake_quantized

    torch.manual_seed(0)
    model = fake_quantized(plain_model().eval(), list(context.calibration_batches()), observed_calls=3)
    fit(model, context, NOISY.model_copy(update={"mixup": 0.0}), label="quantized")
    return model.state_dict()


def diverging(context: Context) -> Any:
    """The loss of one process is not a number."""
    wrong = float("nan") if context.process_group.rank else 1.0
    with pytest.raises(TrainingDivergedError) as raised:
        fit(
            plain_model(),
            context,
            NOISY,
            objective=lambda model, batch: model(batch.images).mean() * wrong,
            label="diverging",
        )
    return str(raised.value)


def resumed(context: Context, how: type[BaseException], at: tuple[int, int]) -> Any:
    """A training that ends in each process at a step of its own, and begins again."""
    index = context.process_group.rank
    folder = Path(f"{how.__name__}")
    checkpoints = [
        CheckpointFolder(folder, interval=0.0 if how is Killed else 1e9) if index == 0 else Checkpoints()
    ] * 2
    with pytest.raises(how):
        noisy(replace(context, progress=Stops(at[index], how), checkpoints=checkpoints[0]))
    checkpoints = [CheckpointFolder(folder) if index == 0 else Checkpoints()]
    counting = Counting()
    result = noisy(replace(context, progress=counting, checkpoints=checkpoints[0]))
    return result, counting.items


class Counting(Progress):
    """Counts the steps."""

    items = 0

    def track(self, items: Any, label: str, total: int) -> Any:
        for item in items:
            self.items += 1
            yield item


def refused(context: Context) -> Any:
    """Other tensors than main's."""
    width = 1 + context.process_group.rank
    try:
        equalize(nn.Linear(width, 1), context.process_group)
    except MbcompressError as error:
        return str(error)
    return None


def work(index: int, port: int, folder: str) -> None:
    """Everything that two processes do in these tests, and what came of it, in a file of each."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored
    os.chdir(folder)
    os.environ |= {"RANK": str(index), "LOCAL_RANK": str(index), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    process_group = join("cpu")
    context = replace(digits_context(), process_group=process_group)
    found = {
        "launched": launched(),
        "broadcast_object": process_group.broadcast_object(lambda: f"of {index}"),
        "any": [process_group.any(index == 1), process_group.any(False)],
        "score": evaluate(
            Noisy(), context.data.validation, context.data.normalization, torch.device("cpu"), process_group
        ),
        "divided": divided(context),
        "noisy": noisy(context),
        "quantized": quantized(context),
        "diverging": diverging(context),
        "interrupted": resumed(context, KeyboardInterrupt, (99, 2)),
        "killed": resumed(context, Killed, (5, 5)),
        "refused": refused(context),
    }
    torch.save(found, f"{index}.pt")
    if index == 0:
        try:
            process_group.broadcast_object(lambda: None)
            process_group.all_reduce(torch.zeros(1))
        except ProcessLostError as error:
            Path("lost").write_text(str(error))
    else:
        process_group.broadcast_object(lambda: None)
        os._exit(0)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What two processes, started here, have come to."""
    folder = tmp_path_factory.mktemp("processes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(work, (port, str(folder)), nprocs=2)
    assert (folder / "lost").read_text() == "another process of this run has exited; see its error message"
    return [torch.load(folder / f"{index}.pt", weights_only=False) for index in (0, 1)]


def assert_same(one: Any, other: Any) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_processes_know_each_other(found: list[Any]) -> None:
    for index, each in enumerate(found):
        assert each["launched"] == (index, 2)
        assert each["broadcast_object"] == "of 0"
        assert each["any"] == [True, False]


def test_divided_validation_is_that_of_one_process(found: list[Any]) -> None:
    context = digits_context()
    score = evaluate(Noisy(), context.data.validation, context.data.normalization, torch.device("cpu"))
    assert found[0]["score"] == found[1]["score"]
    assert (found[0]["score"].correct, found[0]["score"].count) == (score.correct, score.count)
    assert found[0]["score"].negative_loss == pytest.approx(score.negative_loss, rel=1e-5)


def test_a_divided_batch_gives_the_step_of_a_whole_one(found: list[Any]) -> None:
    """Without BatchNorm and chance, two processes do what one does, which is the oracle."""
    expected = divided(digits_context())
    for each in found:
        for state, wanted in zip(each["divided"][:2], expected[:2], strict=True):
            for name, value in state.items():
                torch.testing.assert_close(value, wanted[name], atol=1e-5, rtol=1e-4, msg=name)
        assert [score.correct for score in each["divided"][2].scores] == [s.correct for s in expected[2].scores]


@pytest.mark.parametrize("training", ["divided", "noisy"])
def test_all_processes_end_with_the_same_weights(training: str, found: list[Any]) -> None:
    assert_same(found[0][training][0], found[1][training][0])
    assert found[0][training][-1] == found[1][training][-1]


def test_ranges_of_activations_are_the_same_everywhere(found: list[Any]) -> None:
    assert_same(found[0]["quantized"], found[1]["quantized"])


def test_a_divergence_in_one_process_ends_all(found: list[Any]) -> None:
    assert found[0]["diverging"] == found[1]["diverging"]
    assert "not finite in epoch 1, step 1 of 4" in found[0]["diverging"]


@pytest.mark.parametrize("how", ["interrupted", "killed"])
def test_a_training_that_was_stopped_goes_on_to_the_same_weights(how: str, found: list[Any]) -> None:
    for each in found:
        (state, history), steps = each[how]
        assert_same(state, each["noisy"][0])
        assert history == each["noisy"][1]
        assert steps == {"interrupted": 6, "killed": 3}[how]  # of 8


def test_another_model_than_mains_is_refused(found: list[Any]) -> None:
    assert found[0]["refused"] is None
    assert re.search(
        "Linear: differs from the main process.s .* context.process_group.broadcast_object", found[1]["refused"]
    )


def test_one_process_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    alone, tensor = ProcessGroup(), torch.ones(2)
    assert (alone.is_main_process, alone.shard, alone.broadcast_object(lambda: 3), alone.any(False)) == (
        True,
        (0, 1),
        3,
        False,
    )
    assert alone.all_reduce(tensor) is tensor


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, (0, 1)),
        ({"WORLD_SIZE": "4"}, (0, 1)),  # a cluster's, not a launcher's
        ({"RANK": "0", "WORLD_SIZE": "1"}, (0, 1)),
        ({"RANK": "1", "WORLD_SIZE": "2"}, (1, 2)),
        ({"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "3"}, (2, 3)),
    ],
)
def test_launchers(variables: dict[str, str], expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert launched() == expected


@pytest.mark.parametrize(("rank", "size"), [("2", "2"), ("x", "2"), ("-1", "2"), ("", "2")])
def test_what_no_launcher_says(rank: str, size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(
        MbcompressError, match=f"^RANK, WORLD_SIZE: must be a rank and a world size, .*, got '{rank}' and '{size}'$"
    ):
        launched()


def test_what_cannot_be_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(
        MbcompressError, match=r"^--device mps: cannot be used by 2 processes; choose auto, cpu or cuda$"
    ):
        join("mps")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(
        MbcompressError, match=r"^accelerate: is not installed, .*; pip install 'mbcompress\[distributed\]'$"
    ):
        join("cpu")


def test_batches_that_are_too_small() -> None:
    check_batch_size("train", 4, 2, 1)
    check_batch_size("train", 1, 1, 1)
    check_batch_size("train", 8, 2, 2)
    with pytest.raises(
        MbcompressError, match=r"^train: a batch of 3 images cannot be divided among 2 processes, .* to 4"
    ):
        check_batch_size("train", 3, 2, 1)
    with pytest.raises(MbcompressError, match=r"cannot be divided into 4 parts, .* to 8, or lower 'grad_accum_steps'$"):
        check_batch_size("train", 7, 1, 4)
    with pytest.raises(
        MbcompressError,
        match=r"among 2 processes and into 3 parts, .* to 12, or start fewer processes or lower 'grad_accum_steps'$",
    ):
        check_batch_size("train", 11, 2, 3)


def test_a_step_of_two_processes_is_another_than_that_of_one() -> None:
    assert machine(torch.device("cpu"), 1) != machine(torch.device("cpu"), 2)


def test_accelerate_that_started_one_process_only(toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    told = Told()
    compress(None, {**toy, "passes": []}, out=tmp_path / "run", progress=told)
    assert told.lines[0].startswith("accelerate has started only one process")


ACCELERATE = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
ACCELERATE += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
TORCHRUN = ["torch.distributed.run", "--nproc-per-node", "2"]


@pytest.fixture
def start(toy: dict[str, Any], tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts a recipe of one training in two processes."""

    def start(launcher: list[str], training: dict[str, Any], **variables: str) -> subprocess.Popen[str]:
        model = {**MODEL, "strides_removed": 1}
        recipe = {
            **toy,
            "model": model,
            "passes": [{"train": {"training": training}}],
            "measure": {**FAST, "baseline_after": 1},
        }
        (tmp_path / "r.yaml").write_text(json.dumps(recipe))
        environment = {**os.environ, "MBCOMPRESS_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1", **variables}
        command = [sys.executable, "-m", *launcher, "-m", "mbcompress", "run", "r.yaml", "--out", "run"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes)

    return start


@pytest.mark.slow
def test_a_launched_run_that_was_killed_goes_on(start: Callable[..., Any], tmp_path: Path) -> None:
    """Started by torchrun, killed, and started again by accelerate: one run directory, one report, told once."""
    training = {"epochs": 4, "lr": 0.1, "batch_size": 32}
    with start(TORCHRUN, training, MBCOMPRESS_CHECKPOINT_SECONDS="0.5") as process:
        for line in process.stderr:
            if line.startswith("train, epoch 2/4"):
                break
        pids = [int(each) for each in _children(process.pid)]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        process.communicate()
    assert len(pids) == 2
    assert process.returncode != 0
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [".lock", ".partial"]
    with start(ACCELERATE, training) as process:
        out, errors = process.communicate()
    assert process.returncode == 0, errors
    assert out.count("report: run/report.html") == 1
    epochs = re.findall(r"^train, epoch (\d)", errors, re.MULTILINE)
    assert epochs == sorted(set(epochs))
    assert epochs[0] in {"2", "3"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "packages", "r.yaml", "run"]
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["processes"] == 2
    assert report["passes"][0]["metrics"]["validation_top1"] > 0.5
    assert len(list((tmp_path / "cache" / "passes").iterdir())) == 1
    assert not any((tmp_path / "cache" / "checkpoints").iterdir())


def test_a_launched_run_that_diverges_ends_in_all_processes(start: Callable[..., Any], tmp_path: Path) -> None:
    with start(
        TORCHRUN, {"epochs": 2, "lr": 10.0, "weight_decay": 1.0, "clip_norm": None, "batch_size": 16}
    ) as process:
        _, errors = process.communicate()
    assert process.returncode != 0
    (line,) = (line for line in errors.splitlines() if line.startswith("mbcompress:"))
    assert "train: the loss or its gradient is not finite" in line
    assert "exitcode: 2" in errors
    assert not (tmp_path / "run").exists()


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
