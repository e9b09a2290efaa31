"""What a study knows of itself, in sentences, for the model card and the reporting checklists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mgmt_ray.cohort.cohort import exclusion_flow
from mgmt_ray.figures.style import network_label
from mgmt_ray.nets.build import NetworkConfig
from mgmt_ray.report.gather import StudyResults, has_only_slice_networks, slice_networks
from mgmt_ray.report.paper_settings import slice_statements, used_covariates
from mgmt_ray.statistics.intervals import NUM_RESAMPLES


@dataclass(frozen=True, slots=True)
class Statement:
    """Something the study knows.

    Attributes:
        text: a sentence without its full stop.
        where: anchor of the report's section with more of it.
    """

    text: str
    where: str


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


def data_statements(results: StudyResults) -> dict[str, Statement]:
    """Facts of the data, by the names that ``checklists.csv`` uses; a text may be empty."""
    source, reference = data_source(results)
    steps = exclusion_flow(results.cohort, results.cohort.modalities)
    found = "; ".join(f"{what.strip()} {number}" for what, number in steps)
    is_synthetic = results.planted is not None
    return {
        **_partition_statements(results),
        "aims": Statement("developing and evaluating models of MGMT methylation", "summary"),
        "goal": Statement("comparison of networks and modalities with intervals", "results"),
        "design": Statement(
            "synthetic subjects" if is_synthetic else "retrospective, of existing scans", "subjects"
        ),
        "source": Statement(source, "subjects"),
        "reference": Statement(reference, "subjects"),
        "annotation": Statement(
            "labels as published with the data set" * bool(reference), "subjects"
        ),
        "eligibility": Statement("every exclusion is counted with its reason", "subjects"),
        "flow": Statement(found, "subjects"),
        "missing": Statement(_missing(results), "subjects"),
        "preprocessing": Statement(_preprocessing(results), "provenance"),
        "subsets": Statement(f"modalities {', '.join(results.inputs)}", "subjects"),
    }


def _partition_statements(results: StudyResults) -> dict[str, Statement]:
    split = results.splits[0]
    folds = f"{len(split.folds)} folds of the training subjects, each validating once"
    sizes = f"{len(split.training)} training and {len(split.test)} test subjects"
    several = f"{len(results.splits)} outer splits, the first with " * (len(results.splits) > 1)
    return {
        "characteristics": Statement(
            "sex and age by methylation; number, sex, age and methylated of those who train, are "
            "tested and are left out",
            "subjects",
        ),
        "numbers": Statement(f"{several}{sizes}, with the methylated among them", "subjects"),
        "partitions": Statement(f"{several}{sizes}, stratified by label; {folds}", "subjects"),
        "differences": Statement(
            "training and test are drawn from one cohort; training alone is augmented and balanced",
            "subjects",
        ),
        "disjoint": Statement("person: all subjects of a person have one role", "subjects"),
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
    taken = used_covariates(results)
    imputed = []
    if taken:
        imputed.append(
            f"{' and '.join(taken)} of a network are the mean of its training subjects where they "
            "are not known"
        )
    if "age_sex" in results.baselines:
        imputed.append(
            "age and sex of the regression on them are the median and the most frequent value of "
            "its training subjects where they are not known"
        )
    if "radiomics_forest" in results.baselines:
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
    if taken := used_covariates(results):
        fitted.append(f"a network's {' and '.join(taken)}")
    if {"age_sex", "tumour_volume"} & set(results.baselines):
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


RESULT_STATEMENTS = ("metrics", "uncertainty")
"""Facts that hold of ensembles whatever their members take."""


def study_statements(results: StudyResults) -> dict[str, Statement]:
    """All that the study knows, by the names that ``checklists.csv`` uses."""
    found = data_statements(results) | _model_statements(results) | _result_statements(results)
    for name, text in slice_statements(results).items():
        alone = has_only_slice_networks(results) and name not in RESULT_STATEMENTS
        found[name] = _with_slices(found[name], text, alone=alone)
    return {name: fact for name, fact in found.items() if fact.text}


def _with_slices(fact: Statement, text: str, *, alone: bool) -> Statement:
    """A fact of a study with networks of slices, alone or beside others."""
    told = [text] if alone else [fact.text, text]
    return Statement("; ".join(filter(None, told)), fact.where)


def _model_statements(results: StudyResults) -> dict[str, Statement]:
    training = results.config.get("training") or {}
    of_volumes = [n for n in results.networks if n not in slice_networks(results)]
    networks = ", ".join(network_label(n) for n in of_volumes)
    packages = sorted((results.provenance.get("versions") or {}).items())
    return {
        "technology": Statement(f"deep learning on 3-D MRI ({networks})", "results"),
        "model": Statement(_networks(results), "training"),
        "software": Statement(", ".join(f"{p} {v}" for p, v in packages), "provenance"),
        "initialisation": Statement(_initialisation(results), "provenance"),
        "training": Statement(_training(training), "training"),
        "imbalance": Statement(_balance(str(training.get("balance", ""))), "calibration"),
        "selection": Statement(
            "highest M = 0.6·SEN + 0.4·SPE on the validation fold among epochs with both rates "
            "above 0.5, else the last epoch",
            "training",
        ),
        "ensembles": Statement(
            f"mean probability over {'policy draws, ' * ('policies' in results.tables)}folds, "
            "seeds and modalities",
            "members",
        ),
        "protocol": Statement("the study's whole configuration, seeds and hashes", "provenance"),
        "specification": Statement(
            f"{len(results.members)} members with the SHA-256 of their weights", "members"
        ),
        "availability": Statement(_code(results), "provenance"),
    }


def _networks(results: StudyResults) -> str:
    return "; ".join(
        f"{network_label(name)}: {NetworkConfig.model_validate(network).description}"
        for name, network in (results.config.get("networks") or {}).items()
        if network and name not in slice_networks(results)
    )


def _initialisation(results: StudyResults) -> str:
    checkpoint = results.config.get("checkpoint")
    if not results.config.get("networks"):
        return ""
    given = f"pretrained weights {Path(checkpoint).name}" if checkpoint else "no pretrained weights"
    return f"{given}; all else drawn at random"


def _training(training: Mapping[str, Any]) -> str:
    if not training:
        return ""
    return (
        f"Adam, binary cross-entropy, at most {training.get('epochs')} epochs, batches of "
        f"{training.get('batch_size')}, learning rate {training.get('learning_rate')}"
    )


def _balance(balance: str) -> str:
    words = {
        "prune": "volumes of the larger class are pruned in training folds only",
        "weight": "the loss is weighted by class",
        "none": "classes are left as they are",
    }
    return f"{words[balance]}; validation and test keep their imbalance" if balance in words else ""


def _code(results: StudyResults) -> str:
    version = (results.provenance.get("versions") or {}).get("mgmt-ray")
    commit = results.provenance.get("commit")
    return f"code: mgmt-ray {version}, commit {commit}" if version else ""


def _result_statements(results: StudyResults) -> dict[str, Statement]:
    further = results.tables
    first = results.metrics.iloc[0]
    tests = ", ".join(["exact intervals of rates", *_tests(results)])
    outside = f"external data: {', '.join(results.external) or 'none in this study'}"
    return {
        "metrics": Statement(
            "AUC, AP, Brier score, SEN, SPE, PPV, NPV, calibration, net benefit", "results"
        ),
        "uncertainty": Statement(
            f"{NUM_RESAMPLES} stratified bootstrap resamples of subjects, {tests}",
            "comparisons",
        ),
        "robustness": Statement(
            "AUC's deviation by draws, folds, seeds, subjects" * ("variance" in further), "variance"
        ),
        "explaining": Statement("policies of the agent" * ("policies" in further), "agent"),
        "internal": Statement(
            f"{first['num_subjects']} held-out subjects, {first['num_methylated']} methylated",
            "results",
        ),
        "external": Statement(outside, "external" if results.external else "results"),
        "performance": Statement("all models with 95 % intervals", "results"),
        "diagnostic": Statement(
            "rates at three thresholds" * ("operating_points" in further), "operating"
        ),
        "recalibration": Statement(
            "prior correction and temperature scaling fitted on validation"
            * ("calibration" in further),
            "calibration",
        ),
        "fairness": Statement("results by sex, age, IDH" * ("subgroups" in further), "subgroups"),
        "output": Statement(
            "probability of methylation; thresholds 0.5, chosen on validation, and prior"
            * ("operating_points" in further),
            "operating",
        ),
    }


def _tests(results: StudyResults) -> list[str]:
    """Those whose p-values are in the tables."""
    columns = {
        "permutation of labels": results.metrics["auc_p"],
        "DeLong": results.comparisons["delong_p"],
        "Friedman": results.comparisons["friedman_p"],
        "Nemenyi": results.comparisons["nemenyi_p"],
    }
    found = [name for name, p in columns.items() if p.notna().any()]
    return [*found, "Holm’s correction"] if found else found
