"""The reporting checklists CLAIM 2024 and TRIPOD+AI, filled in from a study's folder.

Sources: Tejani et al., Radiology: Artificial Intelligence 6 (2024) e240300; Collins et al., BMJ 385
(2024) e078378. The topics are paraphrased, and the numbers (CLAIM's above all) are from
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
"""First words of the status of an item that the study answers only partly."""


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a guideline.

    Attributes:
        number: as the guideline prints it, with a letter where an item has parts ("5a").
        part: section of a paper that the item belongs to.
        topic: what is to be reported.
        statement: key of :func:`mgmt_ray.report.study_facts.study_statements` that answers the
            item; empty where the authors have to.
        left_open: what that statement leaves to the authors; empty where it is the whole item.
    """

    guideline: str
    number: str
    part: str
    topic: str
    statement: str
    left_open: str


def read_items() -> list[Item]:
    """Read all items of both guidelines, in the order of the guidelines.

    >>> read_items()[4].topic
    'Prospective or retrospective'
    """
    with ITEMS.open(newline="", encoding="utf-8") as file:
        return [
            Item(
                *(row[k] for k in ("guideline", "item", "part", "topic", "statement", "left_open"))
            )
            for row in csv.DictReader(file)
        ]


def checklist_section(statements: Mapping[str, Statement]) -> Section:
    """Return both checklists, and per guideline the number of open, partial and all items."""
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
    """Return a guideline's items, each reported (what, and where), reported in part, or open."""
    rows = tuple(
        (item.number, item.part, item.topic, status(item, statements))
        for item in read_items()
        if item.guideline == guideline
    )
    header = ("Item", "Part", "Topic", "Status")
    return Table(f"checklist_{slug(guideline)}", guideline, header, rows, is_wide=True)


def status(item: Item, statements: Mapping[str, Statement]) -> str:
    """Return whether an item is reported, with what, where, and what is left to the authors.

    >>> item = Item("CLAIM 2024", "6", "Study design", "Goal of the study", "goal", "")
    >>> status(item, {"goal": Statement("comparison of networks", "results")})
    'reported: comparison of networks (section results)'
    >>> status(item, {})
    'open: to be written by the authors'
    """
    statement = statements.get(item.statement)
    if statement is None:
        return OPEN
    answer = f"{statement.text} (section {statement.where})"
    if item.left_open:
        return f"{IN_PART}: {answer}; open: {item.left_open}"
    return f"reported: {answer}"


def checklist_csv(statements: Mapping[str, Statement]) -> Table:
    """Return all items of both guidelines in one table, for ``checklist.csv``."""
    rows = tuple(
        (item.guideline, item.number, item.part, item.topic, status(item, statements))
        for item in read_items()
    )
    header = ("guideline", "item", "part", "topic", "status")
    return Table("checklist", "Reporting checklists", header, rows, is_wide=True)
