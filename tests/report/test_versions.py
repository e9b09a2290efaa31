from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mgmt_ray.cohort.subject import Subject
from mgmt_ray.report.sections.versions import examples, label_to_show


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
    assert [s.id for s in examples(subjects, is_opened=True)] == chosen.split()


def test_examples_do_not_follow_labels_that_a_split_has_yet_to_fit() -> None:
    subjects = [Subject(name, 0, {}, Path("mask"), score=0.5) for name in "ABCDEFG"]
    other = [replace(s, label=int(s.id in "BDF")) for s in subjects]
    assert examples(other, is_opened=True) == [s for s in other if s.id in "ABC"]
    assert {label_to_show(s, is_opened=True) for s in other} == {"fitted"}


def test_examples_do_not_follow_labels_before_the_test_set_was_opened() -> None:
    for labels in ("0101010", "1111100", "0000001"):
        subjects = [
            Subject("ABCDEFG"[i], int(label), {}, Path("mask")) for i, label in enumerate(labels)
        ]
        assert [s.id for s in examples(subjects, is_opened=False)] == ["A", "B", "C"]
        assert {label_to_show(s, is_opened=False) for s in subjects} == {"hidden"}
