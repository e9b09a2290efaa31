from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.cohort import Exclusion, flow
from mgmt_ray.cohort.read import LEFT_OUT, CohortConfig, read
from mgmt_ray.cohort.subject import MODALITIES


def test_all_eleven_modalities_are_wanted_by_default(tmp_path: Path) -> None:
    assert CohortConfig(root=tmp_path).modalities == MODALITIES


@pytest.mark.parametrize(
    ("modalities", "says"),
    [
        (("FLAIR", "T1c"), r"no modality T1c; there are ap-rCBV, PH, .*T1GD"),
        ((), "no modality chosen; there are ap-rCBV"),
        (("FLAIR", "FLAIR"), "FLAIR named more than once"),
    ],
)
def test_modalities_that_cannot_be_read_are_refused(
    tmp_path: Path, modalities: tuple[str, ...], says: str
) -> None:
    with pytest.raises(ValidationError, match=says):
        CohortConfig(root=tmp_path, modalities=modalities)


def test_excluded_subjects_are_out_and_counted(small_cohort: Path) -> None:
    modalities = ("PH", "FLAIR")
    whole = read(CohortConfig(root=small_cohort, modalities=modalities))
    without_dsc = next(s.id for s in whole.subjects if "PH" not in s.scans)
    with_dsc = next(s.id for s in whole.subjects if "PH" in s.scans)
    config = CohortConfig(root=small_cohort, modalities=modalities, exclude=(with_dsc, without_dsc))
    cohort = read(config)
    assert {s.id for s in whole.subjects} - {s.id for s in cohort.subjects} == {*config.exclude}
    assert [e for e in cohort.exclusions if e.subject in config.exclude] == [
        Exclusion(name, "cohort", LEFT_OUT) for name in sorted(config.exclude)
    ]
    assert flow(cohort, modalities)[0] == flow(whole, modalities)[0]


def test_excluding_somebody_who_is_out_already_keeps_the_first_reason(small_cohort: Path) -> None:
    whole = read(CohortConfig(root=small_cohort))
    gone = next(e for e in whole.exclusions if e.reason == "MGMT Indeterminate")
    assert read(CohortConfig(root=small_cohort, exclude=(gone.subject,))) == whole


def test_excluding_somebody_unknown_is_an_error(small_cohort: Path) -> None:
    config = CohortConfig(root=small_cohort, exclude=("UPENN-GBM-99999_11",))
    with pytest.raises(MgmtError, match=r"UPENN-GBM-99999_11 not in the data set.*UPENN-GBM-0000"):
        read(config)
