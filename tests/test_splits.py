import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.subject import MODALITY_GROUPS, Subject
from mgmt_ray.splits import Split, SplitConfig, make_split, read_split, write_split


def make_subject(number: int, label: int, groups: tuple[str, ...]) -> Subject:
    scans = {m: Path(f"{m}.nii.gz") for group in groups for m in MODALITY_GROUPS[group]}
    return Subject(f"S-{number:04}", label, scans, Path("mask.nii.gz"))


def published_cohort() -> Cohort:
    """The public cohort's numbers: 262 with structural scans, 218 with DTI, 189 with DSC."""
    counts = [
        (1, ("Struct", "DTI", "DSC"), 81),
        (0, ("Struct", "DTI", "DSC"), 108),
        (1, ("Struct", "DTI"), 10),
        (0, ("Struct", "DTI"), 19),
        (1, ("Struct",), 20),
        (0, ("Struct",), 24),
    ]
    subjects = []
    for label, groups, number in counts:
        subjects += [make_subject(len(subjects) + i, label, groups) for i in range(number)]
    return Cohort(tuple(subjects))


def test_the_papers_numbers_come_out() -> None:
    cohort = published_cohort()
    split = make_split(cohort, SplitConfig())
    labels = {s.id: s.label for s in cohort.subjects}
    with_dsc = {s.id for s in cohort.subjects if "PH" in s.scans}
    assert len(split.test) == 57
    assert sum(labels[s] for s in split.test) == 24
    assert len(split.left_out) == 22
    assert len(split.training) == 183
    assert len(set(split.training) & with_dsc) == 132
    assert set(split.test) <= with_dsc


def test_nobody_is_left_out_where_all_shall_train() -> None:
    split = make_split(published_cohort(), SplitConfig(drop_rest=False))
    assert len(split.test) == 57
    assert len(split.training) == 205
    assert split.left_out == ()


def test_every_fold_has_its_share_of_each_class_in_every_modality() -> None:
    cohort = published_cohort()
    split = make_split(cohort, SplitConfig())
    for modality in ("PH", "FA", "T1"):
        for label in (0, 1):
            ids = {s.id for s in cohort.subjects if modality in s.scans and s.label == label}
            sizes = [len(ids & set(fold)) for fold in split.folds]
            # dealt in turn: a class differs by one, a modality of it by one more
            assert max(sizes) - min(sizes) <= 2


@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.sampled_from([("DSC",), (), ("DTI", "DSC"), ("Struct",)])),
        max_size=80,
    ),
    st.integers(0, 5),
    st.booleans(),
)
def test_a_subject_is_on_one_side_whatever_the_cohort(
    people: list[tuple[int, tuple[str, ...]]], seed: int, drop_rest: bool
) -> None:
    subjects = [make_subject(i, label, groups) for i, (label, groups) in enumerate(people)]
    config = SplitConfig(seed=seed, folds=3, drop_rest=drop_rest)
    modalities = MODALITY_GROUPS["DSC"]
    try:
        split = make_split(Cohort(tuple(subjects)), config, modalities)
    except MgmtError:  # too few of a class, which another test looks at
        return
    sides = [*split.test, *split.left_out, *(s for fold in split.folds for s in fold)]
    assert sorted(sides) == [s.id for s in subjects]
    for index in range(3):
        train, validation = split.fold(index, set(sides))
        assert not set(train) & set(validation)
        assert not (set(train) | set(validation)) & set(split.test)
        assert sorted([*train, *validation]) == list(split.training)


def test_the_split_does_not_depend_on_the_order_of_the_subjects() -> None:
    cohort = published_cohort()
    reversed_cohort = Cohort(tuple(reversed(cohort.subjects)))
    assert make_split(cohort, SplitConfig()) == make_split(reversed_cohort, SplitConfig())
    assert make_split(cohort, SplitConfig(seed=1)) != make_split(cohort, SplitConfig())


def test_a_changed_label_changes_the_hash() -> None:
    cohort = published_cohort()
    first = cohort.subjects[0]
    other = Subject(first.id, 1 - first.label, first.scans, first.mask)
    changed = Cohort((other, *cohort.subjects[1:]))
    assert make_split(changed, SplitConfig()).hash != make_split(cohort, SplitConfig()).hash


def test_a_subject_on_two_sides_is_refused() -> None:
    with pytest.raises(MgmtError, match="b would be on two sides"):
        Split(test=("a", "b"), folds=(("c",), ("b",)), left_out=(), seed=0, cohort="")


def test_a_split_that_was_changed_by_hand_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    split = make_split(published_cohort(), SplitConfig())
    write_split(split, path)
    assert read_split(path) == split
    content = json.loads(path.read_text())
    content["folds"][0].append(content["test"].pop())
    path.write_text(json.dumps(content))
    with pytest.raises(MgmtError, match="changed after it was made"):
        read_split(path)


def test_too_few_subjects_for_the_folds_are_named() -> None:
    subjects = [make_subject(i, i % 2, ("DSC",)) for i in range(8)]
    with pytest.raises(MgmtError, match="2 methylated subjects are left for 5 training folds"):
        make_split(Cohort(tuple(subjects)), SplitConfig(), MODALITY_GROUPS["DSC"])
