"""Reading recipes: values with their locations, limits, and only one kind of error for any file."""

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mbcompress.errors import Location, MbcompressError, RecipeError, SpecError, dotted, shown, unknown
from mbcompress.pipeline.run_directory import RUNS, default_directory
from mbcompress.recipe import Recipe, from_mapping, read, resolve
from mbcompress.recipe.document import MAX_BYTES, MAX_NODES, Document, read_value
from mbcompress.registry.discovery import Registry, discover

GOOD = """\
# a recipe with a bit of everything
model: {source: mobilenet_v2, width: 0.5, num_classes: 10, input_size: 32, strides_removed: 2}
data: {name: digits, validation: 0.1}
passes:
  - prune: {criterion: l1, target_macs: 0.5, round_to: 16, iterative_steps: 3, recovery: {epochs: 1, lr: 1e-3}}
  - distill:
      teacher:
        source: mobilenet_v1
        num_classes: 10
        input_size: 32
        width: 0.5
        strides_removed: 1
        weights: "zoo:mobilenet_v1_digits"
      temperature: 4.0
  - train
  - qat: {distillation: null, training: {epochs: 2}}
export: [onnx]
measure: {rounds: 10, threads: [1, 2], baseline_after: 1}
budget: {accuracy_drop: 1.0, int8_share: 0.95}
seed: 0
"""
EXTREMES = (
    "-1",
    "0",
    "1e400",
    "-1e400",
    ".nan",
    "-.inf",
    "9" * 30,
    "9" * 5000,
    "0x" + "f" * 30,
    "1e-320",
    "0.999999999999999999",
    "null",
    "''",
    "true",
    "[]",
    "{}",
    "!!int",
    "&a",
    "*a",
    "2001-99-99",
    "1:60:99",
    "\\",
    "'",
    '"',
    "\t",
    "\x00",
    "🙂",
    "<<",
)


@pytest.fixture(scope="module")
def installed() -> Registry:
    return discover()


def write(directory: Path, text: str | bytes) -> Path:
    path = directory / "recipe.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_data_and_locations(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    document = read(path)
    assert document.name == "recipe"
    assert document.data["passes"][1]["distill"]["temperature"] == 4.0
    assert str(document.locate(("passes", 1, "distill", "temperature"))) == f"{path}:14:20"
    assert str(document.locate(("passes", 1, "distill", "temperature"), at_key=True)) == f"{path}:14:7"
    assert str(document.locate(("passes", 1, "distill", "alpha"))) == f"{path}:7:7"
    assert str(document.locate(())) == f"{path}:2:1"


def test_resolved_recipe_resolves_to_an_equal_one(tmp_path: Path, installed: Registry) -> None:
    plan = resolve(read(write(tmp_path, GOOD)), installed)
    again = resolve(from_mapping(plan.to_mapping(), plan.name), installed)
    assert again == plan
    assert [step.name for step in plan.passes] == ["prune", "distill", "train", "qat"]
    assert plan.measure.threads == (1, 2)


def test_model_and_data_may_come_from_the_caller(installed: Registry) -> None:
    plan = resolve(from_mapping({"passes": ["train"]}), installed, ["model", "data"])
    assert (plan.model, plan.data) == (None, None)
    with pytest.raises(RecipeError, match="'data' is missing"):
        resolve(from_mapping({"passes": ["train"]}), installed, ["model"])


def test_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    assert read(write(tmp_path, b"\xef\xbb\xbf" + b"seed: 3\r\npasses: []\r\n")).data == {"seed": 3, "passes": []}


def test_aliases_are_copies(tmp_path: Path) -> None:
    data = read(write(tmp_path, "passes: [train: &mine {epochs: 3}, distill: *mine]\n")).data
    first, second = data["passes"]
    assert first["train"] == second["distill"]
    assert first["train"] is not second["distill"]


def test_dates_are_names(tmp_path: Path) -> None:
    assert read(write(tmp_path, "data: 2024-01-31\n")).data == {"data": "2024-01-31"}


@pytest.mark.parametrize("text", ["!!python/object/apply:os.system [ls]", "!!set {a}", "!mine {a: 1}", "!!binary aGk="])
def test_tags_are_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="tags are not supported, got '!"):
        read_value(text, Location("value"))


