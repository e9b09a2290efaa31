from __future__ import annotations

import math
from pathlib import Path

import pytest

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.covariates import read_covariates
from mgmt_ray.cohort.subject import Subject


def make_subject(**covariates: str) -> Subject:
    return Subject("S1", 1, {}, Path("mask.nii.gz"), covariates)


@pytest.mark.parametrize(
    ("told", "code"), [("F", -0.5), ("female", -0.5), ("M", 0.5), (" Male ", 0.5)]
)
def test_sex_is_coded_one_apart_and_centred(told: str, code: float) -> None:
    assert read_covariates([make_subject(sex=told)], ["sex"]) == {"S1": (code,)}


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
