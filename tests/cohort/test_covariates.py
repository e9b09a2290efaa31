from __future__ import annotations

import math
from pathlib import Path

import pytest

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.covariates import age_in_years, read_covariates
from mgmt_ray.cohort.subject import Subject


def make_subject(**covariates: str) -> Subject:
    return Subject("S1", 1, {}, Path("mask.nii.gz"), covariates)


@pytest.mark.parametrize(
    ("told", "code"), [("F", -0.5), ("female", -0.5), ("M", 0.5), (" Male ", 0.5)]
)
def test_sex_is_coded_one_apart_and_centred(told: str, code: float) -> None:
    assert read_covariates([make_subject(sex=told)], ["sex"]) == {"S1": (code,)}


@pytest.mark.parametrize(("told", "years"), [("61.5", 61.5), (" 90+ ", 90.0), ("0", 0.0)])
def test_ages_are_years_and_the_oldest_count_as_the_limit_that_hides_them(
    told: str, years: float
) -> None:
    assert read_covariates([make_subject(age=told)], ["age"]) == {"S1": (years,)}
    assert age_in_years(told) == years


@pytest.mark.parametrize("told", ["", "old", "-3", "inf", "nan", "121", "+", "90-100"])
def test_what_holds_no_age_is_no_number(told: str) -> None:
    assert math.isnan(age_in_years(told))


def test_values_come_in_the_order_of_the_names() -> None:
    subject = make_subject(age="61.5", sex="F", idh1="Wildtype")
    assert read_covariates([subject], ["sex", "age"]) == {"S1": (-0.5, 61.5)}
    assert read_covariates([subject], []) == {"S1": ()}


@pytest.mark.parametrize("told", [{}, {"age": ""}, {"age": "Not Available"}, {"age": "nan"}])
def test_what_is_not_known_is_no_number(told: dict[str, str]) -> None:
    ((value,),) = read_covariates([make_subject(**told)], ["age"]).values()
    assert math.isnan(value)


@pytest.mark.parametrize(
    ("name", "told"), [("age", "old"), ("age", "-3"), ("age", "inf"), ("age", "621"), ("sex", "X")]
)
def test_an_unreadable_value_is_named_with_its_subject(name: str, told: str) -> None:
    with pytest.raises(MgmtError, match=f"subject S1: {name} is '{told}'"):
        read_covariates([make_subject(**{name: told})], [name])
