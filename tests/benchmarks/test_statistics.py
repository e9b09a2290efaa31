from __future__ import annotations

from benchmarks.statistics import Options, measure


def test_the_statistics_of_a_study_of_the_papers_shape_are_made() -> None:
    found = measure(Options(rounds=1, report=False))
    assert found["num_members"] == 165
    assert found["num_subjects"] == 57
    # 3 networks of 7 groups and 11 modalities at least, and 4 comparison models
    assert int(str(found["num_models"])) >= 3 * 18 + 4
    assert float(str(found["seconds"])) > 0
