"""CLAIM 2024 and TRIPOD+AI, filled from what a study knows of itself.

Sources: Tejani et al., Radiology: Artificial Intelligence 6 (2024) e240300; Collins et al., BMJ 385
(2024) e078378. Items have their numbers there; the topics are in words of our own.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mgmt_ray.report.facts import Fact
from mgmt_ray.report.section import Section
from mgmt_ray.report.table import Table, slug

ITEMS = Path(__file__).with_name("checklists.csv")
OPEN = "open: to be written by the authors"


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a guideline.

    Attributes:
        guideline: which one.
        number: its number there, of a part of an item with a letter.
        part: of a paper that it belongs to.
        topic: what is to be reported.
        fact: name of what the study knows about it; empty where that is for the authors to say.
    """

    guideline: str
    number: str
    part: str
    topic: str
    fact: str


def read_items() -> list[Item]:
    """All items of both guidelines, in their order."""
    with ITEMS.open(newline="", encoding="utf-8") as file:
        return [
            Item(row["guideline"], row["item"], row["part"], row["topic"], row["fact"])
            for row in csv.DictReader(file)
        ]


def checklist_section(facts: Mapping[str, Fact]) -> Section:
    """Both checklists, and how many items are open."""
    tables = []
    num_open = {}
    for name in dict.fromkeys(item.guideline for item in read_items()):
        table = checklist_table(name, facts)
        num_open[name] = (sum(row[-1] == OPEN for row in table.rows), len(table.rows))
        tables.append(table)
    return Section("checklist", "Reporting checklists", {"tables": tables, "open": num_open})


def checklist_table(guideline: str, facts: Mapping[str, Fact]) -> Table:
    """A guideline's items, each reported (what, and where in the report) or open."""
    rows = tuple(
        (item.number, item.part, item.topic, status(facts.get(item.fact)))
        for item in read_items()
        if item.guideline == guideline
    )
    header = ("Item", "Part", "Topic", "Status")
    return Table(f"checklist_{slug(guideline)}", guideline, header, rows, is_wide=True)


def status(fact: Fact | None) -> str:
    """An item's last cell."""
    return OPEN if fact is None else f"reported: {fact.text} (section {fact.where})"


def checklist_csv(facts: Mapping[str, Fact]) -> Table:
    """All items of both guidelines in one table."""
    rows = tuple(
        (item.guideline, item.number, item.part, item.topic, status(facts.get(item.fact)))
        for item in read_items()
    )
    header = ("guideline", "item", "part", "topic", "status")
    return Table("checklist", "Reporting checklists", header, rows, is_wide=True)
