"""A recipe as plain data, with the location of each value in its file."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from mbcompress.errors import Location, MbcompressError, PathPart, RecipeError, brief, shown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_BYTES = 1 << 16
MAX_NODES = 20_000
MAX_DEPTH = 32
LONGEST_PROBLEM = 300  # characters; the parser can quote long anchor names
TAG = "tag:yaml.org,2002:"
TIMESTAMP = f"{TAG}timestamp"
PLAIN = {f"{TAG}{kind}" for kind in ("null", "bool", "int", "float", "str", "seq", "map")}
ADVICE = {
    "'\\t'": "indent with spaces, not with tabs",
    "mapping values are not allowed": "check the indentation, and quote text that contains a colon",
    "single document": "put each recipe in its own file",
}


@dataclass
class Document:
    """A parsed recipe.

    Attributes:
        name: name of the run: the file's stem.
        origin: the file as a location.
        data: dicts, lists and scalars.
        values: location of the value at each path.
        keys: location of the key at each path.
    """

    name: str
    origin: Location
    data: dict[str, Any]
    values: dict[tuple[PathPart, ...], Location] = field(default_factory=dict)
    keys: dict[tuple[PathPart, ...], Location] = field(default_factory=dict)

    def locate(self, path: tuple[PathPart, ...], *, at_key: bool = False) -> Location:
        """Return the location of the value at `path`, or of its innermost enclosing value."""
        if at_key and path in self.keys:
            return self.keys[path]
        while path and path not in self.values:
            path = path[:-1]
        return self.values.get(path, self.origin)

    def relocate(self, path: tuple[PathPart, ...], location: Location) -> None:
        """Set the location of the value at `path` and everything inside it."""
        for locations in (self.values, self.keys):
            for inner in [key for key in locations if key[: len(path)] == path]:
                del locations[inner]
            locations[path] = location


def from_mapping(data: Mapping[str, Any], name: str = "recipe") -> Document:
    """Create a document from a dict."""
    return Document(name, Location(name), dict(data))


def read(path: Path) -> Document:
    """Parse a recipe file.

    Raises:
        MbcompressError: the file cannot be read.
        RecipeError: it is not a YAML mapping, repeats a key, or is too large or too deep.
    """
    origin = Location(str(path))
    root = _compose(_read_text(path), origin)
    document = Document(path.stem, origin, {})
    if root is None:
        raise RecipeError(origin, "the recipe is empty; it needs at least 'model', 'data' and 'passes'")
    if not isinstance(root, yaml.MappingNode):
        value = "a list" if isinstance(root, yaml.SequenceNode) else shown(root.value)
        raise RecipeError(_location(origin, root), f"must be a mapping of 'model', 'data' and 'passes', got {value}")
    document.data = _Reader(document).convert(root, ())
    return document


def read_value(text: str, origin: Location) -> Any:
    """Parse a YAML value, with the same limits as a recipe.

    Raises:
        RecipeError: it is not YAML, repeats a key, or is too large.
    """
    node = _compose(text, origin)
    return None if node is None else _Reader(Document("", origin, {})).convert(node, ())


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise MbcompressError(f"{path}: no such recipe file{_nearest_recipe(path)}") from None
    except IsADirectoryError:
        raise MbcompressError(f"{path}: is a directory, not a recipe file") from None
    except OSError as error:
        raise MbcompressError(f"{path}: cannot be read: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise MbcompressError(f"{path}: is larger than {MAX_BYTES >> 10} KiB, so it is not a recipe")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MbcompressError(f"{path}: is not UTF-8 text (byte {error.start}), so it is not a recipe") from None


def _nearest_recipe(path: Path) -> str:
    try:
        names = [p.name for p in path.parent.iterdir() if p.suffix in {".yaml", ".yml"}]
    except OSError:
        return ""
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.7)
    return f"; did you mean {str(path.with_name(near[0]))!r}?" if near else ""


def _compose(text: str, origin: Location) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = Location(origin.source, mark.line + 1, mark.column + 1) if mark else origin
        problem = error.problem or error.context or "it cannot be parsed"
        if problem.startswith("but "):  # PyYAML puts the first half of the sentence in the context
            problem = f"{error.context}, {problem}"
        advice = next((f"; {text}" for sign, text in ADVICE.items() if sign in problem), "")
        raise RecipeError(where, f"not valid YAML: {brief(problem, LONGEST_PROBLEM)}{advice}") from None
    except yaml.reader.ReaderError as error:
        where = Location(origin.source, text.count("\n", 0, error.position) + 1)
        raise RecipeError(where, f"not valid YAML: the character {chr(error.character)!r} is not allowed") from None
    except RecursionError:
        raise RecipeError(origin, f"nested more than {MAX_DEPTH} levels deep") from None


def _location(origin: Location, node: yaml.Node) -> Location:
    return Location(origin.source, node.start_mark.line + 1, node.start_mark.column + 1)


class _Reader:
    """Converts YAML nodes and limits their number, so that nested aliases cannot expand exponentially."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.scalars = yaml.SafeLoader("")
        self.nodes = 0

    def convert(self, node: yaml.Node, path: tuple[PathPart, ...]) -> Any:
        here = _location(self.document.origin, node)
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise RecipeError(here, f"more than {MAX_NODES} values, counting those that aliases repeat")
        if len(path) > MAX_DEPTH:
            raise RecipeError(here, f"nested more than {MAX_DEPTH} levels deep")
        if node.tag not in PLAIN and node.tag != TIMESTAMP:
            raise RecipeError(here, f"tags are not supported, got '!{brief(node.tag.removeprefix(TAG).lstrip('!'))}'")
        self.document.values[path] = here
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.convert(child, (*path, index)) for index, child in enumerate(node.value)]
        return self._scalar(node, here)

    def _mapping(self, node: yaml.MappingNode, path: tuple[PathPart, ...]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            here = _location(self.document.origin, key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                raise RecipeError(here, "a key must be a word, not a list or a mapping")
            key = str(key_node.value)
            if key in result:
                first = self.document.keys[*path, key].line
                raise RecipeError(here, f"{shown(key)} is given twice, first on line {first}")
            if key == "<<":
                raise RecipeError(here, "'<<' is not supported; write the options out")
            self.document.keys[*path, key] = here
            result[key] = self.convert(value_node, (*path, key))
        return result

    def _scalar(self, node: yaml.Node, here: Location) -> Any:
        if node.tag == TIMESTAMP:
            return node.value  # recipes have no dates, so keep the text
        try:
            return self.scalars.construct_object(node)
        except (yaml.YAMLError, ValueError, LookupError, OverflowError):
            raise RecipeError(here, f"must be a plain value, got {shown(node.value)}") from None
