from __future__ import annotations

import base64
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mgmt_ray.base import write_text
from mgmt_ray.figures.figure_folder import FigureFolder
from mgmt_ray.report.html import render_code, render_page, write_report
from mgmt_ray.report.sections.comparisons_section import comparisons_section
from mgmt_ray.report.sections.curves_section import training_pictures
from mgmt_ray.report.sections.page import planted_sections
from mgmt_ray.report.study_results import read_study_results


class Page(HTMLParser):
    """What a browser would load, follow and show."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"


def contents(report: str) -> list[str | None]:
    """Where the navigation leads."""
    nav = report[report.index("<nav") : report.index("</nav>")]
    return [a["href"] for tag, a in Page(nav + "</nav>").tags if tag == "a"]


@pytest.fixture(scope="module")
def report(whole_report: Path) -> str:
    return whole_report.read_text(encoding="utf-8")


def test_the_page_is_well_formed_and_loads_nothing(report: str) -> None:
    page = Page(report)
    assert page.open == []
    assert not {"link", "iframe", "object", "form"} & {tag for tag, _ in page.tags}
    assert [attributes for tag, attributes in page.tags if tag == "script"] == [{}]
    for _, attributes in page.tags:
        for name in ("src", "href"):
            address = attributes.get(name) or ""
            assert not address or address.startswith(("#", "data:image/png;base64,"))
    assert "url(" not in report


def test_the_navigation_leads_to_every_chapter_and_links_to_what_there_is(report: str) -> None:
    page = Page(report)
    assert contents(report) == [f"#{a['id']}" for tag, a in page.tags if tag == "article"]
    assert len(contents(report)) == 7
    sections = [f"#{a['id']}" for tag, a in page.tags if tag == "section"]
    assert sections[0] == "#summary" and "#planted" in sections
    ids = [f"#{a['id']}" for _, a in page.tags if a.get("id")]
    assert len(ids) == len(set(ids))
    assert {a["href"] for tag, a in page.tags if tag == "a"} <= {*ids}


def test_figures_are_saved_and_embedded_with_alternative_texts(
    report: str, whole_study: Path
) -> None:
    images = [a for tag, a in Page(report).tags if tag == "img"]
    embedded = {base64.b64decode((a["src"] or "").partition(",")[2]) for a in images}
    saved = sorted((whole_study / "figures").glob("*.png"))
    assert {path.read_bytes() for path in saved} == embedded
    assert {path.stem for path in saved} == {
        "auc",
        "decision",
        "policy_classes",
        "policy_heatmap",
        "policy_stability",
        "precision_recall",
        "precision_recall_chosen",
        "reliability_best_overall",
        "reliability_baselines",
        "reliability_forward_selection",
        "roc",
        "roc_chosen",
        "subgroups",
        "training_random",
        "training_spottune",
        "training_transfer",
        "variance",
    }
    assert all(len(a["alt"] or "") > 40 for a in images)


def test_training_curves_of_a_network_dropped_since_are_deleted(
    small_study: Path, tmp_path: Path
) -> None:
    (tmp_path / "training_dropped.png").write_bytes(b"old")
    training_pictures(read_study_results(small_study), FigureFolder(tmp_path))
    assert [path.stem for path in tmp_path.glob("training_*.png")] == ["training_random"]


def test_a_planted_signal_that_is_found_is_reported(report: str) -> None:
    assert "A signal was planted in PH (strength 2.0) and nowhere else." in report
    assert "above chance: found" in report
    assert "paper’s columns" not in report and "paper&#39;s" not in report
    assert "The cohort is synthetic" in report


def test_every_value_of_this_study_has_its_interval(report: str) -> None:
    found = re.findall(
        r'id="table-(metrics_\w+|single_modalities|planted)">(.*?)</table>', report, re.S
    )
    assert len(found) == 5
    cells = [
        cell for _, table in found for cell in re.findall(r"<td>(\d\.\d{3})(.*?)</td>", table, re.S)
    ]
    ours = [rest for _, rest in cells if not re.fullmatch(r"\d", rest)]
    # 21 group rows and 9 single modalities of four metrics, 3 planted verdicts
    assert len(ours) == 30 * 4 + 3
    assert all(re.fullmatch(r"\s\[\d\.\d{3}, \d\.\d{3}\]", rest) for rest in ours)


def test_external_cohorts_have_a_section_where_there_are_any(report: str) -> None:
    # that they have one is tested with their cohorts
    assert 'id="external"' not in report


def test_a_signal_that_is_missing_is_called_out(study: Path) -> None:
    results = read_study_results(study)
    # its own is in PH alone
    missing = replace(results, planted={"signal": {"PH": 2.0, "FA": 2.0}})
    page = render_page("x", planted_sections(missing))
    assert "NOT found: interval not above 0.5" in page
    assert "ensembles tested do NOT agree with it: DTI" in page


def test_fewer_than_three_networks_have_no_friedman_test(nested_study: Path) -> None:
    section = comparisons_section(read_study_results(nested_study))
    assert "Fewer than three networks" in render_page("x", [section])


def test_no_signal_and_real_subjects_are_distinguished(study: Path, small_study: Path) -> None:
    null = replace(read_study_results(study), planted={"signal": {}})
    page = render_page("x", planted_sections(null))
    assert "No signal was planted in any modality." in page
    real = (small_study / "report.html").read_text(encoding="utf-8")
    assert 'id="planted"' not in real
    assert "synthetic" not in real


def test_all_text_from_files_is_escaped(small_study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(small_study, out)
    nasty = "<script>alert('x')</script>"
    write_text(out / "study.yaml", f'name: "{nasty}"\n')
    write_text(out / "exclusions.csv", f'subject,scope,reason\nX,cohort,"{nasty}"\n')
    write_text(out / "ensembles" / "test_openings.jsonl", f'{{"reason": "{nasty}"}}\n')
    write_text(out / "provenance.json", f'{{"commit": "{nasty}", "versions": {{"{nasty}": "1"}}}}')
    report = write_report(out).read_text(encoding="utf-8")
    assert report.count("<script") == 1
    assert "alert('x')" not in report
    # title, heading; exclusion; opening; commit and version
    assert report.count("&lt;script&gt;") >= 6
    card = (out / "model_card.md").read_text(encoding="utf-8")
    assert re.search(r"(?<!\\)<", card) is None


def test_code_is_marked_and_markup_in_it_is_text() -> None:
    assert render_code("run `a <b>` & go") == "run <code>a &lt;b&gt;</code> &amp; go"
    assert render_code("a ` alone <b>") == "a ` alone &lt;b&gt;"
