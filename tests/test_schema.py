"""The JSON Schema of recipes: shipped recipes are valid, structural mistakes are refused, options are described."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from jsonschema import Draft202012Validator

from mbcompress.cli import main
from mbcompress.contract.passes import Pass
from mbcompress.errors import MbcompressError
from mbcompress.recipe import read
from mbcompress.recipe.model import Recipe
from mbcompress.recipe.schema import recipe_schema
from mbcompress.registry.discovery import Origin, Registry, discover

ROOT = Path(__file__).parent.parent
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
BROKEN = sorted((ROOT / "tests" / "broken_recipes").glob("*.yaml"))
BEYOND_A_SCHEMA = {
    "prune_after_winograd": "the order of passes",
    "winograd_after_qat": "the order of passes",
    "winograd_for_onnx": "which runtimes can run the result of a pass",
    "data_folder_is_a_file": "what is on the disk",
    "data_folder_missing": "what is on the disk",
    "weights_are_a_directory": "what is on the disk",
    "weights_missing": "what is on the disk",
    "teacher_weights_missing": "what is on the disk",
    "weights_zoo_other_width": "what is in the zoo",
    "split_of_zoo_weights": "what is in the zoo",
    "split_of_a_teachers_weights": "what is in the zoo",
    "validation_of_zoo_weights": "what is in the zoo",
    "weights_zoo_unknown": "what is in the zoo",
    "teacher_baseline_random": "a teacher with random weights",
    "teacher_random": "a teacher with random weights",
    "teacher_of_another_size": "one option depends on another",
    "teacher_of_other_classes": "one option depends on another",
    "distill_after_qat": "the order of passes",
    "prune_after_qat": "the order of passes",
    "ptq_after_qat": "the order of passes",
    "qat_twice": "the order of passes",
    "measure_baseline_after_too_large": "one option depends on another",
    "prune_both_targets": "one option depends on another",
    "prune_no_target": "one option depends on another",
    "sparsify_pattern_and_scope": "one option depends on another",
    "sparsify_pattern_and_sparsity": "one option depends on another",
    "data_mean_of_two": "one value or three",
    "lr_nan": "JSON has no NaN",
    "seed_hexadecimal_too_long": "jsonschema cannot print the number that it refuses",
}
"""Broken recipes whose mistake is not structural, and the kind of the mistake."""


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return recipe_schema(discover())


@pytest.fixture(scope="module")
def problems(schema: dict[str, Any]) -> Callable[[Any], list[str]]:
    """The paths at which a recipe violates the schema."""
    validator = Draft202012Validator(schema)
    return lambda recipe: [error.json_path for error in validator.iter_errors(recipe)]


def test_is_a_schema(schema: dict[str, Any]) -> None:
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    assert json.loads(json.dumps(schema)) == schema


def test_has_the_keys_of_a_recipe(schema: dict[str, Any]) -> None:
    assert set(schema["properties"]) == set(Recipe.model_fields)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_are_valid(path: Path, problems: Callable[[Any], list[str]]) -> None:
    assert problems(read(path).data) == []


def test_broken_recipes_are_refused(problems: Callable[[Any], list[str]]) -> None:
    refused = []
    for path in BROKEN:
        try:
            recipe = read(path).data
        except MbcompressError:
            continue  # not YAML or not a mapping: an editor reports it without a schema
        if path.stem in BEYOND_A_SCHEMA:
            continue
        assert problems(recipe), f"{path.stem}: if no schema can say this, name it in BEYOND_A_SCHEMA"
        refused.append(path.stem)
    print(f"{len(refused)} of {len(BROKEN)} broken recipes are refused by the schema")
    assert len(refused) >= 58


def test_what_is_beyond_a_schema_is_listed(problems: Callable[[Any], list[str]]) -> None:
    """The list of exceptions does not hide mistakes that the schema could find."""
    for path in BROKEN:
        if path.stem in BEYOND_A_SCHEMA and path.stem != "seed_hexadecimal_too_long":
            assert problems(read(path).data) == [], path.stem
    assert set(BEYOND_A_SCHEMA) <= {path.stem for path in BROKEN}


GOOD = {
    "model": {"source": "mobilenet_v2", "num_classes": 10},
    "data": {"name": "digits"},
    "passes": [{"prune": {"target_macs": 0.5}}],
}


@pytest.mark.parametrize(
    "change",
    [
        {"passes": []},
        {"passes": ["train", {"qat": None}, {"qat": {}}]},
        {"passes": [{"distill": {"teacher": "baseline"}}]},
        {"passes": [{"distill": {"teacher": {"source": "mobilenet_v1", "num_classes": 10}}}]},
        {"passes": [{"qat": {"distillation": None}}]},
        {"passes": [{"prune": {"target_macs": 0.5, "recovery": {"epochs": 3}}}]},
        {"export": ["onnx"], "measure": None, "budget": None, "seed": 2**32 - 1},
        {"measure": {"threads": [1, 2]}, "budget": {"accuracy_drop": 1}},
    ],
    ids=json.dumps,
)
def test_valid_forms(change: dict[str, Any], problems: Callable[[Any], list[str]]) -> None:
    assert problems({**GOOD, **change}) == []


@pytest.mark.parametrize(
    "change",
    [
        {"passes": [{"distill": {"teacher": {"source": "mobilenet_v1"}}}]},
        {"passes": [{"distill": {"teacher": {"source": "mobilenet_v1", "num_classes": 10, "wdith": 1}}}]},
        {"passes": [{}]},
        {"export": [{"onnx": {"opset": "20"}}]},
        {"data": {"name": "digits", "path": "x"}},
        {"seed": 2**32},
    ],
    ids=json.dumps,
)
def test_invalid_forms(change: dict[str, Any], problems: Callable[[Any], list[str]]) -> None:
    assert problems({**GOOD, **change})


def test_every_option_is_described(schema: dict[str, Any], registry: Registry) -> None:
    """Editors show the description and the default of every option of every component."""
    titled = {item["title"]: item for item in schema["$defs"].values() if "title" in item}
    for kind in registry.kinds:
        for cls, _ in kind:
            options = titled[f"{kind.name} {cls.name}"]
            assert options["additionalProperties"] is False
            assert options["description"].startswith(cls.summary())
            for name, field in cls.model_fields.items():
                assert options["properties"][name]["description"] == field.description
    assert titled["pass prune"]["properties"]["round_to"]["default"] is None


class Halve(Pass):
    """A plugin's pass, with an option that JSON has no type for."""

    name: ClassVar[str] = "halve"
    layer: type[int]
    where: frozenset[str] = frozenset()

    def apply(self, model: Any, context: Any) -> Any:
        return model


