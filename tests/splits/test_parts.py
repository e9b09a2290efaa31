from __future__ import annotations

import pytest

from mgmt_ray.base import MgmtError
from mgmt_ray.splits.parts import deal_parts

IDS = tuple(f"S{i:02}" for i in range(20))


def test_every_patient_is_in_one_part_and_parts_are_even() -> None:
    parts = deal_parts(IDS, {s: s for s in IDS}, 3, seed=1)
    assert sorted(s for part in parts for s in part) == list(IDS)
    assert sorted(map(len, parts)) == [6, 7, 7]


def test_a_persons_subjects_stay_together() -> None:
    person = {s: f"P{i // 2}" for i, s in enumerate(IDS)}
    for part in deal_parts(IDS, person, 3, seed=1):
        for subject in part:
            assert {s for s in IDS if person[s] == person[subject]} <= {*part}


def test_parts_follow_from_the_seed_alone() -> None:
    person = {s: s for s in IDS}
    assert deal_parts(IDS, person, 3, seed=1) == deal_parts(IDS[::-1], person, 3, seed=1)
    assert deal_parts(IDS, person, 3, seed=1) != deal_parts(IDS, person, 3, seed=2)


def test_fewer_patients_than_parts_are_refused() -> None:
    with pytest.raises(MgmtError, match="2 patients train, too few for 3 parts"):
        deal_parts(IDS[:2], {s: s for s in IDS}, 3, seed=1)
