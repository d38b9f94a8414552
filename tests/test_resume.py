"""A training that was stopped anywhere goes on to the same weights, to the last bit."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from crash import crash
from plugin_packages import OFFERS_SQUEEZE, SQUEEZE, Install
from torch import Tensor, nn
from toys import toy as toy

from mbcompress import Progress, TrainingConfig
from mbcompress.cache.checkpoints import CheckpointFolder
from mbcompress.contract.checkpoints import Checkpoints
from mbcompress.data.splits import Images
from mbcompress.errors import Interrupted
from mbcompress.pipeline.interruption import handling_signals, raise_interrupted
from mbcompress.training import Callback, TrainerState, fit
from mbcompress.training.signals import DeferredSignals

OPTIONS = TrainingConfig(epochs=3, batch_size=32, lr=0.05)
STEPS = 4  # of 32 in 128 images


class Killed(Exception):  # noqa: N818  # it stands for no error
    """As if the process had ended here."""


class Noisy(nn.Module):
    """Draws from the global generator, has BatchNorm, and counts its batches in Python."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3))
        self.head = nn.Linear(8, 10)
        self.batches = 0

    def forward(self, images: Tensor) -> Tensor:
        self.batches += self.training
        logits: Tensor = self.head(self.body(images).mean((2, 3)))
        return logits + 0.001 * self.batches

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.batches)

    def set_extra_state(self, state: Tensor) -> None:
        self.batches = int(state)


class Stops(Progress):
    """Ends the training at a step, counted over all epochs from 0."""

    def __init__(self, at: int, how: type[BaseException]) -> None:
        self.left, self.how = at, how

    def track(self, items: Iterable[Any], label: str, total: int) -> Iterator[Any]:
        for item in items:
            if self.left == 0 and self.how is KeyboardInterrupt:
                signal.raise_signal(signal.SIGINT)  # the training defers it
            elif self.left == 0:
                raise self.how
            self.left -= 1
            yield item


class Drifting(Callback):
    """Has state that is not in the weights: a number and a tensor."""

    def __init__(self) -> None:
        self.steps, self.drift = 0, torch.zeros(10)

    def on_before_optimizer_step(self, model: nn.Module, state: TrainerState) -> None:
        self.steps += 1
        self.drift += 0.01 * model.head.bias.grad  # type: ignore[union-attr, operator]
        model.head.bias.grad += self.drift * self.steps  # type: ignore[union-attr]

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "drift": self.drift}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps, self.drift = state["steps"], state["drift"]


def train(
    context: Any,
    folder: Path | None,
    interval: float = 0.0,
    progress: Progress | None = None,
    options: TrainingConfig = OPTIONS,
) -> tuple[Any, Any]:
    progress = progress or Progress()
    few = Images(context.data.train.pixels[: 32 * STEPS], context.data.train.labels[: 32 * STEPS])
    context = replace(
        context,
        data=replace(context.data, train=few),
        checkpoints=CheckpointFolder(folder, progress, interval) if folder else Checkpoints(),
        progress=progress,
    )
    torch.manual_seed(9)
    model = Noisy()
    history = fit(model, context, options, callbacks=[Drifting()], label="train")
    return model.state_dict(), history


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture
def sigint() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt, also where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("sigint")
@pytest.mark.parametrize("at", [1, 3, 4, 5, 11])
@pytest.mark.parametrize("how", [Killed, KeyboardInterrupt])
def test_stopped_after_any_step(
    at: int, how: type[BaseException], make_context: Callable[..., Any], tmp_path: Path
) -> None:
    context = make_context(Noisy())
    expected, history = train(context, None)
    interval = 0.0 if how is Killed else 1e9  # who is interrupted saves however long ago it was
    with pytest.raises(how):
        train(context, tmp_path, interval, Stops(at, how))
    state, again = train(context, tmp_path, interval)
    assert_equal(state, expected)
    assert again == history


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_whole_state_of_the_optimizer_is_resumed(
    optimizer: Any, schedule: Any, make_context: Callable[..., Any], tmp_path: Path
) -> None:
    options = TrainingConfig(epochs=3, batch_size=32, lr=0.01, optimizer=optimizer, schedule=schedule, ema=0.5)
    context = make_context(Noisy())
    expected, history = train(context, None, options=options)
    with pytest.raises(Killed):
        train(context, tmp_path, 0.0, Stops(6, Killed), options)
    state, again = train(context, tmp_path, options=options)
    assert_equal(state, expected)
    assert again == history


def test_stopped_again_and_again(make_context: Callable[..., Any], tmp_path: Path) -> None:
    context = make_context(Noisy())
    expected, _ = train(context, None)
    stops = 0
    while True:
        try:
            state, _ = train(context, tmp_path, 0.0, Stops(2, Killed))
            break
        except Killed:
            stops += 1
    assert stops == (OPTIONS.epochs * STEPS - 1) // 2
    assert_equal(state, expected)


def test_a_training_that_is_saved_is_the_one_that_is_not(make_context: Callable[..., Any], tmp_path: Path) -> None:
    context = make_context(Noisy())
    assert_equal(train(context, None)[0], train(context, tmp_path)[0])


