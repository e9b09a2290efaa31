"""What a study knows of itself, in sentences, for the model card and the reporting checklists."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mgmt_ray.figures.style import network_label
from mgmt_ray.report.data_facts import data_facts
from mgmt_ray.report.fact import Fact
from mgmt_ray.report.gather import StudyResults
from mgmt_ray.report.kinds import has_slices_alone, slice_networks
from mgmt_ray.report.slice_settings import slice_facts
from mgmt_ray.statistics.intervals import NUM_RESAMPLES

OF_RESULTS = ("metrics", "uncertainty")
"""Facts that hold of ensembles whatever their members take."""


def study_facts(results: StudyResults) -> dict[str, Fact]:
    """All that the study knows, by the names that ``checklists.csv`` uses."""
    found = data_facts(results) | _of_models(results) | _of_results(results)
    for name, text in slice_facts(results).items():
        alone = has_slices_alone(results) and name not in OF_RESULTS
        found[name] = _with_slices(found[name], text, alone=alone)
    return {name: fact for name, fact in found.items() if fact.text}


def _with_slices(fact: Fact, text: str, *, alone: bool) -> Fact:
    """A fact of a study with networks of slices, alone or beside others."""
    told = [text] if alone else [fact.text, text]
    return Fact("; ".join(filter(None, told)), fact.where)


def _of_models(results: StudyResults) -> dict[str, Fact]:
    training = results.config.get("training") or {}
    of_volumes = [n for n in results.networks if n not in slice_networks(results)]
    networks = ", ".join(network_label(n) for n in of_volumes)
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
        if network and name not in slice_networks(results):
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
    tests = ", ".join(["exact intervals of rates", *_tests(results)])
    outside = f"external data: {', '.join(results.external) or 'none in this study'}"
    return {
        "metrics": Fact(
            "AUC, AP, Brier score, SEN, SPE, PPV, NPV, calibration, net benefit", "results"
        ),
        "uncertainty": Fact(
            f"{NUM_RESAMPLES} stratified bootstrap resamples of subjects, {tests}",
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
