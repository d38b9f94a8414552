"""docs/rooms.svg: the rooms of mbcompress in layers, with the imports between them, counted from the source."""

from __future__ import annotations

import ast
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CORE = Path(__file__).parents[2] / "mbcompress"
BASE = ("errors", "files")
"""Modules that every room may import; the picture does not draw these imports."""
BOX, GAP, HEIGHT, RISE = 132, 26, 40, 74  # width of a box, space beside it, its height, space above it
BEND = 34  # width of the lane of an arrow that passes a layer
PORT = 18  # distance between arrows at a box
STYLE = """
  text { font: 15px system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; fill: #1d1c1a; text-anchor: middle; }
  text.count { font-size: 12px; paint-order: stroke; stroke: #fffefa; stroke-width: 5px; }
  rect { fill: #e8f0f7; stroke: #1f6aa5; stroke-width: 1.2; }
  rect.paper { fill: #fffefa; stroke: none; }
  path { fill: none; stroke: #8a867c; stroke-width: 1.4; }
  path.head { fill: #8a867c; stroke: none; }
""".strip("\n")


class Import(NamedTuple):
    """An import; `lazy` inside a function. Imports for type checkers only do not count."""

    module: str
    names: tuple[str, ...]
    lazy: bool

    @property
    def room(self) -> str:
        """The room, or module at the root, that is imported from; '' for the root itself."""
        return self.module.partition(".")[2].partition(".")[0]


def imports(path: Path, prefix: str = "mbcompress.") -> list[Import]:
    """The imports in a file of modules that begin with `prefix`; a plain `import mbcompress` does not count.

    `from mbcompress import x` is an import of the room `x` if there is one.
    """
    listed = _imports(ast.parse(path.read_text(encoding="utf-8")), lazy=False)
    return [imported for imported in listed if f"{imported.module}.".startswith(prefix)]


def _imports(node: ast.AST, *, lazy: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ImportFrom) and child.module:
            names = tuple(alias.name for alias in child.names)
            rooms = [name for name in names if child.module == "mbcompress" and name in ROOMS]
            yield from (Import(f"mbcompress.{name}", (), lazy) for name in rooms)
            if others := tuple(name for name in names if name not in rooms):
                yield Import(child.module, others, lazy)
        elif isinstance(child, ast.Import):
            yield from (Import(alias.name, (), lazy) for alias in child.names if alias.name != "mbcompress")
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        else:
            yield from _imports(child, lazy=lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))


def room_of(path: Path) -> str:
    """The room of a file of the core; modules at the root are rooms of their own."""
    return path.relative_to(CORE).parts[0].removesuffix(".py")


ROOMS = tuple(sorted({room_of(path) for path in CORE.rglob("*.py")} - {"__init__", "__main__", "passes"}))
"""All but `passes`, which only names the built-in plugins."""


def edges(*, lazy: bool) -> Counter[tuple[str, str]]:
    """How many imports of one room there are in another: {(importing, imported): count}."""
    counted = Counter(
        (room_of(path), imported.room)
        for path in CORE.rglob("*.py")
        for imported in imports(path)
        if imported.room and (lazy or not imported.lazy)
    )
    drawn = set(ROOMS) - set(BASE)
    return Counter({edge: n for edge, n in counted.items() if edge[0] != edge[1] and set(edge) <= drawn})


def layers(graph: Mapping[tuple[str, str], int]) -> dict[str, int]:
    """The layer of each room: one above the highest room that it imports."""
    level: dict[str, int] = {}

    def place(room: str, above: tuple[str, ...]) -> int:
        if room not in level:
            below = [target for source, target in graph if source == room and target not in above]
            level[room] = 1 + max((place(target, (*above, room)) for target in below), default=-1)
        return level[room]

    for room in ROOMS:
        if room not in BASE:
            place(room, (room,))
    return level


def essential(graph: Mapping[tuple[str, str], int]) -> list[tuple[str, str]]:
    """The imports that no longer path of imports implies."""

    def reaches(start: str, end: str) -> bool:
        return start == end or any(reaches(target, end) for source, target in graph if source == start)

    return [
        (source, target)
        for source, target in graph
        if not any(s == source and t != target and reaches(t, target) for s, t in graph)
    ]


