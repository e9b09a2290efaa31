from __future__ import annotations

import math
from pathlib import Path

import pytest

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.covariates import age_in_years, covariate_problems, read_covariates
from mgmt_ray.cohort.subject import Subject


def make_subject(**covariates: str) -> Subject:
    return Subject("S1", 1, {}, Path("mask.nii.gz"), covariates)


@pytest.mark.parametrize(
    ("text", "code"), [("F", -0.5), ("female", -0.5), ("M", 0.5), (" Male ", 0.5)]
)
def test_sex_is_coded_one_apart_and_centred(text: str, code: float) -> None:
    assert read_covariates([make_subject(sex=text)], ["sex"]) == {"S1": (code,)}


@pytest.mark.parametrize(
    ("text", "years"),
    [
        *(("61.5", 61.5), (" 90+ ", 90.0), ("0", 0.0), ("45,5", 45.5), ("45.5 years", 45.5)),
        *((">89", 89.0), (">= 90", 90.0), ("≥90", 90.0), ("89+", 89.0), ("63 Y", 63.0)),
        *(("063Y", 63.0), ("018m", 1.5), ("007D", 7 / 365.25)),
    ],
)
def test_ages_are_years_and_the_oldest_count_as_the_limit_that_hides_them(
    text: str, years: float
) -> None:
    assert read_covariates([make_subject(age=text)], ["age"]) == {"S1": (years,)}
    assert age_in_years(text) == years


@pytest.mark.parametrize(
    "text", ["", "old", "-3", "inf", "nan", "121", "+", "90-100", "999Y", "4.5,6", "<18"]
)
def test_a_cell_without_an_age_is_nan(text: str) -> None:
    assert math.isnan(age_in_years(text))


def test_values_come_in_the_order_of_the_names() -> None:
    subject = make_subject(age="61.5", sex="F", idh1="Wildtype")
    assert read_covariates([subject], ["sex", "age"]) == {"S1": (-0.5, 61.5)}
    assert read_covariates([subject], []) == {"S1": ()}


@pytest.mark.parametrize(
    "covariates",
    [{}, {"age": ""}, {"age": "Not Available"}, {"age": "nan"}, {"age": "."}, {"age": "N/A"}],
)
def test_an_unknown_covariate_is_nan(covariates: dict[str, str]) -> None:
    ((value,),) = read_covariates([make_subject(**covariates)], ["age"]).values()
    assert math.isnan(value)


@pytest.mark.parametrize(
    ("name", "text"), [("age", "old"), ("age", "-3"), ("age", "inf"), ("age", "621"), ("sex", "X")]
)
def test_an_unreadable_value_is_named_with_its_subject(name: str, text: str) -> None:
    subjects = [make_subject(**{name: text}), make_subject(), make_subject(**{name: text})]
    with pytest.raises(MgmtError, match=f"subject S1: {name} is '{text}'"):
        read_covariates(subjects, [name])
    problems = covariate_problems(subjects, [name], "cohort.csv")
    assert [(p.kind, p.where) for p in problems] == [("unknown_covariate", "cohort.csv")] * 2
