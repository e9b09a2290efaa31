"""CLAIM 2024 and TRIPOD+AI, filled from what a study knows of itself.

Sources: Tejani et al., Radiology: Artificial Intelligence 6 (2024) e240300; Collins et al., BMJ 385
(2024) e078378. The topics are in words of our own, and the numbers (CLAIM's above all) are from
memory: an author has to check both against the published lists.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mgmt_ray.report.html_table import Table, slug
from mgmt_ray.report.section import Section
from mgmt_ray.report.study_facts import Statement

ITEMS = Path(__file__).with_name("checklists.csv")
OPEN = "open: to be written by the authors"
IN_PART = "in part"
"""Begins the status of an item of which the study knows only something."""


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a guideline.

    Attributes:
        guideline: which one.
        number: its number there, of a part of an item with a letter.
        part: of a paper that it belongs to.
        topic: what is to be reported.
        fact: name of what the study knows about it; empty where that is for the authors to say.
        lacking: what the fact leaves to the authors; empty where it is the whole item.
    """

    guideline: str
    number: str
    part: str
    topic: str
    fact: str
    lacking: str


def read_items() -> list[Item]:
    """All items of both guidelines, in their order."""
    with ITEMS.open(newline="", encoding="utf-8") as file:
        return [
            Item(*(row[k] for k in ("guideline", "item", "part", "topic", "fact", "lacking")))
            for row in csv.DictReader(file)
        ]


def checklist_section(statements: Mapping[str, Statement]) -> Section:
    """Both checklists, and how many items are open, reported in part, and there at all."""
    tables = []
    numbers = {}
    for name in dict.fromkeys(item.guideline for item in read_items()):
        table = checklist_table(name, statements)
        cells = [row[-1] for row in table.rows]
        in_part = sum(cell.startswith(IN_PART) for cell in cells)
        numbers[name] = (cells.count(OPEN), in_part, len(cells))
        tables.append(table)
    return Section("checklist", "Reporting checklists", {"tables": tables, "numbers": numbers})


def checklist_table(guideline: str, statements: Mapping[str, Statement]) -> Table:
    """A guideline's items, each reported (what, and where in the report), in part, or open."""
    rows = tuple(
        (item.number, item.part, item.topic, status(item, statements))
        for item in read_items()
        if item.guideline == guideline
    )
    header = ("Item", "Part", "Topic", "Status")
    return Table(f"checklist_{slug(guideline)}", guideline, header, rows, is_wide=True)


def status(item: Item, statements: Mapping[str, Statement]) -> str:
    """An item's last cell."""
    fact = statements.get(item.fact)
    if fact is None:
        return OPEN
    known = f"{fact.text} (section {fact.where})"
    return f"{IN_PART}: {known}; open: {item.lacking}" if item.lacking else f"reported: {known}"


def checklist_csv(statements: Mapping[str, Statement]) -> Table:
    """All items of both guidelines in one table."""
    rows = tuple(
        (item.guideline, item.number, item.part, item.topic, status(item, statements))
        for item in read_items()
    )
    header = ("guideline", "item", "part", "topic", "status")
    return Table("checklist", "Reporting checklists", header, rows, is_wide=True)