def test_installed_plugins_are_included() -> None:
    registry = discover()
    registry.passes.register(Halve, Origin("halve", "mb-halve", "1.0"))
    schema = recipe_schema(registry)
    validator = Draft202012Validator(schema)
    Draft202012Validator.check_schema(schema)
    assert validator.is_valid({**GOOD, "passes": [{"halve": {"layer": "anything", "where": ["a"]}}]})
    assert not validator.is_valid({**GOOD, "passes": [{"halve": {"layer": "anything", "were": []}}]})
    assert not validator.is_valid({**GOOD, "passes": ["halve"]})  # `layer` is required


def test_nothing_installed_is_still_a_schema() -> None:
    schema = recipe_schema(Registry())
    Draft202012Validator.check_schema(schema)
    assert not Draft202012Validator(schema).is_valid(GOOD)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], schema: dict[str, Any]) -> None:
    assert main(["schema"]) == 0
    out, err = capsys.readouterr()
    assert (json.loads(out), err) == (schema, "")
    path = tmp_path / "recipe.schema.json"
    assert main(["schema", "--out", str(path)]) == 0
    assert capsys.readouterr().out == ""
    assert json.loads(path.read_text()) == schema
    assert main(["schema", "--out", str(path / "x")]) == 2
    assert capsys.readouterr().err == f"mbcompress: {path / 'x'}: cannot be written: Not a directory\n"


def test_command_answers_without_torch() -> None:
    code = "import sys; from mbcompress.cli import main; main(['schema']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
