from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mgmt_ray.report.html import write_report
from mgmt_ray.report.report_record import READ, RECORD, WRITTEN, is_up_to_date, update_report


@pytest.fixture(scope="module")
def once_reported(small_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose report was just written."""
    out = tmp_path_factory.mktemp("reported") / "out"
    shutil.copytree(small_study, out)
    write_report(out)
    return out


@pytest.fixture
def reported(once_reported: Path, tmp_path: Path) -> Path:
    """A copy of it, with the same times of change."""
    return Path(shutil.copytree(once_reported, tmp_path / "out"))


def states(out: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}


def test_a_report_of_unchanged_files_is_not_written_again(reported: Path) -> None:
    before = states(reported)
    assert not update_report(reported)
    assert states(reported) == before


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("ensembles/metrics.csv", append),
        ("ensembles/test_openings.jsonl", append),
        ("study.yaml", append),
        ("audit.json", lambda path: path.write_text('{"checks": []}')),
        ("trials/*/epochs.csv", append),
        ("inspections/given.json", lambda path: (path.parent.mkdir(), path.write_bytes(b"x"))),
        ("slices/FLAIR.json", lambda path: (path.parent.mkdir(), path.write_bytes(b"x"))),
        ("figures/explain_S1_T1.png", lambda path: path.write_bytes(b"x")),
        ("report.html", append),
        ("report.html", Path.unlink),
        ("report.json", Path.unlink),
        *(("report.json", partial(Path.write_text, data=t)) for t in ("damaged", "{}", "[]")),
        ("figures/roc.png", lambda path: path.write_bytes(b"")),
        ("tables/openings.csv", Path.unlink),
        ("model_card.md", os.utime),
    ],
)
def test_a_report_is_outdated_once_anything_it_reads_or_consists_of_has_changed(
    reported: Path, name: str, change: Callable[[Path], object]
) -> None:
    assert is_up_to_date(reported, svg=False)
    change(next(reported.glob(name), reported / name))
    assert not is_up_to_date(reported, svg=False)


def test_svgs_are_written_when_asked_for_and_kept_until_a_figure_is_redrawn(reported: Path) -> None:
    assert not [*reported.glob("figures/*.svg")]
    assert "as PNG. All" in (reported / "report.html").read_text(encoding="utf-8")
    assert update_report(reported, svg=True)
    figures = {path.stem for path in reported.glob("figures/*.png")}
    assert {path.stem for path in reported.glob("figures/*.svg")} == figures
    listed = (reported / "tables" / "files.csv").read_text(encoding="utf-8")
    assert all(f"figures/{name}.svg" in listed for name in figures)
    assert not update_report(reported)
    append(reported / "study.yaml")
    assert update_report(reported)
    assert not [*reported.glob("figures/*.svg")]
    assert ".svg" not in (reported / "tables" / "files.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize("study", ["whole_study", "sliced_study", "nested_study"])
def test_every_file_that_a_report_reads_is_one_that_outdates_it(
    study: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    out = tmp_path / "out"
    shutil.copytree(request.getfixturevalue(study), out)
    (out / "inspections").mkdir()
    read: set[Path] = set()
    is_watching = True

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if is_watching and event == "open" and isinstance(arguments[0], str | Path):
            path = Path(arguments[0])
            if path.is_relative_to(out) and arguments[1] in ("r", "rb"):
                read.add(path)

    sys.addaudithook(watch)
    write_report(out)
    is_watching = False
    # of its own files it reads the figures, to embed them, and earlier texts, to compare them
    patterns = (*READ, *WRITTEN, RECORD)
    known = {path for pattern in patterns for path in out.glob(pattern)}
    assert len(read) > 20
    assert {path for path in read - known if path.exists()} == set()
