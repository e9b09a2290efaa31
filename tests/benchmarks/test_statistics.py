from __future__ import annotations

from benchmarks.statistics import Options, measure


def test_the_statistics_of_a_study_are_made() -> None:
    found = measure(Options(rounds=1, report=False, modalities=("PH", "FA"), epochs=2))
    assert found["num_members"] == 3 * 2 * 5
    assert found["num_subjects"] == 57
    # 3 networks of 3 groups, 2 choices and 2 modalities, and 5 baselines
    assert found["num_models"] == 3 * 7 + 5
    assert found["seconds"] == found["statistics_seconds"]
    assert float(str(found["seconds"])) > 0
