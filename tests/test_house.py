"""The house stays one in which a file is found by its name."""

import ast
from collections import defaultdict
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "mgmt_ray"
LARGEST_FOLDER = 20
"""Modules of one folder that one person can hold in mind."""

NO_NAMES = ("__init__.py", "__main__.py")


def test_no_two_modules_share_a_file_name() -> None:
    places = defaultdict(list)
    for path in PACKAGE.rglob("*.py"):
        if path.name not in NO_NAMES:
            places[path.name].append(path.relative_to(PACKAGE).as_posix())
    assert places
    assert not [paths for paths in places.values() if len(paths) > 1]


def test_no_folder_has_more_modules_than_one_can_hold_in_mind() -> None:
    number = defaultdict(int)
    for path in PACKAGE.rglob("*.py"):
        number[path.parent.relative_to(PACKAGE).as_posix()] += path.name not in NO_NAMES
    assert len(number) > 1
    assert not {folder: n for folder, n in number.items() if n > LARGEST_FOLDER}


def test_every_room_says_in_one_sentence_what_is_in_it() -> None:
    rooms = [path for path in PACKAGE.rglob("*") if path.is_dir() and any(path.glob("*.py"))]
    assert rooms
    for room in rooms:
        text = (room / "__init__.py").read_text(encoding="utf-8")
        said = (ast.get_docstring(ast.parse(text)) or "").partition("\n\n")[0]
        assert said.endswith("."), f"{room.name}: its __init__.py has no docstring of a sentence"
