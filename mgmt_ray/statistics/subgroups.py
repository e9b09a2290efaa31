"""Metrics of the chosen ensembles in subgroups of the test set: by sex, age and IDH status."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

import pandas as pd

from mgmt_ray.cohort.covariates import SEX, age_in_years
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.selection.best_on_validation import BEST_OVERALL
from mgmt_ray.statistics.delong import delong_interval
from mgmt_ray.statistics.intervals import column_names, interval_columns
from mgmt_ray.statistics.model_intervals import ResampledModel, resample_models
from mgmt_ray.statistics.operating_points import classification_rates
from mgmt_ray.study.baseline_config import BASELINES
from mgmt_ray.training.metrics import THRESHOLD

UNKNOWN_LEVEL = "unknown"
LEVELS: Mapping[str, tuple[str, ...]] = {
    "sex": ("female", "male", UNKNOWN_LEVEL),
    "age": ("under 18", "18-29", "30-49", "50-69", "70+", UNKNOWN_LEVEL),
    "idh": ("wildtype", "mutated", UNKNOWN_LEVEL),
}
"""Levels by attribute; the age bands in years are those of Schmitz et al. 2024, table 1."""

AGE_BANDS = ((18, "under 18"), (30, "18-29"), (50, "30-49"), (70, "50-69"), (math.inf, "70+"))
IDH_COLUMNS = ("idh1", "idh")

# Whole words. UCSF-PDGM gives the mutation (IDH1 p.R132H, IDH2 p.Arg172Trp); "NOS/NEC" in
# UPENN-GBM means that there is no result.
_WILDTYPE = re.compile(r"\b(wild([ -]?type)?|wt)\b")
_NOT_MUTATED = re.compile(r"\b(not|non|no|un)[ -]?(mutated|mutant|mutation)\b")
_NEGATED = re.compile(r"\b(not|non|no|without|negative)\b")
_MUTATED = re.compile(r"\b(mutated|mutant|mutation|mut)\b|(?<!\d)(132|172)(?!\d)")

SUBGROUP_COLUMNS: tuple[str, ...] = (
    *("attribute", "level", "network", "ensemble", "num_subjects", "num_methylated"),
    *column_names("auc", "sen", "spe", "brier"),
)


def subgroups_table(
    predictions: pd.DataFrame, subjects: Iterable[Subject], seed: int = 42
) -> pd.DataFrame:
    """Return AUC, SEN, SPE and Brier of best ensembles and baseline models, by subgroup.

    AUC has :func:`delong_interval`'s interval, which stays wide where the few subjects of a
    subgroup happen to be perfectly separated (a bootstrap's shrinks to a point); SEN and SPE have
    exact ones, Brier a stratified bootstrap's. Differences between subgroups are not tested.

    Args:
        predictions: as :func:`mgmt_ray.selection.ensembles.ensemble` returns them; of networks only
            the ensembles named "best overall" are used.

    Returns:
        :data:`SUBGROUP_COLUMNS`, levels in the order of :data:`LEVELS`, without those that have no
        test subjects; NaN where a class that a metric needs is missing, and for bounds of AUC
        where a class has a single subject.
    """
    levels = {subject.id: subject_levels(subject) for subject in subjects}
    shown = predictions[
        (predictions["ensemble"] == BEST_OVERALL) | predictions["network"].isin(BASELINES)
    ]
    rows: list[dict[str, object]] = []
    for attribute, names in LEVELS.items():
        level = shown["subject"].map({s: of_subject[attribute] for s, of_subject in levels.items()})
        for name in names:
            rows += [
                {"attribute": attribute, "level": name, "network": network, "ensemble": ensemble}
                | _metrics(model)
                for (network, ensemble), model in resample_models(
                    shown[level == name], seed
                ).items()
            ]
    return pd.DataFrame(rows).reindex(columns=list(SUBGROUP_COLUMNS))


def subject_levels(subject: Subject) -> dict[str, str]:
    """Return a subject's level of each attribute; a missing or unreadable one is "unknown".

    >>> covariates = {"Sex": "F", "Age": "61.5", "IDH1": "Wildtype"}
    >>> subject_levels(Subject("S1", 1, scans={}, mask=None, covariates=covariates))
    {'sex': 'female', 'age': '50-69', 'idh': 'wildtype'}
    """
    covariates = {name.lower(): text.strip().lower() for name, text in subject.covariates.items()}
    sex = SEX.get(covariates.get("sex", ""), math.nan)
    idh = next((covariates[name] for name in IDH_COLUMNS if name in covariates), "")
    return {
        "sex": UNKNOWN_LEVEL if math.isnan(sex) else "male" if sex > 0 else "female",
        "age": _age_band(covariates.get("age", "")),
        "idh": _idh(idh),
    }


def _age_band(text: str) -> str:
    years = age_in_years(text)
    return next((band for end, band in AGE_BANDS if years < end), UNKNOWN_LEVEL)


def _idh(text: str) -> str:
    if _NOT_MUTATED.search(text):
        return "wildtype"
    if _NEGATED.search(text):
        return UNKNOWN_LEVEL
    if _WILDTYPE.search(text):
        return "wildtype"
    return "mutated" if _MUTATED.search(text) else UNKNOWN_LEVEL


def _metrics(model: ResampledModel) -> dict[str, object]:
    rates = classification_rates(model.labels, model.probabilities >= THRESHOLD)
    intervals = {
        "auc": delong_interval(model.labels, model.probabilities),
        "sen": rates["sen"],
        "spe": rates["spe"],
        "brier": model.interval("brier"),
    }
    return {
        "num_subjects": len(model.labels),
        "num_methylated": int(model.labels.sum()),
        **interval_columns(intervals),
    }
