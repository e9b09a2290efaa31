"""Two small studies give what they gave before: the net below changes that must change nothing.

The files kept in ``volumes/`` and ``slices/`` are those of one machine. Elsewhere other kernels
round differently, so that numbers are compared with the tolerances of ``compare.py``, and checksums
of weights by where they recur. On one machine nothing may differ: ``GOLDEN_EXACT=1`` compares every
digit, and checksums of weights, volumes and slices.

A new machine first needs its own files: ``python -m tests.golden.write`` on the commit before the
change, then ``GOLDEN_EXACT=1 pytest tests/golden`` on every commit after it. What is written by a
change that is meant to alter results is committed with it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.golden.compare import closest, differences
from tests.golden.studies import COHORTS, expected_files, kept_files, run_study

EXACT = os.environ.get("GOLDEN_EXACT", "0") not in ("", "0")

SHOWN = 40


@pytest.mark.parametrize("name", COHORTS)
def test_a_study_gives_what_it_gave(name: str, tmp_path: Path) -> None:
    found = differences(expected_files(name), kept_files(run_study(name, tmp_path)), EXACT)
    assert not found, "\n".join([f"{len(found)} differences", *found[:SHOWN]])


@pytest.mark.parametrize("table", ["predictions.csv", "validation_predictions.csv"])
@pytest.mark.parametrize("name", COHORTS)
def test_no_rank_that_is_kept_hangs_on_rounding(name: str, table: str) -> None:
    # between processors, volumes' probabilities differ by 1e-6 and slices' by 1e-5
    assert closest(expected_files(name)[table]) > {"volumes": 2e-6, "slices": 2e-5}[name]


TABLE = "trial,count,auc,predicted_pixels,weights,fitted\n"
ROW = 'a,3,0.5,70,{0},"{{""trees"": 5, ""share"": 0.25}}"\n'
KEPT = TABLE + ROW.format("a" * 64) + ROW.format("b" * 64)


@pytest.mark.parametrize(
    ("before", "after", "is_told"),
    [
        ("0.5,", "0.50009,", False),
        ("0.5,", "0.5002,", True),
        ("0.25}", "0.25009}", False),
        ("0.25}", "0.2502}", True),
        ("a,3", "a,4", True),
        ("a,3", "c,3", True),
        ("5, ", "6, ", True),
        ("auc", "area", True),
        ("70", "71", True),  # a pixel is let off in tables of slices only
        ("a" * 64, "c" * 64, False),
        ("a" * 64, "b" * 64, True),
        (ROW.format("b" * 64), "", True),
    ],
)
def test_the_portable_comparison_tells(before: str, after: str, is_told: bool) -> None:
    kept = {"metrics.csv": KEPT}
    changed = {"metrics.csv": KEPT.replace(before, after)}
    assert changed != kept
    assert bool(differences(kept, changed, exact=False)) == is_told
    assert differences(kept, changed, exact=True)


def test_splits_and_openings_are_compared_with_their_checksums() -> None:
    kept = {"test_openings.jsonl": '{"members": "' + "a" * 64 + '"}\n'}
    changed = {"test_openings.jsonl": kept["test_openings.jsonl"].replace("a", "b")}
    assert differences(kept, changed, exact=False)


def test_a_file_more_or_less_is_told() -> None:
    assert differences({"metrics.csv": KEPT}, {}, exact=False) == ["metrics.csv: is not there"]
    assert differences({}, {"metrics.csv": KEPT}, exact=False) == ["metrics.csv: is not kept"]
