"""Sentences on a study, from its files, for the model card and the reporting checklists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from mgmt_ray.cohort.cohort import exclusion_flow
from mgmt_ray.figures.network_labels import network_label
from mgmt_ray.nets.build import VolumeNetworkConfig
from mgmt_ray.report.paper_settings import slice_statements, used_covariates
from mgmt_ray.report.study_results import StudyResults, has_only_slice_networks, slice_networks
from mgmt_ray.statistics.intervals import NUM_RESAMPLES


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence that the study's files support.

    Attributes:
        text: a sentence without its full stop.
        where: anchor of the report's section with the details.
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
"""By reader: the data set, and where its labels come from."""

RESULT_STATEMENTS = ("metrics", "uncertainty")
"""Statements that hold for all ensembles, of networks of volumes and of slices."""


def data_statements(results: StudyResults) -> dict[str, Statement]:
    """Return statements on the data, by the keys of ``checklists.csv``; a text may be empty."""
    source, reference = data_source(results)
    counts = exclusion_flow(results.cohort, results.cohort.modalities)
    flow = "; ".join(f"{group.strip()} {number}" for group, number in counts)
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
        "flow": Statement(flow, "subjects"),
        "missing": Statement(_missing_data(results), "subjects"),
        "preprocessing": Statement(_preprocessing(results), "provenance"),
        "subsets": Statement(f"modalities {', '.join(results.inputs)}", "subjects"),
    }


def _partition_statements(results: StudyResults) -> dict[str, Statement]:
    split = results.splits[0]
    folds = f"{len(split.folds)} folds of the training subjects, each validating once"
    sizes = f"{len(split.training)} training and {len(split.test)} test subjects"
    prefix = f"{len(results.splits)} outer splits, the first with " * (len(results.splits) > 1)
    return {
        "characteristics": Statement(
            "sex and age by methylation; number, sex, age and methylation of training, test and "
            "left-out subjects",
            "subjects",
        ),
        "numbers": Statement(f"{prefix}{sizes}, with the number of methylated", "subjects"),
        "partitions": Statement(f"{prefix}{sizes}, stratified by label; {folds}", "subjects"),
        "differences": Statement(
            "training and test are drawn from one cohort; training alone is augmented and balanced",
            "subjects",
        ),
        "disjoint": Statement("person: all subjects of a person have one role", "subjects"),
    }


def data_source(results: StudyResults) -> tuple[str, str]:
    """Return the data set and where its labels come from; empty where this is unknown."""
    if results.planted is not None:
        return "synthetic cohort made by mgmt_ray", "labels drawn at random"
    reader = str((results.config.get("cohort") or {}).get("reader", ""))
    return SOURCES.get(reader, ("", ""))


def _missing_data(results: StudyResults) -> str:
    """Say how many subjects have no scans of a group, and how missing numbers are imputed."""
    num_missing = sum(e.scope != "cohort" for e in results.cohort.exclusions)
    covariates = used_covariates(results)
    imputed = []
    if covariates:
        imputed.append(
            f"{' and '.join(covariates)} of a network are the mean of its training subjects where "
            "they are unknown"
        )
    if "age_sex" in results.baselines:
        imputed.append(
            "age and sex of the regression on them are the median and the most frequent value of "
            "its training subjects where they are unknown"
        )
    if "radiomics_forest" in results.baselines:
        imputed.append("a radiomic feature of an empty region is 0")
    return (
        f"a subject without a modality of a group is used without that group ({num_missing} such "
        f"cases); {'; '.join(imputed) or 'nothing is imputed'}"
    )


def _preprocessing(results: StudyResults) -> str:
    recipe: Mapping[str, Any] = results.config.get("recipe") or {}
    if not recipe:
        return ""
    fitted = []
    if covariates := used_covariates(results):
        fitted.append(f"a network's {' and '.join(covariates)}")
    if {"age_sex", "tumour_volume"} & set(results.baselines):
        fitted.append("the inputs of the baseline regressions")
    over_subjects = (
        f"of volumes nothing is fitted over subjects; {' and '.join(fitted)} are scaled by mean "
        "and standard deviation of the training subjects"
        if fitted
        else "nothing is fitted over subjects"
    )
    shape = " × ".join(map(str, recipe.get("shape", ())))
    return (
        f"tumour mask applied, window {recipe.get('window')}, {recipe.get('shrink')} voxels "
        f"averaged into one per axis, padded to {shape}, each volume scaled to [0, 1] by its own "
        f"minimum and maximum; {over_subjects}"
    )


def study_statements(results: StudyResults) -> dict[str, Statement]:
    """Return all statements with a text, by the keys of ``checklists.csv``."""
    statements = data_statements(results) | _model_statements(results) | _result_statements(results)
    for name, text in slice_statements(results).items():
        is_alone = has_only_slice_networks(results) and name not in RESULT_STATEMENTS
        texts = (text,) if is_alone else (statements[name].text, text)
        statements[name] = Statement("; ".join(filter(None, texts)), statements[name].where)
    return {name: statement for name, statement in statements.items() if statement.text}


def _model_statements(results: StudyResults) -> dict[str, Statement]:
    training = results.config.get("training") or {}
    volume_networks = [n for n in results.networks if n not in slice_networks(results)]
    networks = ", ".join(network_label(n) for n in volume_networks)
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
        "availability": Statement(_code_version(results), "provenance"),
    }


def _networks(results: StudyResults) -> str:
    config: TypeAdapter[VolumeNetworkConfig] = TypeAdapter(VolumeNetworkConfig)
    return "; ".join(
        f"{network_label(name)}: {config.validate_python(network).description}"
        for name, network in (results.config.get("networks") or {}).items()
        if network and name not in slice_networks(results)
    )


def _initialisation(results: StudyResults) -> str:
    checkpoint = results.config.get("checkpoint")
    if not results.config.get("networks"):
        return ""
    start = f"pretrained weights {Path(checkpoint).name}" if checkpoint else "no pretrained weights"
    return f"{start}; all other weights drawn at random"


def _training(training: Mapping[str, Any]) -> str:
    if not training:
        return ""
    return (
        f"Adam, binary cross-entropy, at most {training.get('epochs')} epochs, batches of "
        f"{training.get('batch_size')}, learning rate {training.get('learning_rate')}"
    )


def _balance(balance: str) -> str:
    descriptions = {
        "prune": "volumes of the larger class are pruned in training folds only",
        "weight": "the loss is weighted by class",
        "none": "classes are left as they are",
    }
    if balance not in descriptions:
        return ""
    return f"{descriptions[balance]}; validation and test keep their imbalance"


def _code_version(results: StudyResults) -> str:
    version = (results.provenance.get("versions") or {}).get("mgmt-ray")
    commit = results.provenance.get("commit")
    return f"code: mgmt-ray {version}, commit {commit}" if version else ""


def _result_statements(results: StudyResults) -> dict[str, Statement]:
    tables = results.tables
    first = results.metrics.iloc[0]
    tests = ", ".join(["exact intervals of rates", *_tests(results)])
    external = f"external data: {', '.join(results.external) or 'none in this study'}"
    return {
        "metrics": Statement(
            "AUC, AP, Brier score, SEN, SPE, PPV, NPV, calibration, net benefit", "results"
        ),
        "uncertainty": Statement(
            f"{NUM_RESAMPLES} stratified bootstrap resamples of subjects, {tests}",
            "comparisons",
        ),
        "robustness": Statement(
            "AUC's standard deviation by draws, folds, seeds, subjects" * ("variance" in tables),
            "variance",
        ),
        "explaining": Statement("policies of the agent" * ("policies" in tables), "routing"),
        "internal": Statement(
            f"{first['num_subjects']} held-out subjects, {first['num_methylated']} methylated",
            "results",
        ),
        "external": Statement(external, "external" if results.external else "results"),
        "performance": Statement("all models with 95 % intervals", "results"),
        "diagnostic": Statement(
            "rates at three thresholds" * ("operating_points" in tables), "operating"
        ),
        "recalibration": Statement(
            "prior correction and temperature scaling fitted on validation"
            * ("calibration" in tables),
            "calibration",
        ),
        "fairness": Statement("results by sex, age, IDH" * ("subgroups" in tables), "subgroups"),
        "output": Statement(
            "probability of methylation; thresholds 0.5, chosen on validation, and prior"
            * ("operating_points" in tables),
            "operating",
        ),
    }


def _tests(results: StudyResults) -> list[str]:
    """Return the names of the tests that the tables have p-values of."""
    columns = {
        "permutation of labels": results.metrics["auc_p"],
        "DeLong": results.comparisons["delong_p"],
        "Friedman": results.comparisons["friedman_p"],
        "Nemenyi": results.comparisons["nemenyi_p"],
    }
    tests = [name for name, p in columns.items() if p.notna().any()]
    return [*tests, "Holm’s correction"] if tests else tests
