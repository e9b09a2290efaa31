import re
from pathlib import Path

import pytest

from docs.update_architecture import PAGES, REPOSITORY, floors, picture, updated

FILE = re.compile(r"`((?:[\w.]+/)*[\w-]+\.(?:py|md|yaml|toml|csv))(?:::(\w+))?`")
"""A file in backticks, perhaps with a test in it."""

PLACEHOLDER = re.compile(r"[A-Z]{4}")
"""NAME and the like stand for any file."""

PLACES = (
    REPOSITORY,
    REPOSITORY / "mgmt_ray",
    REPOSITORY / "docs",
    REPOSITORY / "tests",
)
"""Where the pages' paths begin."""


def find(name: str) -> Path | None:
    return next((place / name for place in PLACES if (place / name).is_file()), None)


@pytest.mark.parametrize("page", PAGES)
def test_the_page_is_up_to_date(page: str) -> None:
    text = (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
    assert updated(page) == text, "run .venv/bin/python docs/update_architecture.py"


def test_the_picture_has_every_layer_and_straight_walls() -> None:
    drawn = picture(floors()).splitlines()
    assert len({len(line) for line in drawn}) == 1
    assert len(drawn) == 2 * len(floors()) + 1
    for rooms, line in zip(floors(), drawn[1::2], strict=True):
        assert [cell.strip() for cell in line.strip("│").split("│")] == rooms
    assert picture([["a"], ["b", "c"], ["d", "e"]]).splitlines()[::2] == [
        "┌──────────────────────────────────────────────┐",
        "├───────────────────────┬──────────────────────┤",
        "├───────────────────────┼──────────────────────┤",
        "└───────────────────────┴──────────────────────┘",
    ]


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md", "tests/README.md"])
def test_files_and_tests_that_a_page_names_are_there(page: str) -> None:
    named = FILE.findall((REPOSITORY / page).read_text(encoding="utf-8"))
    code = [
        (name, test)
        for name, test in named
        if name.endswith(".py") and not PLACEHOLDER.search(name)
    ]
    assert len(code) > 5
    for name, test in code:
        file = find(name)
        assert file is not None, f"{page}: there is no {name}"
        if test:
            assert f"def {test}(" in file.read_text(encoding="utf-8"), f"{page}: {name}::{test}"
