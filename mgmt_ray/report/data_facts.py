"""What a study knows of its data: subjects, labels, preparation, partitions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mgmt_ray.cohort.cohort import flow
from mgmt_ray.report.fact import Fact
from mgmt_ray.report.gather import StudyResults
from mgmt_ray.report.settings import taken_covariates

SOURCES: dict[str, tuple[str, str]] = {
    "upenn": (
        "UPENN-GBM, The Cancer Imaging Archive, doi:10.7937/TCIA.709X-DN49, baseline scans",
        "MGMT column of the cohort's clinical table, Methylated or Unmethylated; Indeterminate and "
        "Not Available are excluded",
    ),
    "brats21": ("RSNA-MICCAI BraTS 2021", "MGMT_value of the challenge's table of labels"),
    "ucsf": (
        "UCSF-PDGM, The Cancer Imaging Archive, doi:10.7937/tcia.bdgf-8v37",
        "MGMT status of the cohort's table, positive or negative; others are excluded",
    ),
    "tcga": (
        "TCGA-GBM, The Cancer Imaging Archive, doi:10.7937/K9/TCIA.2016.RNYFUYE9",
        "methylation of promoter probes",
    ),
}
"""By reader: the data set, and what its labels are."""


def data_facts(results: StudyResults) -> dict[str, Fact]:
    """Facts of the data, by the names that ``checklists.csv`` uses; a text may be empty."""
    source, reference = data_source(results)
    steps = flow(results.cohort, results.cohort.modalities)
    found = "; ".join(f"{what.strip()} {number}" for what, number in steps)
    is_synthetic = results.planted is not None
    return {
        **_of_partitions(results),
        "aims": Fact("developing and evaluating models of MGMT methylation", "summary"),
        "goal": Fact("comparison of networks and modalities with intervals", "results"),
        "design": Fact(
            "synthetic subjects" if is_synthetic else "retrospective, of existing scans", "subjects"
        ),
        "source": Fact(source, "subjects"),
        "reference": Fact(reference, "subjects"),
        "annotation": Fact("labels as published with the data set" * bool(reference), "subjects"),
        "eligibility": Fact("every exclusion is counted with its reason", "subjects"),
        "flow": Fact(found, "subjects"),
        "missing": Fact(_missing(results), "subjects"),
        "preprocessing": Fact(_preprocessing(results), "provenance"),
        "subsets": Fact(f"modalities {', '.join(results.inputs)}", "subjects"),
    }


def _of_partitions(results: StudyResults) -> dict[str, Fact]:
    split = results.splits[0]
    folds = f"{len(split.folds)} folds of the training subjects, each validating once"
    sizes = f"{len(split.training)} training and {len(split.test)} test subjects"
    several = f"{len(results.splits)} outer splits, the first with " * (len(results.splits) > 1)
    return {
        "characteristics": Fact(
            "sex and age by methylation; number, sex, age and methylated of those who train, are "
            "tested and are left out",
            "subjects",
        ),
        "numbers": Fact(f"{several}{sizes}, with the methylated among them", "subjects"),
        "partitions": Fact(f"{several}{sizes}, stratified by label; {folds}", "subjects"),
        "differences": Fact(
            "training and test are drawn from one cohort; training alone is augmented and balanced",
            "subjects",
        ),
        "disjoint": Fact("person: all subjects of a person have one role", "subjects"),
    }


def data_source(results: StudyResults) -> tuple[str, str]:
    """The data set, and what its labels are; empty where the study does not know."""
    if results.planted is not None:
        return "synthetic cohort made by mgmt_ray", "labels drawn at random"
    reader = str((results.config.get("cohort") or {}).get("reader", ""))
    return SOURCES.get(reader, ("", ""))


def _missing(results: StudyResults) -> str:
    """Who lacks scans, and what stands for a number that is not known."""
    lacking = sum(e.scope != "cohort" for e in results.cohort.exclusions)
    taken = taken_covariates(results)
    imputed = []
    if taken:
        imputed.append(
            f"{' and '.join(taken)} of a network are the mean of its training subjects where they "
            "are not known"
        )
    if "age_sex" in results.comparison_models:
        imputed.append(
            "age and sex of the regression on them are the median and the most frequent value of "
            "its training subjects where they are not known"
        )
    if "radiomics_forest" in results.comparison_models:
        imputed.append("a radiomic feature of an empty region is 0")
    return (
        f"a subject without a modality of a group is used without that group ({lacking} such "
        f"cases); {'; '.join(imputed) or 'nothing is imputed'}"
    )


def _preprocessing(results: StudyResults) -> str:
    recipe: Mapping[str, Any] = results.config.get("recipe") or {}
    if not recipe:
        return ""
    fitted = []
    if taken := taken_covariates(results):
        fitted.append(f"a network's {' and '.join(taken)}")
    if {"age_sex", "tumour_volume"} & set(results.comparison_models):
        fitted.append("the numbers of the comparison regressions")
    over_subjects = (
        f"of volumes nothing is fitted over subjects; {' and '.join(fitted)} are scaled by mean "
        "and deviation of the training subjects"
        if fitted
        else "nothing is fitted over subjects"
    )
    shape = " × ".join(map(str, recipe.get("shape", ())))
    return (
        f"tumour mask applied, window {recipe.get('window')}, {recipe.get('shrink')} voxels "
        f"averaged into one per axis, padded to {shape}, each volume scaled to [0, 1] by its own "
        f"minimum and maximum; {over_subjects}"
    )
