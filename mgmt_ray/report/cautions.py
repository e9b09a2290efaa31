"""What a reader must know before trusting a study's numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pandas as pd

from mgmt_ray.base import fingerprint
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.figures.network_labels import network_label
from mgmt_ray.report.study_results import StudyResults
from mgmt_ray.selection.best_on_validation import primary_ensembles
from mgmt_ray.selection.members import FALLBACK
from mgmt_ray.statistics.planted_signal import SUSPICIOUS_AUC
from mgmt_ray.study.folder import openings_by_purpose

LEARNT_AUC = 0.95
UNLEARNT_AUC = 0.6
"""A network whose members mostly have this training AUC or more, and on average this validation AUC
or less, learnt its training subjects by heart."""
EXTREME_LOSS = 5.0
"""In nats; a model that is 99 % sure and wrong has 4.6."""


def first_caution(metrics: pd.DataFrame, is_synthetic: bool) -> str:
    """Say what must be known before any number is read; empty if there is nothing such."""
    if is_synthetic:
        return (
            "The cohort is synthetic: the numbers test the software and say nothing about patients."
        )
    if (metrics["auc"] > SUSPICIOUS_AUC).any():
        return (
            f"An AUC above {SUSPICIOUS_AUC} is more than large honest studies of this question "
            "reach (0.55 to 0.67): look for leakage before believing it."
        )
    return ""


def cautions(results: StudyResults) -> list[str]:
    """Return a sentence for each reason to be careful with this study's numbers."""
    metrics = pd.concat([results.metrics, *(e.metrics for e in results.external.values())])
    warnings = [*filter(None, [first_caution(metrics, results.planted is not None)])]
    warnings += [pooled_splits(results)] * (len(results.splits) > 1)
    warnings += _repeated_persons("The test set", results.cohort, results.predictions)
    for name, external in results.external.items():
        warnings += _repeated_persons(
            f"External cohort {name}", external.cohort, external.predictions
        )
    warnings += mixed_devices({**results.trials, **results.needed})
    warnings += _learnt_by_heart(results)
    warnings += _extreme_losses(results)
    warnings += protocol_deviations(results)
    warnings += _repeated_openings(results)
    warnings += [
        f"External cohort {name} was predicted {len(external.openings)} times; choices made after "
        "the first prediction may depend on it."
        for name, external in results.external.items()
        if len(external.openings) > 1
    ]
    return warnings


def pooled_splits(results: StudyResults) -> str:
    """Say why intervals over several outer splits are not exact; empty for a single split."""
    num_splits = len(results.splits)
    if num_splits == 1:
        return ""
    return (
        f"The test subjects of {num_splits} splits are pooled: their probabilities come from "
        "models of different scale, and models of different splits share training subjects, so "
        "intervals and p-values are not exact."
    )


def _repeated_persons(where: str, cohort: Cohort, predictions: pd.DataFrame) -> list[str]:
    """Warn that intervals treat subjects as independent, if persons have several subjects."""
    tested = set(predictions["subject"])
    num_subjects = Counter(s.person for s in cohort.subjects if s.id in tested)
    repeated = [number for number in num_subjects.values() if number > 1]
    if not repeated:
        return []
    return [
        f"{where} has {sum(repeated)} subjects of {len(repeated)} persons with more than one each: "
        "intervals and p-values treat subjects as independent, so intervals are too narrow and "
        "p-values too small."
    ]


