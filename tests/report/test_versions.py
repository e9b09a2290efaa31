from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mgmt_ray.cohort.subject import Subject
from mgmt_ray.report.versions import examples, label_before_splits


@pytest.mark.parametrize(
    ("labels", "chosen"),
    [
        ("0101010", "A D G"),
        ("1111100", "C F G"),
        ("0000000", "A B G"),
        ("1111111", "A B D"),
        ("01", "A B"),
        ("1", "A"),
        ("", ""),
    ],
)
def test_examples_are_of_both_labels(labels: str, chosen: str) -> None:
    subjects = [
        Subject("ABCDEFG"[i], int(label), {}, Path("mask")) for i, label in enumerate(labels)
    ]
    assert [subject.id for subject in examples(subjects)] == chosen.split()


def test_examples_do_not_follow_labels_that_a_split_has_yet_to_fit() -> None:
    subjects = [Subject(name, 0, {}, Path("mask"), score=0.5) for name in "ABCDEFG"]
    other = [replace(s, label=int(s.id in "BDF")) for s in subjects]
    assert examples(other) == [s for s in other if s.id in "ABC"]
    assert {label_before_splits(s) for s in other} == {"fitted"}
