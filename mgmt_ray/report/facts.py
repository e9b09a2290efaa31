"""What a study knows of itself, in sentences, for the model card and the reporting checklists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mgmt_ray.cohort.cohort import flow
from mgmt_ray.figures.style import network_label
from mgmt_ray.report.gather import StudyResults
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
"""By reader: the data set, and what its labels are."""


@dataclass(frozen=True, slots=True)
class Fact:
    """Something the study knows.

    Attributes:
        text: a sentence without its full stop.
        where: anchor of the report's section with more of it.
    """

    text: str
    where: str


def study_facts(results: StudyResults) -> dict[str, Fact]:
    """All that the study knows, by the names that ``checklists.csv`` uses."""
    found = _of_data(results) | _of_models(results) | _of_results(results)
    return {name: fact for name, fact in found.items() if fact.text}


def _of_data(results: StudyResults) -> dict[str, Fact]:
    source, reference = data_source(results)
    steps = flow(results.cohort, results.cohort.modalities)
    found = "; ".join(f"{what.strip()} {number}" for what, number in steps)
    lacking = sum(e.scope != "cohort" for e in results.cohort.exclusions)
    split = results.splits[0]
    folds = f"{len(split.folds)} folds of the training subjects, each validating once"
    sizes = f"{len(split.training)} training and {len(split.test)} test subjects"
    several = f"{len(results.splits)} outer splits, the first with " * (len(results.splits) > 1)
    is_synthetic = results.planted is not None
    return {
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
        "characteristics": Fact("sex and age by methylation, and numbers by role", "subjects"),
        "numbers": Fact(f"{several}{sizes}, with the methylated among them", "subjects"),
        "missing": Fact(
            f"a subject without a modality of a group is used without that group ({lacking} such "
            "cases); nothing is imputed",
            "subjects",
        ),
        "preprocessing": Fact(_preprocessing(results.config.get("recipe") or {}), "provenance"),
        "subsets": Fact(f"modalities {', '.join(results.inputs)}", "subjects"),
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


def _preprocessing(recipe: Mapping[str, Any]) -> str:
    if not recipe:
        return ""
    shape = " × ".join(map(str, recipe.get("shape", ())))
    return (
        f"tumour mask applied, window {recipe.get('window')}, {recipe.get('shrink')} voxels "
        f"averaged into one per axis, padded to {shape}, each volume scaled to [0, 1] by its own "
        "minimum and maximum; nothing is fitted over subjects"
    )


def _of_models(results: StudyResults) -> dict[str, Fact]:
    training = results.config.get("training") or {}
    networks = ", ".join(network_label(n) for n in results.networks)
    packages = sorted((results.provenance.get("versions") or {}).items())
    return {
        "technology": Fact(f"deep learning on 3-D MRI ({networks})", "results"),
        "model": Fact(_networks(results), "training"),
        "software": Fact(", ".join(f"{p} {v}" for p, v in packages), "provenance"),
        "initialisation": Fact(_initialisation(results), "provenance"),
        "training": Fact(_training(training), "training"),
        "imbalance": Fact(_balance(str(training.get("balance", ""))), "calibration"),
        "selection": Fact(
            "highest M = 0.6·SEN + 0.4·SPE on the validation fold among epochs with both rates "
            "above 0.5, else the last epoch",
            "training",
        ),
        "ensembles": Fact(
            "mean probability over policy draws, folds, seeds and modalities", "members"
        ),
        "protocol": Fact("the study's whole configuration, seeds and hashes", "provenance"),
        "specification": Fact(
            f"{len(results.members)} members with the SHA-256 of their weights", "members"
        ),
        "availability": Fact(_code(results), "provenance"),
    }


def _networks(results: StudyResults) -> str:
    described = []
    for name, network in (results.config.get("networks") or {}).items():
        if network:
            what = f"{network_label(name)}: {network.get('kind')}"
            depth = f", ResNet-{network['depth']} in 3-D" if "depth" in network else ""
            described.append(what + depth)
    return "; ".join(described)


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


def _of_results(results: StudyResults) -> dict[str, Fact]:
    further = results.further
    first = results.metrics.iloc[0]
    outside = f"external data: {', '.join(results.external) or 'none in this study'}"
    return {
        "metrics": Fact(
            "AUC, AP, Brier score, SEN, SPE, PPV, NPV, calibration, net benefit", "results"
        ),
        "uncertainty": Fact(
            f"{NUM_RESAMPLES} stratified bootstrap resamples of subjects, exact intervals of "
            "rates, DeLong, permutation, Friedman, Nemenyi, Holm",
            "comparisons",
        ),
        "robustness": Fact(
            "AUC's deviation by draws, folds, seeds, subjects" * ("variance" in further), "variance"
        ),
        "explaining": Fact("policies of the agent" * ("policies" in further), "agent"),
        "internal": Fact(
            f"{first['num_subjects']} held-out subjects, {first['num_methylated']} methylated",
            "results",
        ),
        "external": Fact(outside, "external" if results.external else "results"),
        "performance": Fact("all models with 95 % intervals", "results"),
        "diagnostic": Fact(
            "rates at three thresholds" * ("operating_points" in further), "operating"
        ),
        "recalibration": Fact(
            "prior correction and temperature scaling fitted on validation"
            * ("calibration" in further),
            "calibration",
        ),
        "fairness": Fact("results by sex, age, IDH" * ("subgroups" in further), "subgroups"),
        "output": Fact(
            "probability of methylation; thresholds 0.5, chosen on validation, and prior"
            * ("operating_points" in further),
            "operating",
        ),
    }