def mixed_devices(trials: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Warn of trainings of one network that differ in precision, compilation or device.

    Args:
        trials: trial.json by trial id.
    """
    settings: dict[tuple[str, str], Counter[str]] = {}
    for trial in (t for t in trials.values() if "training_config" in t):
        recorded = trial["training_config"]
        compiled = ", compiled" if recorded.get("compile") else ""
        device = trial.get("gpu", {}).get("name", "CPU")
        words = f"{recorded['precision']}{compiled} on {device}"
        stage = (str(trial["network"]), str(trial["network_config"]["kind"]))
        settings.setdefault(stage, Counter())[words] += 1
    return [
        f"{network_label(network)} was trained in different ways: "
        + "; ".join(f"{number} in {words}" for words, number in sorted(counted.items()))
        + ". Its results mix their rounding (precision and compile: auto follow the device)."
        for (network, _), counted in settings.items()
        if len(counted) > 1
    ]


def _learnt_by_heart(results: StudyResults) -> list[str]:
    """Name networks that know their training subjects and nothing of the validation subjects."""
    kept = results.members.merge(results.epochs, on=["trial", "epoch"])
    if "train_auc" not in kept:
        return []
    warnings = []
    for network, rows in kept.groupby("network", sort=False):
        is_learnt = rows["train_auc"] >= LEARNT_AUC
        num_fallbacks = int((rows["rule"] == FALLBACK).sum())
        fallbacks = (
            f"in {num_fallbacks} of {len(rows)} trainings no epoch had SEN and SPE above 0.5 on "
            "validation, so that the last one was kept"
        )
        if is_learnt.sum() > len(rows) / 2 and rows["validation_auc"].mean() <= UNLEARNT_AUC:
            warnings.append(
                f"{network_label(str(network))} learnt its training subjects by heart: training "
                f"AUC at least {LEARNT_AUC} in {int(is_learnt.sum())} of {len(rows)} members, "
                f"mean validation AUC {rows['validation_auc'].mean():.3f}; {fallbacks}."
            )
        elif num_fallbacks:
            warnings.append(f"{network_label(str(network))}: {fallbacks}.")
    return warnings


_DECLARED = {
    "study": "the study file",
    "splits": "the splits",
    "members": "the members",
    "primary": "the primary ensembles",
}


def protocol_deviations(results: StudyResults) -> list[str]:
    """Compare what was evaluated with what was decided before the test set was opened."""
    first = results.protocol
    if first is None:
        return [
            "No protocol.json was written before the test set was opened, so nothing shows what "
            "was decided by then."
        ]
    warnings = []
    amendments = first.get("amendments", [])
    if amendments:
        changed = [
            text
            for key, text in _DECLARED.items()
            if any(later.get(key) != first.get(key) for later in amendments)
        ]
        times = "once" if len(amendments) == 1 else f"{len(amendments)} times"
        what = ", ".join(changed) or "the numbers of trainings"
        warnings.append(
            f"The protocol was amended {times} after the test set was first opened "
            f"(protocol.json; changed: {what}): results since then are exploratory."
        )
    declared = amendments[-1] if amendments else first
    differing = [
        _DECLARED[key] for key, value in _evaluated(results).items() if declared.get(key) != value
    ]
    if differing:
        warnings.append(
            "What was evaluated is not what protocol.json declared before the test set was "
            f"opened: {', '.join(differing)} differ."
        )
    return warnings


def _evaluated(results: StudyResults) -> dict[str, Any]:
    """Return what was evaluated, in the words of the protocol."""
    evaluated: dict[str, Any] = {
        "study": fingerprint(results.config),
        "splits": [split.hash for split in results.splits],
        "members": fingerprint(sorted(results.members["trial"])),
    }
    if "best_ensembles" in results.tables:
        evaluated["primary"] = primary_ensembles(results.tables["best_ensembles"])
    return evaluated


def _extreme_losses(results: StudyResults) -> list[str]:
    """Warn of members whose validation loss is finite, but far above that of a guess."""
    kept = results.members.merge(results.epochs, on=["trial", "epoch"])
    num_extreme = int((kept["validation_loss"] > EXTREME_LOSS).sum())
    if not num_extreme:
        return []
    return [
        f"{num_extreme} of {len(kept)} members have a validation loss above {EXTREME_LOSS:g} nats "
        "(a guess has 0.69): their learning rate was too high."
    ]


def _repeated_openings(results: StudyResults) -> list[str]:
    """Warn of a missing log of test-set accesses, and of more accesses than one.

    Accesses for pictures are counted separately: no number in the report follows from them.
    """
    for_results, for_pictures = openings_by_purpose(results.openings)
    warnings = []
    if not for_results:
        warnings.append(
            "No test-set access is logged although there are results: the test-set access log was "
            "lost."
        )
    if len(for_results) > 1:
        warnings.append(
            f"The test set was accessed {len(for_results)} times; choices made after the first "
            "access may depend on it."
        )
    registered = max((int(o.get("registered_before", 0)) for o in results.openings), default=0)
    if registered:
        times = "once" if registered == 1 else f"{registered} times"
        warnings.append(
            f"By the register of accesses ({results.config.get('test_register')}) test subjects "
            f"had been accessed {times} before by other studies, or by this folder before its own "
            "log began; choices made after that may depend on them."
        )
    if for_pictures:
        times = "once" if len(for_pictures) == 1 else f"{len(for_pictures)} times"
        warnings.append(
            f"Test subjects were accessed {times} to explain predictions (`mgmt-ray explain`); "
            "choices made after that may depend on them."
        )
    return warnings
