"""What a report leaves beside itself: tables as CSV and LaTeX, checklist, model card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mgmt_ray.base import write_text
from mgmt_ray.report.html_table import Table, table_csv, table_latex
from mgmt_ray.report.picture import Picture
from mgmt_ray.report.section import Section, find_all

TABLES = "tables"


def files_section(sections: Sequence[Section]) -> Section:
    """The list of all files that belong to the report."""
    rows = [
        (f"{TABLES}/{t.name}.csv", f"{TABLES}/{t.name}.tex", t.caption) for t in shown(sections)
    ]
    for p in find_all(Picture, [s.content for s in sections]):
        rows.append((f"figures/{p.path.name}", f"figures/{p.path.stem}.svg", p.caption))
    rows += [
        ("checklist.csv", "–", "CLAIM 2024 and TRIPOD+AI in one table"),
        ("model_card.md", "–", "the model card as a file of its own"),
    ]
    header = ("File", "For papers", "What")
    return Section(
        "files",
        "Files of this report",
        {"list": Table("files", "Tables and figures of this report", header, tuple(rows), True)},
    )


def shown(sections: Sequence[Section]) -> list[Table]:
    """Every table of these sections, in their order."""
    tables = list(find_all(Table, [section.content for section in sections]))
    names = [table.name for table in tables]
    twice = {name for name in names if names.count(name) > 1}
    assert not twice, f"two tables are named {', '.join(sorted(twice))}"
    return tables


def write_tables(folder: Path, tables: Sequence[Table]) -> None:
    """Write each table as ``NAME.csv`` and ``NAME.tex``; delete those of tables dropped since.

    Args:
        folder: of the tables; nothing else should be in it.
        tables: with names that differ.
    """
    written = set()
    for table in tables:
        for suffix, text in ((".csv", table_csv(table)), (".tex", table_latex(table))):
            path = folder / f"{table.name}{suffix}"
            write_text(path, text)
            written.add(path)
    for path in (*folder.glob("*.csv"), *folder.glob("*.tex")):
        if path not in written:
            path.unlink()
