"""Bring what architecture.md and results.md take from pyproject.toml and the code up to date.

Run it in the repository's root after a change of the import contract, of a room's docstring, of
train_one_fold.py or of the registry of result tables:
``.venv/bin/python docs/update_architecture.py``.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from mgmt_ray.selection.result_columns import RESULT_COLUMNS
from mgmt_ray.statistics.result_tables import RESULT_TABLES

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "mgmt_ray"
EXAMPLE = REPOSITORY / "docs" / "train_one_fold.py"

WIDTH = 46
"""Letters between the outer walls of the picture."""

NAMES = {"ray": "Ray", "mlflow": "MLflow", "torch": "torch"}


def contracts(kind: str) -> list[Mapping[str, Any]]:
    """The import contracts of a kind, in their order."""
    content = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    return [c for c in content["tool"]["importlinter"]["contracts"] if c["type"] == kind]


def floors() -> list[list[str]]:
    """The rooms of each layer, from the roof down."""
    (contract,) = contracts("layers")
    return [[room.strip() for room in layer.split("|")] for layer in contract["layers"]]


def picture(layers: list[list[str]]) -> str:
    """The layers one upon another; rooms of one layer stand side by side."""
    walls = [_walls(len(rooms)) for rooms in layers]
    lines = [_ceiling([0, WIDTH + 1], walls[0])]
    for number, (rooms, own) in enumerate(zip(layers, walls, strict=True)):
        widths = [right - left - 1 for left, right in pairwise(own)]
        cells = (room.center(width) for room, width in zip(rooms, widths, strict=True))
        lines.append(f"│{'│'.join(cells)}│")
        below = walls[number + 1] if number + 1 < len(walls) else None
        lines.append(_ceiling(own, below))
    first, last = lines[0], lines[-1]
    lines[0] = f"┌{first[1:-1]}┐"
    lines[-1] = f"└{last[1:-1]}┘"
    return "\n".join(lines)


def _walls(num_rooms: int) -> list[int]:
    return [round(i * (WIDTH + 1) / num_rooms) for i in range(num_rooms + 1)]


def _ceiling(above: list[int], below: list[int] | None) -> str:
    """The line between two layers."""
    line = ["─"] * (WIDTH + 2)
    for wall in above:
        line[wall] = "┴"
    for wall in below or ():
        line[wall] = "┼" if line[wall] == "┴" else "┬"
    return f"├{''.join(line[1:-1])}┤"


def describe(room: str) -> str:
    """The first paragraph of a room's docstring."""
    folder = PACKAGE / room
    file = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return text.partition("\n\n")[0].replace("\n", " ").replace("``", "`")


def rooms() -> str:
    """The picture, and a table of the rooms."""
    layers = floors()
    rows = ["| room | what is in it |", "|---|---|"]
    for room in (room for layer in layers for room in layer):
        shown = f"{room}/" if (PACKAGE / room).is_dir() else f"{room}.py"
        rows.append(f"| `{shown}` | {describe(room)} |")
    return f"```text\n{picture(layers)}\n```\n\n" + "\n".join(rows)


def imports() -> str:
    """Who may import what, of the contracts that forbid it to all others."""
    rows = ["| library | imported in |", "|---|---|"]
    for contract in contracts("forbidden"):
        (library, *others) = contract["forbidden_modules"]
        allowed = [rule.partition(" -> ")[0] for rule in contract.get("ignore_imports", ())]
        if others or not allowed:
            continue
        shown = (
            f"`{module.removeprefix('mgmt_ray.').removesuffix('.**').replace('.', '/')}"
            f"{'/' if module.endswith('.**') else '.py'}`"
            for module in allowed
        )
        rows.append(f"| {NAMES[library]} | {', '.join(shown)} |")
    return "\n".join(rows)


def example() -> str:
    """The file that trains one fold."""
    return f"```python\n{EXAMPLE.read_text(encoding='utf-8').rstrip()}\n```"


def tables() -> str:
    """The tables of results with their contents and columns."""
    rows = ["| file in `ensembles/` | content | columns |", "|---|---|---|"]
    for name, table in RESULT_TABLES.items():
        bounds = ("_low", "_high")  # of an interval, whose value has a column of its own
        columns = (f"`{column}`" for column in table.columns if not column.endswith(bounds))
        rows.append(f"| `{name}.csv` | {table.content} | {', '.join(columns)} |")
    return "\n".join(rows)


def columns() -> str:
    """The columns of these tables with their meaning."""
    rows = ["| column | meaning |", "|---|---|"]
    rows += [f"| `{name}` | {column.meaning} |" for name, column in RESULT_COLUMNS.items()]
    return "\n".join(rows)


PAGES: dict[str, dict[str, Callable[[], str]]] = {
    "architecture.md": {"rooms": rooms, "imports": imports, "example": example},
    "results.md": {"tables": tables, "columns": columns},
}
"""The parts of each page that are made here."""


def updated(name: str) -> str:
    """The page of this name with every part between its two marks made anew."""
    page = (REPOSITORY / "docs" / name).read_text(encoding="utf-8")
    for part, make in PAGES[name].items():
        begin, end = f"<!-- {part}: made by update_architecture.py -->", f"<!-- end of {part} -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        assert len(pattern.findall(page)) == 1, f"{name}: has not one part {part}"
        text = f"{begin}\n\n{make()}\n\n{end}"
        page = pattern.sub(lambda _, text=text: text, page)
    return page


if __name__ == "__main__":
    for page in PAGES:
        (REPOSITORY / "docs" / page).write_text(updated(page), encoding="utf-8")
