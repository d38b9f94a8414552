"""The cache of passes: what is taken from it, what must not be, and damage."""

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plugin_packages import OFFERS_SQUEEZE, SQUEEZE, Install
from toys import Lines
from toys import toy as toy

import mbcompress
from mbcompress.cache.eviction import evict, items
from mbcompress.cache.fingerprints import data_fingerprint, distribution_hash, model_fingerprint, source_hash
from mbcompress.cache.keys import pass_key
from mbcompress.cache.settings import cache_limit
from mbcompress.cache.store import Store, lock_of
from mbcompress.cli import main
from mbcompress.contract.context import Context
from mbcompress.contract.progress import Progress
from mbcompress.files import cache_folder
from mbcompress.pipeline.executor import Executor
from mbcompress.pipeline.preflight import frozen_copy
from mbcompress.recipe import from_mapping, resolve
from mbcompress.registry.discovery import Registry, discover
from mbcompress.registry.registry import Origin
from mbcompress.testing.tiny import tiny_splits

Recipe = dict[str, Any]
EXAMPLE = torch.zeros(2, 3, 32, 32)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("MBCOMPRESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Runner:
    """Carries out passes on the same small model and few images, one recipe after the other."""

    def __init__(self, folder: Path, directory: Path) -> None:
        self.folder, self.directory, self.count, self.lines = folder, directory, 0, Lines()

    def __call__(self, *passes: Any, seed: int = 0, images: int = 64, cache: bool = True, **model: Any) -> list[bool]:
        """Which of the passes came from the cache."""
        self.count += 1
        spec = {"source": "mobilenet_v1", "width": 0.25, "num_classes": 10, "input_size": 32, **model}
        registry = discover()
        recipe = {"model": spec, "data": {"name": "digits"}, "passes": list(passes), "seed": seed}
        plan = resolve(from_mapping(recipe), registry)
        torch.manual_seed(seed)
        loaded = registry.build_model(spec).load()
        splits = tiny_splits()
        data = replace(splits, train=splits.train.take(np.arange(images))).development()
        context = Context(data, frozen_copy(loaded), (3, 32, 32), torch.device("cpu"), seed, self.lines)
        store = Store(self.folder, self.lines) if cache else None
        self.run = self.directory / f"run-{self.count}"
        self.executor = Executor(plan, registry, self.run, loaded, context, store)
        start = time.monotonic()
        self.records = list(self.executor.execute())
        self.seconds = time.monotonic() - start
        return [record["cached"] for record in self.records]

    def state(self) -> dict[str, torch.Tensor]:
        state: dict[str, torch.Tensor] = self.executor.current.model.state_dict()
        return state


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> Runner:
    return Runner(folder, tmp_path)


PRUNE, TRAIN, FIRST = (
    {"prune": {"target_macs": 0.8}},
    {"train": {"training": {"epochs": 1}}},
    {"train": {"training": {"epochs": 1, "lr": 0.02}}},
)


def test_only_what_changed_is_computed(run: Runner) -> None:
    assert run(FIRST, TRAIN) == [False, False]
    cold, records = run.state(), run.records
    assert run(FIRST, TRAIN) == [True, True]
    assert all(torch.equal(cold[key], value) for key, value in run.state().items())
    assert run.records == [{**record, "cached": True} for record in records]  # with the seconds that it took then
    assert run(FIRST, {"train": {"training": {"epochs": 1, "lr": 0.01}}}) == [True, False]
    assert run(PRUNE, TRAIN) == [False, False]
    assert run(FIRST, TRAIN, seed=1) == [False, False]
    assert run(FIRST, TRAIN, images=63) == [False, False]
    assert run(FIRST, TRAIN, dropout=0.0) == [False, False]
    assert run(FIRST, TRAIN, cache=False) == [False, False]
    assert 0 < sum(record["seconds"] for record in run.records) < run.seconds  # each pass has its own
    assert run(FIRST, TRAIN) == [True, True]
    assert run.lines.lines == []


def test_a_step_from_the_cache_is_a_step_of_the_run(run: Runner) -> None:
    run(PRUNE)
    run(PRUNE)
    step = run.run / "passes" / "01-prune"
    assert {path.name for path in step.iterdir()} == {"architecture.json", "metrics.json", "state.safetensors"}
    with torch.no_grad():
        assert torch.equal(mbcompress.load(step)(EXAMPLE), run.executor.current.model(EXAMPLE))


def test_the_same_command_again(toy: Recipe, tmp_path: Path) -> None:
    recipe = {**toy, "passes": [PRUNE]}
    first, again = (mbcompress.compress(None, recipe, out=tmp_path / name) for name in ("first", "again"))
    assert [step["cached"] for each in (first, again) for step in each.report["passes"]] == [False, True]
    assert "from the cache" not in (first.path / "report.md").read_text()
    assert "from the cache" in (again.path / "report.md").read_text()
    assert "from the cache" in (again.path / "report.html").read_text()
    assert first.report["result"]["accuracy"] == again.report["result"]["accuracy"]


def test_a_plugins_code_and_version_count(run: Runner, install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    code = SQUEEZE + OFFERS_SQUEEZE
    install("mb-squeeze", code)
    assert run("squeeze", TRAIN) == [False, False]
    assert run("squeeze", TRAIN) == [True, True]
    source_hash.cache_clear()  # as in another process
    install("mb-squeeze", code.replace("return model", "return model  # edited"), into="edited")
    assert run("squeeze") == [False]
    source_hash.cache_clear()
    install("mb-squeeze", code, version="1.3", into="newer")
    assert run("squeeze") == [False]


class FromHere(mbcompress.Pass):
    """A class of the program's own."""

    name = "from_here"

    def apply(self, model: Any, context: Any) -> Any:
        return model


def test_passes_of_the_callers_own(run: Runner) -> None:
    assert run(FromHere()) == [False]
    assert run(FromHere()) == [True]
    namespace: dict[str, Any] = {"mbcompress": mbcompress, "__name__": "__main__"}
    exec("class Typed(mbcompress.Pass):\n    name = 'typed'\n    apply = lambda self, model, context: model", namespace)
    for _ in range(2):  # nobody can say whether its code is the same
        assert run(namespace["Typed"]()) == [False]


def test_failures_are_not_kept(run: Runner, install: Install, folder: Path) -> None:
    with pytest.raises(mbcompress.MbcompressError, match="cannot be reached"):
        run(PRUNE, {"prune": {"target_macs": 0.001}})
    assert [item.name for item in items(folder)] == ["prune"]  # the one before it
    install("mb-squeeze", SQUEEZE.replace("return model", "raise ValueError('no luck')") + OFFERS_SQUEEZE)
    for _ in range(2):
        with pytest.raises(mbcompress.PassError, match="no luck"):
            run("squeeze")
    assert [item.name for item in items(folder)] == ["prune"]


def test_results_that_are_not_finite_are_not_kept(run: Runner, install: Install, folder: Path) -> None:
    infinite = "list(model.parameters())[0].data[0] = float('inf'); return model"
    install("mb-squeeze", SQUEEZE.replace("return model", infinite) + OFFERS_SQUEEZE)
    for _ in range(2):
        assert run("squeeze") == [False]
    assert items(folder) == []


@pytest.mark.parametrize("file", ["state.safetensors", "architecture.json", "metrics.json", "entry.json"])
@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_damaged_entry_is_as_good_as_none(folder: Path, run: Runner, file: str, damage: str) -> None:
    run(FIRST)
    (path,) = folder.glob(f"passes/*/{file}")
    if damage == "gone":
        path.unlink()
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(b"[]" if file == "entry.json" else content)
    assert run(FIRST) == [False]
    (line,) = run.lines.lines
    assert line.startswith("cache: the entry of 'train' is damaged (")
    assert line.endswith("); computing it again")
    assert run(FIRST) == [True]


def test_a_cache_that_cannot_be_written_is_said_and_done_without(run: Runner, folder: Path) -> None:
    folder.write_text("a file")
    assert run(PRUNE) == [False]
    assert all(line.startswith("cache: ") for line in run.lines.lines)
    assert run.lines.lines


def test_one_waits_for_the_other(tmp_path: Path) -> None:
    order: list[str] = []
    inside, told = threading.Event(), Lines()

    def first() -> None:
        with Store(tmp_path, Progress()).claimed("key", "train"):
            inside.set()
            waited.wait(10)
            order.append("first")

    waited = threading.Event()

    class Impatient(Lines):
        def say(self, text: str) -> None:
            super().say(text)
            waited.set()

    told = Impatient()
    thread = threading.Thread(target=first)
    thread.start()
    inside.wait(10)
    with Store(tmp_path, told).claimed("key", "train"):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]
    assert told.lines == ["train: waiting for another run that computes the same pass"]


def test_eviction_takes_what_was_not_used_for_longest_and_nothing_in_use(tmp_path: Path) -> None:
    store = Store(tmp_path, Progress())
    for number in range(4):
        place = store.keep(f"key{number}", "train", lambda entry: (entry / "x").write_bytes(bytes(1000)) and None)
        assert place is not None
        os.utime(place / "entry.json", (number, number))
    assert store.find("key0", "train")  # now used last
    size = items(tmp_path)[0].bytes
    (tmp_path / "locks").mkdir()
    with lock_of(tmp_path, "key1"):
        gone = evict(tmp_path, 2 * size + size // 2)
    assert [item.key for item in gone] == ["key2", "key3"]  # key1 is in use
    assert {item.key for item in items(tmp_path)} == {"key0", "key1"}
    assert [item.key for item in evict(tmp_path, -1)] == ["key1", "key0"]


def test_an_entry_that_was_never_finished_goes_first(tmp_path: Path) -> None:
    (tmp_path / "passes" / ".key9-abc").mkdir(parents=True)
    (tmp_path / "passes" / ".key9-abc" / "x").write_bytes(b"1")
    Store(tmp_path, Progress()).keep("key1", "train", lambda entry: None)
    (whole,) = [item for item in items(tmp_path) if item.key == "key1"]
    assert [item.key for item in evict(tmp_path, whole.bytes)] == ["key9"]


def test_the_command(run: Runner, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "list"]) == 0
    assert capsys.readouterr().out == f"0 items, 0 B, in {folder}\n"
    run(PRUNE, TRAIN)
    assert main(["cache", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {(item["kind"], item["name"]) for item in listed} == {("pass", "prune"), ("pass", "train")}
    assert main(["cache", "list"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("pass         ")
    assert out[2].startswith("2 items, ")
    assert main(["cache", "prune", "--gib", "1"]) == 0
    assert capsys.readouterr().out.startswith("0 items removed, 0 B; ")
    with lock_of(folder, listed[0]["key"]):
        assert main(["cache", "clear"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("1 items not removed: in use")
    assert main(["cache", "clear"]) == 0
    assert items(folder) == []
    assert main(["cache", "prune", "--gib", "-1"]) == 2
    assert capsys.readouterr().err == "mbcompress: --gib: must be a size in GiB, at least 0, got -1.0\n"


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("MBCOMPRESS_CACHE_GIB", "much", "must be a number of GiB, at least 0, got 'much'"),
        ("MBCOMPRESS_CACHE_GIB", "-1", "must be a number of GiB, at least 0, got '-1'"),
        ("MBCOMPRESS_CHECKPOINT_SECONDS", "nan", "must be a number of seconds, at least 0, got 'nan'"),
    ],
)
def test_settings_that_are_no_numbers(
    variable: str, value: str, problem: str, toy: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(mbcompress.MbcompressError, match=f"^{variable}: {problem}$"):
        mbcompress.compress(None, {**toy, "passes": []}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_settings(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == folder
    assert cache_limit() == 10 * 2**30
    monkeypatch.setenv("MBCOMPRESS_CACHE_GIB", "0.5")
    assert cache_limit() == 2**29
    monkeypatch.delenv("MBCOMPRESS_CACHE")
    assert cache_folder().name == "mbcompress"


def test_fingerprints(tiny_model: Callable[..., Any], digits: mbcompress.Splits) -> None:
    first = model_fingerprint(tiny_model("mobilenet_v1"), EXAMPLE)
    assert model_fingerprint(tiny_model("mobilenet_v1"), EXAMPLE) == first
    changed = tiny_model("mobilenet_v1")
    next(changed.parameters()).data.view(-1)[0] += 1e-6
    frozen = tiny_model("mobilenet_v1")
    next(frozen.parameters()).requires_grad_(False)
    hooked = tiny_model("mobilenet_v1")
    hooked.register_forward_hook(lambda module, inputs, output: output + 1)
    assert len({first, *(model_fingerprint(each, EXAMPLE) for each in (changed, frozen, hooked))}) == 4
    data = digits.development()
    assert data_fingerprint(data) == data_fingerprint(digits.development())


class Dropping(torch.nn.Module):
    """What its share changes shows in training only."""

    def __init__(self, share: float, *more: float, attention: float = 0.0) -> None:
        super().__init__()
        self.share = share
        self.more = {"shares": [more, None]}
        self.layer = torch.nn.Linear(3072, 10)
        self.attention = torch.nn.MultiheadAttention(10, 2, dropout=attention)  # which does not show it

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layer(torch.dropout(images.flatten(1), self.share, self.training))
        return logits


def test_what_shows_in_training_only_belongs_to_the_key(registry: Registry, make_context: Callable[..., Any]) -> None:
    models = []
    for shares, attention in (((0.1,), 0.0), ((0.9,), 0.0), ((0.1, 0.9), 0.0), ((0.1,), 0.1)):
        torch.manual_seed(0)
        models.append(Dropping(*shares, attention=attention).eval())
    context, train = make_context(models[0]), registry.passes.build("train", {}, registry)
    keys = [pass_key(train, model, context, None, "") for model in (models[0], *models)]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4


class Masked(FromHere):
    mask: Any = None


def test_options_that_no_document_can_hold_are_not_kept(make_context: Callable[..., Any]) -> None:
    """Two long arrays look the same where they are abbreviated."""
    model = Dropping(0.5).eval()
    context = make_context(model)
    assert pass_key(Masked(), model, context, None, "") is not None
    assert pass_key(Masked(mask=np.zeros(5000)), model, context, None, "") is None


def test_sources(registry: Registry) -> None:
    assert source_hash(registry.passes.classes["qat"]) != source_hash(registry.passes.classes["prune"])
    assert source_hash(registry.passes.classes["qat"]) == source_hash(discover().passes.classes["qat"])
    # rich does not name its modules in a file for that, as setuptools does
    other, nobody = Origin("a", "rich", "1"), Origin("a", "no-such-distribution", "1")
    assert distribution_hash(other) != distribution_hash(nobody)
