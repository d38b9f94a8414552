"""Damaged recipes: as text, as data, as a program's dict, and by `-o`."""

from pathlib import Path
from random import Random
from typing import Any

import yaml

from fuzzing import damage
from fuzzing.suites import Reading
from mbcompress import recipe
from mbcompress.registry.discovery import discover

TESTS = Path(__file__).parent.parent
GOOD = sorted((TESTS.parent / "recipes").glob("*.yaml"))
BROKEN = sorted((TESTS / "broken_recipes").glob("*.yaml"))
BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
SNIPPETS = (
    "&a", "*a", "&a [*a]", "<<: *a", "!!python/object/apply:os.system [touch payload]", "!!python/name:os.abort", "!x y",
    "!!binary aGk=", "!!set {a, b}", "!!omap [a: 1]", "%YAML 9.9\n---\n", "---\n", "...\n", "? [a, b]\n: c\n", "\t", "- ",
    ": ", "#", "|\n  a\n", ">-\n  a\n", "'", '"', "\\", "[" * 40, "{" * 40, "[" * 2000, "- " * 500, "{a: " * 500, "[a, ",
    BOMB, "x" * 50_000, "9" * 5000, "0x" + "f" * 50_000, "1:" + ":".join(["59"] * 10_000), "1e" + "9" * 400, ".nan",
    ".inf", "-.INF", "2024-01-01", "2024-99-99T99:99:99Z", "0b2", "08", "1__0", "+.e1", "=", "~", "yes", "NO",
    "\ufeff", "\u2028", "\x85", "\x07", "\U0001f600" * 9, "\ud7ff", '"\\ud800"', '"\\0"', '"\\x00a"', "'\u202e'",
    "- train: {training: {epochs: 1}}\n", "  - prune\n", "seed: 1\n", "model: {}\n", "passes: []\n", "? \n", "a: " * 3,
)  # fmt: skip
OPTIONS = ("../../out", "/etc/passwd", "~nobody/x", "x\0y", "zoo:../../x", "zoo:mobilenet_v2_digits")


def _loaded(text: str) -> Any:
    """The recipe as data; None if it is no mapping."""
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


class _Recipes:
    """Reads a file or a dict, as `mbcompress validate` and `mbcompress.compress` do."""

    def __init__(self) -> None:
        self.registry = discover()
        self.good, self.broken = ([path.read_text("utf-8", "replace") for path in paths] for paths in (GOOD, BROKEN))

    def text(self, random: Random) -> str:
        """Mostly one that would run: of a broken one, nothing is seen after its mistake."""
        return random.choice(self.good if random.random() < 0.7 else self.broken)

    def content(self, random: Random) -> Any:
        """The same as data, damaged."""
        content = None
        while content is None:
            content = _loaded(self.text(random))
        return damage.in_structure(random, content)

    def read(self, path: Path, overrides: tuple[str, ...] = ()) -> None:
        self.resolve(recipe.override(recipe.read(path), overrides))

    def resolve(self, document: recipe.Document) -> None:
        recipe.resolve(document, self.registry).to_mapping()

    def write(self, folder: Path, content: bytes, overrides: tuple[str, ...] = ()) -> Reading:
        path = folder / "recipe.yaml"
        path.write_bytes(content)
        return lambda: self.read(path, overrides)


class Texts(_Recipes):
    """Bytes, lines, and snippets of YAML in the wrong place."""

    def prepare(self, random: Random, folder: Path) -> Reading:
        text = self.text(random)
        for _ in range(random.choice((1, 1, 2, 3))):
            text = _in_text(random, text)
        content = text.encode("utf-8", "surrogatepass")
        if random.random() < 0.3:
            content = damage.in_bytes(random, content)
        if random.random() < 0.02:
            content = text.encode(random.choice(("utf-16", "utf-32", "utf-8-sig", "utf-7")), "replace")
        return self.write(folder, content)


class Structures(_Recipes):
    """Values of other types, renamed keys, repeated passes; written as YAML again."""

    def prepare(self, random: Random, folder: Path) -> Reading:
        content = self.content(random)
        try:
            text = yaml.dump(content, default_flow_style=random.choice((True, False, None)), sort_keys=False)
        except (yaml.YAMLError, ValueError, RecursionError):
            text = "- " * 500
        return self.write(folder, text.encode("utf-8", "surrogatepass"))


class Mappings(_Recipes):
    """The same as dicts, with values that YAML has not: objects, loops, bytes."""

    def prepare(self, random: Random, folder: Path) -> Reading:
        content = self.content(random)
        if not isinstance(content, dict):
            content = {"model": content, "data": content, "passes": content}
        if random.random() < 0.3:
            key = random.choice(["model", "data", "passes", "seed", "budget", "measure", "export", 3, None])
            loop: list[Any] = []
            loop.append(loop)
            content[key] = random.choice(
                [object(), b"\xff", {1: 2}, {None: 3}, (1, 2), {1, 2}, int, len, content, loop]
            )
        return lambda: self.resolve(recipe.from_mapping(content))


class Overrides(_Recipes):
    """`-o key=value` on a good recipe."""

    def prepare(self, random: Random, folder: Path) -> Reading:
        text = random.choice(self.good)
        assignments = tuple(_assignment(random) for _ in range(random.choice((1, 1, 2))))
        return self.write(folder, text.encode(), assignments)


KEYS = (
    "seed", "passes", "passes.prune.target_macs", "passes.0", "passes.0.epochs", "passes[0]", "passes.99", "passes.-1",
    "model", "model.weights", "model.width", "data.name", "data.path", "export", "export.onnx", "export.0.x", "a.b.c",
    "", ".", "[", "]", "passes.²", "passes.٣.epochs", "x" * 3000, "passes.prune.recovery.epochs", "budget.x", "metrics.0",
    "passes." + "9" * 5000,
)  # fmt: skip


def _assignment(random: Random) -> str:
    if random.random() < 0.2:
        return random.choice(
            ("seed=7", "passes.0.epochs=1", "export=[onnx]", "budget.size_ratio=2", "data.calibration=9")
        )
    value = random.choice([*SNIPPETS, *OPTIONS, str(random.choice(damage.NUMBERS))])
    text = f"{random.choice(KEYS)}{random.choice(('=', '=', '=', '', '=='))}{value}"
    return text if random.random() < 0.7 else damage.in_bytes(random, text.encode()).decode("utf-8", "surrogateescape")


def _in_text(random: Random, text: str) -> str:
    lines = text.splitlines(keepends=True) or [""]
    at = random.randrange(len(lines))
    place = random.randrange(len(text) + 1)
    match random.randrange(9):
        case 0:
            del lines[at]
        case 1:
            lines.insert(random.randrange(len(lines)), lines[at])
        case 2:
            lines[at] = random.choice((" ", "   ", "\t", "- ")) + lines[at]
        case 3:
            lines[at] = lines[at].replace("  ", "\t")
        case 4:
            key, colon, _ = lines[at].partition(":")
            lines[at] = f"{key}{colon} {random.choice(SNIPPETS)}\n"
        case 5:
            _, colon, rest = lines[at].partition(":")
            lines[at] = f"{random.choice(SNIPPETS)}{colon}{rest}"
        case 6:
            return text[:place] + random.choice(SNIPPETS) + text[place:]
        case 7:
            return text[:place] + random.choice(SNIPPETS) + text[place + random.randrange(20) :]
        case 8:
            lines[at] = lines[at].replace(": ", f": &a{random.randrange(3)} ", 1)
            lines.append(f"z: *a{random.randrange(3)}\n")
    return "".join(lines)
