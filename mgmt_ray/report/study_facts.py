"""Sentences on a study, from its files, for the model card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from mgmt_ray.figures.network_labels import network_label
from mgmt_ray.nets.build import VolumeNetworkConfig
from mgmt_ray.report.paper_settings import slice_statements, used_covariates
from mgmt_ray.report.study_results import StudyResults, has_only_slice_networks, slice_networks
from mgmt_ray.statistics.intervals import NUM_RESAMPLES

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


def data_source(results: StudyResults) -> tuple[str, str]:
    """Return the data set and where its labels come from; empty where this is unknown."""
    if results.planted is not None:
        return "synthetic cohort made by mgmt_ray", "labels drawn at random"
    reader = str((results.config.get("cohort") or {}).get("reader", ""))
    return SOURCES.get(reader, ("", ""))


def _preprocessing(results: StudyResults) -> str:
    recipe: Mapping[str, Any] = results.config.get("recipe") or {}
    if not recipe:
        return ""
    fitted = []
    if covariates := used_covariates(results):
        fitted.append(f"a network's {' and '.join(covariates)}")
    if {"first_order", "age_sex", "tumour_volume"} & set(results.baselines):
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


def study_statements(results: StudyResults) -> dict[str, str]:
    """Return sentences without their full stops, by subject; what is unknown is not in it."""
    source, reference = data_source(results)
    statements = {
        "source": source,
        "reference": reference,
        "preprocessing": _preprocessing(results),
        "partitions": _partitions(results),
        "characteristics": "sex and age by methylation; number, sex, age and methylation of "
        "training, test and left-out subjects",
        **_model_statements(results),
        **_result_statements(results),
    }
    for name, text in slice_statements(results).items():
        is_alone = has_only_slice_networks(results) and name not in RESULT_STATEMENTS
        texts = (text,) if is_alone else (statements[name], text)
        statements[name] = "; ".join(filter(None, texts))
    return {name: statement for name, statement in statements.items() if statement}


def _partitions(results: StudyResults) -> str:
    split = results.splits[0]
    prefix = f"{len(results.splits)} outer splits, the first with " * (len(results.splits) > 1)
    return (
        f"{prefix}{len(split.training)} training and {len(split.test)} test subjects, stratified "
        f"by label; {len(split.folds)} folds of the training subjects, each validating once"
    )


def _model_statements(results: StudyResults) -> dict[str, str]:
    balance = str((results.config.get("training") or {}).get("balance", ""))
    volume_networks = [n for n in results.networks if n not in slice_networks(results)]
    networks = ", ".join(map(network_label, volume_networks))
    return {
        "technology": f"deep learning on 3-D MRI ({networks})",
        "model": _networks(results),
        "initialisation": _initialisation(results),
        "imbalance": _balance(balance),
        "ensembles": f"mean probability over {'policy draws, ' * ('policies' in results.tables)}"
        "folds, seeds and modalities",
        "availability": _code_version(results),
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


def _result_statements(results: StudyResults) -> dict[str, str]:
    first = results.metrics.iloc[0]
    tests = ", ".join(["exact intervals of rates", *_tests(results)])
    return {
        "metrics": "AUC, AP, Brier score, SEN, SPE, PPV, NPV, calibration, net benefit",
        "uncertainty": f"AUC by DeLong, AP by the jackknife, Brier by {NUM_RESAMPLES} "
        f"stratified bootstrap resamples of subjects, {tests}",
        "internal": f"{first['num_subjects']} held-out subjects, "
        f"{first['num_methylated']} methylated",
        "external": f"external data: {', '.join(results.external) or 'none in this study'}",
        "fairness": "results by sex, age, IDH" * ("subgroups" in results.tables),
        "output": "probability of methylation; thresholds 0.5, chosen on validation, and prior"
        * ("operating_points" in results.tables),
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
