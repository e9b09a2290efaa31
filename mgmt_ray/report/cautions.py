"""What a reader must know before trusting a study's numbers."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.report.study_results import StudyResults
from mgmt_ray.statistics.planted_signal import SUSPICIOUS_AUC
from mgmt_ray.study.folder import openings_by_purpose

EXTREME_LOSS = 5.0
"""In nats; a model that is 99 % sure and wrong has 4.6."""


def cautions(results: StudyResults) -> list[str]:
    """Return a sentence for each reason to be careful with this study's numbers."""
    metrics = pd.concat([results.metrics, *(e.metrics for e in results.external.values())])
    warnings = []
    if results.planted is not None:
        warnings.append(
            "The cohort is synthetic: the numbers test the software and say nothing about patients."
        )
    elif (metrics["auc"] > SUSPICIOUS_AUC).any():
        warnings.append(
            f"An AUC above {SUSPICIOUS_AUC} is more than large honest studies of this question "
            "reach (0.55 to 0.67): look for leakage before believing it."
        )
    warnings += [pooled_splits(results)] * (len(results.splits) > 1)
    warnings += _repeated_persons("The test set", results.cohort, results.predictions)
    for name, external in results.external.items():
        warnings += _repeated_persons(
            f"External cohort {name}", external.cohort, external.predictions
        )
    warnings += _extreme_losses(results)
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
    if for_pictures:
        times = "once" if len(for_pictures) == 1 else f"{len(for_pictures)} times"
        warnings.append(
            f"Test subjects were accessed {times} to explain predictions (`mgmt-ray explain`); "
            "choices made after that may depend on them."
        )
    return warnings