class Told(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "a directory"])
def test_a_damaged_checkpoint_is_said_and_not_used(
    damage: str, make_context: Callable[..., Any], tmp_path: Path
) -> None:
    context, told = make_context(Noisy()), Told()
    expected, _ = train(context, None)
    with pytest.raises(Killed):
        train(context, tmp_path, 0.0, Stops(3, Killed))
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    if damage == "a directory":
        path.unlink()
        path.mkdir()
    else:
        flipped = content[:5000] + bytes([content[5000] ^ 1]) + content[5001:]
        path.write_bytes({"truncated": content[:-100], "flipped": flipped, "empty": b""}[damage])
    state, _ = train(context, tmp_path, 1e9, told)
    assert_equal(state, expected)
    (line,) = told.lines
    assert line.startswith(f"cache: {path} ")
    assert line.endswith("; training starts again")


def test_a_folder_that_cannot_be_written_costs_the_checkpoint_only(
    make_context: Callable[..., Any], tmp_path: Path
) -> None:
    context, told = make_context(Noisy()), Told()
    (tmp_path / "file").write_text("")
    state, _ = train(context, tmp_path / "file" / "below", 0.0, told)
    assert_equal(state, train(context, None)[0])
    (line,) = told.lines  # once, not at every step
    assert line.startswith("cache: the training checkpoint was not saved: ")


def test_the_first_signal_is_deferred_and_the_second_is_not() -> None:
    said = list[str]()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored
    try:
        with DeferredSignals(said.append) as signals:
            signal.raise_signal(signal.SIGINT)
            assert signals.pending == signal.SIGINT
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        with pytest.raises(KeyboardInterrupt), DeferredSignals(said.append):
            signal.raise_signal(signal.SIGINT)  # delivered at the end of the block
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with DeferredSignals(said.append) as signals:
            signal.raise_signal(signal.SIGINT)  # stays ignored
            assert not signals.pending
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert said == ["interrupted: stopping after this optimizer step; interrupt again to stop immediately"] * 2


def test_signals_raise_where_a_command_runs() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored
    try:
        with handling_signals(raise_interrupted):
            for number in (signal.SIGINT, signal.SIGTERM):
                with pytest.raises(Interrupted) as raised:
                    signal.raise_signal(number)
                assert raised.value.signal == number
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with handling_signals(raise_interrupted):
            signal.raise_signal(signal.SIGINT)  # stays ignored
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_install_no_handlers() -> None:
    handlers = []

    def work() -> None:
        with handling_signals(raise_interrupted):
            handlers.extend(signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


RECIPE = """
model: {source: mobilenet_v1, width: 0.25, num_classes: 10, input_size: 32}
"""
PASSES = """
data: {name: arrays, path: images.npz, calibration: 32}
passes: [{train: {training: {epochs: 4, batch_size: 32}}}, {train: {training: {epochs: 2, batch_size: 32}}}]
export: [toy]
measure: {baseline_after: 1, rounds: 5, round_ms: 0.1, threads: [1]}
"""


def interrupt(tmp_path: Path, recipe: str, line: str, number: int) -> tuple[int, list[str], float]:
    """Send a signal to a run when it prints a line: its exit code, the rest of its lines, and seconds to its last line."""
    (tmp_path / "long.yaml").write_text(recipe)
    environment = {**os.environ, "MBCOMPRESS_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mbcompress", "run", "long.yaml", "--out", "run"]
    foreground = signal.signal(signal.SIGINT, signal.default_int_handler)  # which the process inherits
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        signal.signal(signal.SIGINT, foreground)
        assert process.stderr is not None
        for text in process.stderr:
            if text.startswith(line):
                break
        time.sleep(0.3)  # the line itself is written completely
        start = time.monotonic()
        process.send_signal(number)
        rest = []
        for text in process.stderr:
            rest.append(text.rstrip())
            if text.startswith("mbcompress: interrupted"):
                seconds = time.monotonic() - start
    return process.returncode, rest, seconds


def test_a_signal_ends_a_training_that_is_saved(tmp_path: Path) -> None:
    recipe = f"{RECIPE}data: {{name: digits}}\npasses: [{{train: {{training: {{epochs: 200}}}}}}]\n"
    code, lines, _ = interrupt(tmp_path, recipe, "train, epoch 1/200", signal.SIGTERM)
    assert code == 143
    assert lines[-2:] == [
        "interrupted: stopping after this optimizer step; interrupt again to stop immediately",
        "mbcompress: interrupted; the same command resumes it",
    ]
    assert not (tmp_path / "run").exists()
    (saved,) = (tmp_path / "cache" / "checkpoints").glob("*/*.checkpoint")
    assert saved.stat().st_size > 1000


@pytest.mark.parametrize(
    "work", ["import time; print('busy', flush=True); time.sleep(60)", "print('busy')\n        while True: pass"]
)
def test_a_signal_ends_a_pass_without_progress(
    work: str, toy: dict[str, Any], install: Install, tmp_path: Path
) -> None:
    install("mb-squeeze", SQUEEZE.replace("return model", work) + OFFERS_SQUEEZE)
    recipe = json.dumps({**toy, "passes": ["squeeze"]})
    code, lines, seconds = interrupt(tmp_path, recipe, "squeeze: busy", signal.SIGINT)
    assert code == 130
    assert lines == ["mbcompress: interrupted; the same command resumes it"]
    assert seconds < 5  # a fraction of a second on a machine that does nothing else
    assert not (tmp_path / "run").exists()


def test_runs_that_are_killed_end_like_one_that_was_not(tmp_path: Path) -> None:
    """The short version of `make crash`."""
    assert crash(tmp_path, kills=1, seed=0, recipe=RECIPE + PASSES)