def test_limits(tmp_path: Path) -> None:
    assert len(read_value(f"[{'1,' * (MAX_NODES - 1)}]", Location("value"))) == MAX_NODES - 1
    with pytest.raises(RecipeError, match="more than 20000 values"):
        read_value(f"[{'1,' * MAX_NODES}]", Location("value"))
    assert read(write(tmp_path, "a: 1 #" + "x" * (MAX_BYTES - 6))).data == {"a": 1}
    with pytest.raises(MbcompressError, match="larger than 64 KiB"):
        read(write(tmp_path, "a: 1 #" + "x" * (MAX_BYTES - 5)))


def test_location_of_an_error() -> None:
    document = Document("r", Location("r.yaml"), {}, {(): Location("r.yaml", 1, 1), ("a",): Location("r.yaml", 2, 4)})
    assert str(document.locate(("a", 0, "b"))) == "r.yaml:2:4"
    assert str(document.locate(("b",), at_key=True)) == "r.yaml:1:1"
    assert str(SpecError(("b", 0), "is wrong").under("a")) == "a.b[0]: is wrong"
    assert str(SpecError((), "is wrong")) == "is wrong"


def test_paths() -> None:
    assert dotted(("passes", 1, "prune")) == "passes[1].prune"
    assert dotted(("passes", "a.b", "", "c\nd")) == r"passes['a.b']['']['c\nd']"


def test_shown_values() -> None:
    assert [shown(value) for value in (None, True, 1.5, "a\nb", [None])] == ["null", "true", "1.5", r"'a\nb'", "[None]"]
    assert shown("x" * 1000) == f"'{'x' * 99}…"
    assert shown(16**5000) == "something too large to show"


def test_unknown_names() -> None:
    assert unknown("pass", "prnue", ["train", "prune"]) == (
        "unknown pass 'prnue'; did you mean 'prune'? (known: prune, train)"
    )
    assert unknown("pass", "PRUNE", ["prune"]) == "unknown pass 'PRUNE'; did you mean 'prune'? (known: prune)"
    assert unknown("pass", None, []) == "unknown pass null (known: none)"
    assert unknown("pass", "zzz", ["prune"]) == "unknown pass 'zzz' (known: prune)"


def flip_byte(text: bytes, position: int, value: int) -> bytes:
    return text[:position] + bytes([value]) + text[position + 1 :]


def delete(text: bytes, position: int, value: int) -> bytes:
    return text[:position] + text[position + value :]


def repeat(text: bytes, position: int, value: int) -> bytes:
    return text[:position] + text[max(position - value, 0) :]


def swap_lines(text: bytes, position: int, value: int) -> bytes:
    lines = text.splitlines(keepends=True)
    if not lines:
        return text
    first, second = position % len(lines), value % len(lines)
    lines[first], lines[second] = lines[second], lines[first]
    return b"".join(lines)


def replace_value(text: bytes, position: int, value: int) -> bytes:
    """Replace a number or word with an extreme value."""
    found = list(re.finditer(rb"[\w.]+", text))
    if not found:
        return text
    start, end = found[position % len(found)].span()
    return text[:start] + EXTREMES[value % len(EXTREMES)].encode() + text[end:]


MUTATIONS = st.tuples(
    st.sampled_from([flip_byte, delete, repeat, swap_lines, replace_value, replace_value, replace_value]),
    st.integers(0, len(GOOD.encode()) - 1),
    st.integers(0, 255),
)


@settings(derandomize=True, deadline=None, max_examples=400, database=None, suppress_health_check=list(HealthCheck))
@given(mutations=st.lists(MUTATIONS, min_size=1, max_size=4))
def test_any_file_is_a_recipe_or_one_error(
    mutations: list[tuple[object, int, int]], tmp_path_factory: pytest.TempPathFactory, installed: Registry
) -> None:
    text = GOOD.encode()
    for mutate, position, value in mutations:
        text = mutate(text, position, value)  # type: ignore[operator]
    path = write(tmp_path_factory.getbasetemp(), text)
    try:
        plan = resolve(read(path), installed)
    except MbcompressError as error:
        message = str(error)
        assert message.startswith(str(path))
        assert len(message.splitlines()) == 1
        assert len(message) < len(str(path)) + 1000
    else:
        assert isinstance(plan, Recipe)


@pytest.mark.parametrize("name", ["...yaml", ".yaml", "~.yaml", "-.yaml", "con.yaml", "a\nb.yaml"])
def test_a_name_stays_inside_the_runs_directory(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(GOOD)
    assert default_directory(read(tmp_path / name).name).parent == RUNS
