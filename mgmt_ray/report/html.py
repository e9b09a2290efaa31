"""The report of a study: one HTML file with its figures inside, and the files beside it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from mgmt_ray.base import write_text
from mgmt_ray.figures.figure_folder import FigureFolder
from mgmt_ray.report.html_table import slug
from mgmt_ray.report.model_card import card_markdown, model_card
from mgmt_ray.report.report_record import REPORT, sources, write_record
from mgmt_ray.report.section import Section
from mgmt_ray.report.sections.page import TABLES, all_sections, chapters, shown_tables, write_tables
from mgmt_ray.report.study_facts import study_statements
from mgmt_ray.report.study_results import read_study_results

TEMPLATES = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Inline:
    """A style or script embedded in the page, and its hash for the content security policy."""

    text: Markup
    hash: str


def write_report(out: Path, svg: bool = False) -> Path:
    """Write ``report.html`` of a finished study and its files, and return the page's path.

    The files: ``figures/*.png``, ``tables/*.csv`` and ``*.tex``, ``model_card.md``, and
    the record of what they were made from. The page has its figures embedded and loads nothing from
    elsewhere.

    Args:
        out: the study's folder.
        svg: whether to write the figures as SVG too; without it, older SVGs are deleted.

    Raises:
        MgmtError: a stage has not run yet, or one of its files is damaged; the error names the
            command to run.
    """
    drawn_from = sources(out)
    results = read_study_results(out)
    card = model_card(results, study_statements(results))
    sections = all_sections(out, results, card, FigureFolder(out / "figures", svg))
    write_tables(out / TABLES, shown_tables(sections))
    write_text(out / "model_card.md", card_markdown(results.name, card))
    path = out / REPORT
    write_text(path, render_page(results.name, sections))
    write_record(out, drawn_from, svg)
    return path


def render_page(name: str, sections: Sequence[Section]) -> str:
    """Render the report of the study of this name, with the sections by chapter."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = render_code
    environment.filters["slug"] = slug
    bodies = {
        section.anchor: Markup(environment.get_template(section.template).render(section.content))
        for section in sections
        if not section.missing
    }
    return environment.get_template("base.html.j2").render(
        name=name,
        chapters=chapters(sections),
        bodies=bodies,
        style=_inline("style.css"),
        script=_inline("page.js"),
    )


def render_code(text: str) -> Markup:
    """Escape text, and mark what is between backticks as code.

    >>> str(render_code("run `mgmt-ray plan` & wait"))
    'run <code>mgmt-ray plan</code> &amp; wait'
    """
    parts = str(escape(text)).split("`")
    if len(parts) % 2 == 0:
        return Markup("`").join(map(Markup, parts))
    return Markup("").join(
        Markup(f"<code>{part}</code>" if i % 2 else part) for i, part in enumerate(parts)
    )


def _inline(name: str) -> Inline:
    text = (TEMPLATES / name).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    # a file of this package, which holds nothing from a study
    return Inline(Markup(text), f"sha256-{digest}")
