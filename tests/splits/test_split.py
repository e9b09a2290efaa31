from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.splits.split import (
    Split,
    check_group_leakage,
    read_splits,
    resolve_labels,
    write_splits,
)

SPLIT = Split(test=("a",), folds=(("b",), ("c", "e")), left_out=("d",), seed=0, cohort="x")


def make_cohort(persons: dict[str, str], scores: dict[str, float] | None = None) -> Cohort:
    """Subjects a to e, unmethylated; those named share the given person."""
    subjects = (
        Subject(s, 0, {}, Path("m"), person=persons.get(s, ""), score=(scores or {}).get(s))
        for s in "abcde"
    )
    return Cohort(tuple(subjects))


def test_a_subject_with_two_roles_is_an_error() -> None:
    with pytest.raises(MgmtError, match="b would have two roles"):
        Split(test=("a", "b"), folds=(("c",), ("b",)), left_out=(), seed=0, cohort="")


@pytest.mark.parametrize("pair", ["ab", "bc", "cd", "ad"])
def test_a_person_with_two_roles_is_an_error(pair: str) -> None:
    cohort = make_cohort({pair[0]: "P-1", pair[1]: "P-1"})
    with pytest.raises(MgmtError, match=rf"person P-1 would have two roles \(.*{pair[0]} in"):
        check_group_leakage(SPLIT, cohort)


def test_a_person_with_two_subjects_in_one_fold_is_fine() -> None:
    check_group_leakage(SPLIT, make_cohort({"c": "P-1", "e": "P-1"}))


def test_labels_follow_the_cut_off_where_there_is_a_score_and_stay_where_not() -> None:
    cohort = make_cohort({}, {"a": 0.9, "b": 0.3, "c": 0.3001})
    labels = resolve_labels(replace(SPLIT, cutoff=0.3), cohort)
    assert labels == {"a": 1, "b": 0, "c": 1, "d": 0, "e": 0}


def test_scores_without_a_cut_off_are_no_labels() -> None:
    with pytest.raises(MgmtError, match="a have a score instead of a label"):
        resolve_labels(SPLIT, make_cohort({}, {"a": 0.9}))


def test_splits_come_back_from_their_file(tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    splits = (SPLIT, replace(SPLIT, outer_fold=1, cutoff=1 / 3))
    write_splits(splits, path)
    assert read_splits(path) == splits


def move(content: dict) -> None:
    content["splits"][0]["folds"][0].append(content["splits"][0]["test"].pop())


def move_and_sign(content: dict) -> None:
    move(content)
    split = content["splits"][0]
    signed = replace(SPLIT, test=(), folds=tuple(map(tuple, split["folds"])))
    split["hash"] = signed.hash


@pytest.mark.parametrize(
    "change",
    [move, move_and_sign, lambda content: content["splits"].pop()],
    ids=["moved", "moved with a new hash", "one taken away"],
)
def test_splits_that_were_changed_by_hand_are_rejected(tmp_path: Path, change) -> None:
    path = tmp_path / "splits.json"
    write_splits((SPLIT, replace(SPLIT, outer_fold=1)), path)
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(MgmtError, match="changed after it was written"):
        read_splits(path)


def test_a_file_of_another_kind_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    path.write_text('{"test": []}')
    with pytest.raises(MgmtError, match=r"not a file of splits .* Delete splits\.json"):
        read_splits(path)