def picture() -> str:
    """The SVG document."""
    every = edges(lazy=True)
    level = layers(edges(lazy=False))
    downward = {edge: n for edge, n in every.items() if level[edge[0]] > level[edge[1]]}
    chains = [_chain(edge, level) for edge in sorted(essential(downward))]
    position = _positions(level, chains)
    width = max(x for x, _ in position.values()) + BOX / 2 + GAP
    height = max(y for _, y in position.values()) + HEIGHT + RISE
    starts, ends = _ports(chains, position, 0), _ports(chains, position, -1)
    parts = []
    for chain, start, end in zip(chains, starts, ends, strict=True):
        points = [(start, position[chain[0]][1]), *(position[bend] for bend in chain[1:-1])]
        parts.append(_arrow([*points, (end, position[chain[-1]][1])], downward[chain[0], chain[-1]]))
    parts += [_box(room, *position[room]) for room in sorted(level)]
    parts.append(_box(", ".join(BASE), width / 2, height - HEIGHT / 2 - GAP, width - 2 * GAP))
    title = "Rooms of mbcompress; an arrow points to the room that is imported, with the number of imports."
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img">'
    paper = f'<rect class="paper" width="{width:g}" height="{height:g}"/>'
    return "\n".join([head, f"<title>{title}</title>", f"<style>\n{STYLE}\n</style>", paper, *parts, "</svg>"]) + "\n"


def _chain(edge: tuple[str, str], level: Mapping[str, int]) -> list[str]:
    """The rooms of an edge with a bend, 'a>b@2', in every layer between them."""
    source, target = edge
    bends = [f"{source}>{target}@{layer}" for layer in range(level[source] - 1, level[target], -1)]
    return [source, *bends, target]


def _positions(level: Mapping[str, int], chains: list[list[str]]) -> dict[str, tuple[float, float]]:
    """Centres of boxes and bends; rows are ordered by the mean position of their neighbours (Sugiyama 1981)."""
    rows: list[list[str]] = [[] for _ in range(max(level.values()) + 1)]
    for room in sorted(level):
        rows[level[room]].append(room)
    for chain in chains:
        for bend in chain[1:-1]:
            rows[int(bend.rpartition("@")[2])].append(bend)
    neighbours: dict[str, list[str]] = {}
    for chain in chains:
        for upper, lower in pairwise(chain):
            neighbours.setdefault(upper, []).append(lower)
            neighbours.setdefault(lower, []).append(upper)
    x = {name: place for row in rows for name, place in _spread(row).items()}
    for sweep in range(24):
        for row in rows if sweep % 2 == 0 else reversed(rows):
            means = {n: sum(x[m] for m in neighbours.get(n, [n])) / len(neighbours.get(n, [n])) for n in row}
            row.sort(key=lambda name, means=means: (means[name], name))  # type: ignore[misc]
            x |= _spread(row)
    left = min(x[name] - BOX / 2 for name in x) - GAP
    top = len(rows) - 1
    return {
        name: (round(x[name] - left), (top - number) * (HEIGHT + RISE) + GAP + HEIGHT / 2)
        for number, row in enumerate(rows)
        for name in row
    }


def _spread(row: list[str]) -> dict[str, float]:
    """Places in a row with room for each, centred on 0."""
    widths = [BEND if ">" in name else BOX + GAP for name in row]
    starts = [sum(widths[:index]) - sum(widths) / 2 for index in range(len(row))]
    return {name: start + width / 2 for name, start, width in zip(row, starts, widths, strict=True)}


def _ports(chains: list[list[str]], position: Mapping[str, tuple[float, float]], end: int) -> list[float]:
    """Where each arrow leaves (`end` 0) or reaches (-1) its box: side by side, in the order of the other ends."""
    places = []
    for chain in chains:
        others = [other for other in chains if other[end] == chain[end]]
        others.sort(key=lambda other: position[other[1 if end == 0 else -2]][0])
        places.append(position[chain[end]][0] + PORT * (others.index(chain) - (len(others) - 1) / 2))
    return places


def _box(text: str, x: float, y: float, width: float = BOX) -> str:
    corner = f'x="{x - width / 2:g}" y="{y - HEIGHT / 2:g}"'
    box = f'<rect {corner} width="{width:g}" height="{HEIGHT}" rx="6"/>'
    return f'{box}<text x="{x:g}" y="{y + 5:g}">{text}</text>'


def _arrow(points: list[tuple[float, float]], count: int) -> str:
    curves = []
    for (x0, y0), (x1, y1) in pairwise(points):
        start, end = y0 + HEIGHT / 2, y1 - HEIGHT / 2
        middle = (start + end) / 2
        curves.append(f"M{x0:g} {start:g}C{x0:g} {middle:g} {x1:g} {middle:g} {x1:g} {end:g}")
    curves += [f"M{x:g} {y - HEIGHT / 2:g}V{y + HEIGHT / 2:g}" for x, y in points[1:-1]]
    x, y = points[-1]
    tip = y - HEIGHT / 2
    head = f'<path class="head" d="M{x:g} {tip:g}l-5 -9h10z"/>'
    (x0, y0), (x1, y1) = points[0], points[1]
    drop = y0 + HEIGHT / 2 + 0.36 * (y1 - y0 - HEIGHT)
    label = f'<text class="count" x="{x0 + 0.3 * (x1 - x0):g}" y="{drop + 4:g}">{count}</text>'
    return f'<path d="{"".join(curves)}"/>{head}{label}'
