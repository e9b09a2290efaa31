"""What a reader must know before trusting a study's numbers."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.report.gather import StudyResults
from mgmt_ray.statistics.planted_signal import SUSPICIOUS_AUC
from mgmt_ray.study.folder import openings_by_purpose

EXTREME_LOSS = 5.0
"""In nats; a model that is 99 % sure and wrong has 4.6."""


def cautions(results: StudyResults) -> list[str]:
    """A sentence for each reason to be careful with this study's numbers."""
    metrics = pd.concat([results.metrics, *(e.metrics for e in results.external.values())])
    found = []
    if results.planted is not None:
        found.append(
            "The cohort is synthetic: the numbers test the software and say nothing about patients."
        )
    elif (metrics["auc"] > SUSPICIOUS_AUC).any():
        found.append(
            f"An AUC above {SUSPICIOUS_AUC} is more than large honest studies of this question "
            "reach (0.55 to 0.67): look for leakage before believing it."
        )
    separated = metrics["auc"].isin((0, 1)) & (metrics["auc_low"] == metrics["auc_high"])
    if separated.any():
        found.append(
            "Where the classes are perfectly separated the bootstrap interval of AUC and AP "
            "shrinks to a point; read the exact intervals of SEN and SPE there."
        )
    found += [pooled_splits(results)] * (len(results.splits) > 1)
    found += _repeated_persons("The test set", results.cohort, results.predictions)
    for name, external in results.external.items():
        found += _repeated_persons(f"External cohort {name}", external.cohort, external.predictions)
    found += _extreme_losses(results)
    found += _repeated_openings(results)
    found += [
        f"External cohort {name} was predicted {len(external.openings)} times; choices made after "
        "the first may have seen it."
        for name, external in results.external.items()
        if len(external.openings) > 1
    ]
    return found


def pooled_splits(results: StudyResults) -> str:
    """Why numbers over several splits are not exact; empty where there is one."""
    number = len(results.splits)
    if number == 1:
        return ""
    return (
        f"The test subjects of {number} splits are pooled: their probabilities come from models of "
        "different scale, and models of different splits share training subjects, so intervals and "
        "p-values are not exact."
    )


def _repeated_persons(where: str, cohort: Cohort, predictions: pd.DataFrame) -> list[str]:
    """That subjects of one person are taken to be independent, where there are any."""
    tested = set(predictions["subject"])
    subjects = Counter(s.person for s in cohort.subjects if s.id in tested)
    several = [number for number in subjects.values() if number > 1]
    if not several:
        return []
    return [
        f"{where} has {sum(several)} subjects of {len(several)} persons with more than one each: "
        "intervals and p-values treat subjects as independent, so intervals are too narrow and "
        "p-values too small."
    ]


def _extreme_losses(results: StudyResults) -> list[str]:
    """Members that are finite, and yet far worse than a guess."""
    kept = results.members.merge(results.epochs, on=["trial", "epoch"])
    number = int((kept["validation_loss"] > EXTREME_LOSS).sum())
    if not number:
        return []
    return [
        f"{number} of {len(kept)} members have a validation loss above {EXTREME_LOSS:g} nats, "
        "where "
        "a guess has 0.69: their learning rate was too high."
    ]


def _repeated_openings(results: StudyResults) -> list[str]:
    """Openings for pictures are told apart: no number in the report follows from them."""
    of_results, for_pictures = openings_by_purpose(results.openings)
    found = []
    if not of_results:
        found.append(
            "No opening of the test set is logged, and yet there are results: its log was lost."
        )
    if len(of_results) > 1:
        found.append(
            f"The test set was opened {len(of_results)} times; choices made after the first "
            "opening may have seen it."
        )
    if for_pictures:
        times = "once" if len(for_pictures) == 1 else f"{len(for_pictures)} times"
        found.append(
            f"Test subjects were looked at {times} to explain predictions (`mgmt-ray explain`); "
            "choices made after that may have seen them."
        )
    return found
