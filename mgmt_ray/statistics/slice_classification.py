"""Classification of slices and patients as in table 4 of Chen et al. 2020, and its tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from mgmt_ray.base import MgmtError
from mgmt_ray.selection.predictions import read_complete_table, read_table
from mgmt_ray.statistics.intervals import (
    Interval,
    PerResample,
    column_names,
    defined_interval,
    interval_columns,
    jackknife_std,
    leave_one_out,
    logit_interval,
    mean_over_models,
    std_over_models,
    student_quantile,
)
from mgmt_ray.statistics.slice_overlap import (
    SEGMENTATION_COLUMNS,
    PatientResamples,
    resample_patients,
    slice_overlap_table,
    slice_seconds_table,
)
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.training.metrics import auc, count_correct

SLICE_COLUMNS: tuple[str, ...] = (
    *("subject", "depth", "split", "outer_fold", "fold", "network", "modality", "trial"),
    *("probability", "label"),
)
"""Columns of a table of slice predictions, which has one row per model and slice."""

SLICE_METRICS: dict[str, str] = {
    "accuracy": "Accuracy",
    "recall": "Recall",
    "precision": "Precision",
    "f1": "F1",
    "auc": "AUC",
}
LEVELS = ("slice", "patient")
MAX_BLOCK_SIZE = 4_000_000
"""Weights of resampled rows in memory at once: 32 MB, a few times that while AUC is computed."""

Scores = Mapping[str, PerResample]


def resample_by_label(rows: pd.DataFrame, phase: str, seed: int) -> PatientResamples:
    """Resample the patients of a phase's :data:`SLICE_COLUMNS`, stratified by label."""
    label = rows.drop_duplicates("subject").set_index("subject")["label"]
    return resample_patients(label, phase, seed)


def score_model(rows: pd.DataFrame, drawn: PatientResamples) -> Scores:
    """Score one model; each of a patient's rows is drawn as often as the patient."""
    columns = drawn.columns(rows)
    labels = rows["label"].to_numpy(np.int64)
    probabilities = rows["probability"].to_numpy(np.float64)
    num_blocks = 1 + len(drawn.weights) * len(rows) // MAX_BLOCK_SIZE
    parts = [
        classification_scores(labels, probabilities, block[:, columns])
        for block in np.array_split(drawn.weights, num_blocks)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in SLICE_METRICS}


def classification_scores(
    labels: Int[np.ndarray, " row"],
    probabilities: Float[np.ndarray, " row"],
    weights: Int[np.ndarray, "resample row"],
) -> Scores:
    """Return the metrics of :data:`SLICE_METRICS` at threshold 0.5, methylated being positive.

    Eq. 3 of Chen et al. 2020. NaN where a metric is not defined: recall without a methylated row,
    precision where none is called methylated, AUC where a class is missing. F1 is
    2·TP / (2·TP + FP + FN), the same as the paper's where that is defined, and 0 where none is
    called methylated although some are.

    >>> labels, p = np.array([1, 1, 0, 0]), np.array([0.9, 0.4, 0.6, 0.2])
    >>> scores = classification_scores(labels, p, np.ones((1, 4), dtype=int))
    >>> scores["accuracy"], scores["auc"]
    (array([0.5]), array([0.75]))
    """
    true_positives, positives = count_correct(labels, probabilities, weights, label=1)
    true_negatives, negatives = count_correct(labels, probabilities, weights, label=0)
    false_positives = negatives - true_negatives
    called = true_positives + false_positives
    return {
        "accuracy": _ratio(true_positives + true_negatives, positives + negatives),
        "recall": _ratio(true_positives, positives),
        "precision": _ratio(true_positives, called),
        "f1": _ratio(2 * true_positives, called + positives),
        "auc": auc(labels, probabilities, weights),
    }


def score_levels(slices: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the rows by slice, and rows by patient with the mean probability over its slices.

    Tables of :data:`SLICE_COLUMNS` by :data:`LEVELS`; rows of patients have the depth -1.
    """
    keys = ["trial", "subject"]
    means = slices.groupby(keys, sort=False)["probability"].mean()
    first = slices.drop_duplicates(keys).drop(columns="probability")
    return {"slice": slices, "patient": first.assign(depth=-1).join(means, on=keys)}


def _ratio(part: Int[np.ndarray, " resample"], whole: Int[np.ndarray, " resample"]) -> PerResample:
    ratio: np.ndarray = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return ratio


CLASSIFICATION_COLUMNS: tuple[str, ...] = (
    *("network", "modality", "phase", "level"),
    *("num_splits", "num_models", "num_patients", "num_rows"),
    *(
        f"{metric}{suffix}"
        for metric in SLICE_METRICS
        for suffix in ("", "_low", "_high", "_std", "_undefined")
    ),
)
"""``num_rows`` counts slices or patients; ``auc_undefined`` etc. count models without a value."""

BEST_SLICE_COLUMNS: tuple[str, ...] = (
    *("network", "modality", "outer_fold", "fold", "trial", "phase", "level"),
    *("num_patients", "num_rows", *column_names("auc")),
)


def slice_classification_table(slices: pd.DataFrame, seed: int = 42) -> pd.DataFrame:
    """Score the classifiers of all folds and seeds, by slice and by patient.

    A patient's probability is the mean over its slices. A value is the mean over the models of an
    outer split for which it is defined, then over splits; ``_undefined`` counts the others, and
    ``_std`` is the standard deviation of :func:`std_over_models`. The interval of test and
    external patients is the percentile interval of a cluster bootstrap, stratified by label:
    patients are drawn with all their slices, the same ones for all models and both levels. A
    resample in which no model has a value is omitted. AUC has that of a jackknife of patients on
    the logit scale instead, which does not shrink to a point at perfect separation. Training and
    validation have no interval, since their patients differ from fold to fold.

    Returns:
        :data:`CLASSIFICATION_COLUMNS`, one row per network, modality, phase and level.
    """
    rows = []
    keys = ["network", "modality", "split"]
    for (network, modality, phase), part in slices.groupby(keys, sort=False):
        drawn = resample_by_label(part, str(phase), seed)
        for level, scored in score_levels(part).items():
            counts = {
                "num_splits": scored["outer_fold"].nunique(),
                "num_models": scored["trial"].nunique(),
                "num_patients": scored["subject"].nunique(),
                "num_rows": len(scored[["subject", "depth"]].drop_duplicates()),
            }
            key = {"network": network, "modality": modality, "phase": phase, "level": level}
            rows.append({**key, **counts, **_score_columns(scored, drawn)})
    return pd.DataFrame(rows, columns=list(CLASSIFICATION_COLUMNS))


def best_slice_models(slices: pd.DataFrame, seed: int = 42) -> pd.DataFrame:
    """Return AUCs of the best model on validation, by network, modality and outer split.

    It is the model with the highest AUC by slice on its validation patients; on a tie the highest
    AUC by patient counts, then the order. Each fold's model has other validation patients, so the
    best is partly the one with the easiest patients. Test patients have the interval of
    :func:`slice_classification_table`.

    Args:
        slices: :data:`.SLICE_COLUMNS` of all phases.

    Returns:
        :data:`BEST_SLICE_COLUMNS`, one row per network, modality, split, phase and level.
    """
    rows = []
    for (network, modality, outer), part in slices.groupby(
        ["network", "modality", "outer_fold"], sort=False
    ):
        best = _best_on_validation(part[part["split"] == "validation"])
        best_rows = part[part["trial"] == best]
        key = {"network": network, "modality": modality, "outer_fold": outer, "trial": best}
        for phase, phase_rows in best_rows.groupby("split", sort=False):
            drawn = resample_by_label(phase_rows, str(phase), seed)
            for level, scored in score_levels(phase_rows).items():
                columns = {
                    "fold": int(scored["fold"].iloc[0]),
                    "phase": phase,
                    "level": level,
                    "num_patients": scored["subject"].nunique(),
                    "num_rows": len(scored),
                }
                auc = _auc_interval([scored], np.zeros(1, dtype=np.int64), drawn)
                rows.append({**key, **columns, **interval_columns({"auc": auc})})
    return pd.DataFrame(rows, columns=list(BEST_SLICE_COLUMNS))


def _best_on_validation(validation: pd.DataFrame) -> str:
    levels = score_levels(validation)

    def order(trial: str) -> tuple[float, ...]:
        aucs = []
        for rows in levels.values():
            scored = rows[rows["trial"] == trial]
            drawn = resample_by_label(scored, "validation", seed=0)
            auc = float(score_model(scored, drawn)["auc"][0])
            # Rounded, so that on a tie in exact arithmetic the earlier one is chosen.
            aucs.append(-1.0 if math.isnan(auc) else round(auc, 12))
        return tuple(aucs)

    return str(max(dict.fromkeys(validation["trial"]), key=order))


def _score_columns(rows: pd.DataFrame, drawn: PatientResamples) -> dict[str, float]:
    """Return all metrics' columns for the models of one network, modality, phase and level."""
    models = [model for _, model in rows.groupby("trial", sort=False)]
    outers = np.array([int(model["outer_fold"].iloc[0]) for model in models])
    scores = [score_model(model, drawn) for model in models]
    columns: dict[str, float] = {}
    for metric in SLICE_METRICS:
        values = np.stack([s[metric] for s in scores])
        interval = (
            _auc_interval(models, outers, drawn)
            if metric == "auc"
            else defined_interval(mean_over_models(values, outers))
        )
        columns |= interval_columns({metric: interval})
        columns[f"{metric}_std"] = std_over_models(values[:, 0], outers)
        columns[f"{metric}_undefined"] = int(np.isnan(values[:, 0]).sum())
    return columns


def _auc_interval(
    models: Sequence[pd.DataFrame], outers: Int[np.ndarray, " model"], drawn: PatientResamples
) -> Interval:
    """Return the mean AUC of models; only patients that are resampled give it an interval."""
    sample = np.ones((1, len(drawn.patients)), dtype=np.int64)
    is_resampled = len(drawn.weights) > 1
    parts = [sample, leave_one_out(len(drawn.patients))] if is_resampled else [sample]
    left_out = PatientResamples(drawn.patients, np.concatenate(parts))
    values = np.stack([score_model(model, left_out)["auc"] for model in models])
    means = mean_over_models(values, outers)
    value = float(means[0])
    if not is_resampled:
        return Interval(value, math.nan, math.nan)
    label = pd.concat(models).drop_duplicates("subject").set_index("subject")["label"]
    labels = label.loc[drawn.patients].to_numpy(np.int64)
    margin = student_quantile(len(labels)) * jackknife_std(labels, means[1:])
    return logit_interval(value, margin, int(min(labels.sum(), len(labels) - labels.sum())))


def slice_tables(out: Path) -> dict[str, pd.DataFrame]:
    """Return the tables by slice and patient that the study has data for, by name.

    ``slice_classification`` and ``slice_best`` are computed from ``slice_predictions.csv`` and the
    trials in it, ``slice_overlap`` and ``slice_seconds`` from ``segmentations.csv`` and the
    segmentations in that. An external cohort's folder has no trials: its tables cover its own
    patients only, without ``slice_best``.

    Raises:
        MgmtError: a trial's table is missing or has other columns.
    """
    tables = {}
    segmented = read_segmentations(out)
    if segmented is not None:
        tables["slice_overlap"] = slice_overlap_table(segmented)
        held_out = segmented[segmented["split"].isin(("test", "external"))]
        tables["slice_seconds"] = slice_seconds_table(held_out)
    classified = read_classified_slices(out)
    if classified is not None:
        tables["slice_classification"] = slice_classification_table(classified)
        if (classified["split"] == "validation").any():
            tables["slice_best"] = best_slice_models(classified)
    return tables


def read_segmentations(out: Path) -> pd.DataFrame | None:
    """Read all segmentations' overlap with given masks; None where nothing was segmented.

    Arguments and errors as of :func:`slice_tables`.
    """
    path = StudyFolder(out).ensembles / "segmentations.csv"
    return _with_trials(out, path, ("segmentations.csv",), SEGMENTATION_COLUMNS)


def read_classified_slices(out: Path) -> pd.DataFrame | None:
    """Read slice classifiers' predictions of all phases; None where no slice was classified.

    Arguments and errors as of :func:`slice_tables`.
    """
    path = StudyFolder(out).ensembles / "slice_predictions.csv"
    return _with_trials(out, path, ("slice_train.csv", "slice_validation.csv"), SLICE_COLUMNS)


def _with_trials(
    out: Path, path: Path, names: Iterable[str], columns: tuple[str, ...]
) -> pd.DataFrame | None:
    """Join trials' own tables with that of held-out patients, sorted by network and modality."""
    if not path.exists():
        return None
    held_out = read_complete_table(path, columns)
    folder = StudyFolder(out)
    trials = list(dict.fromkeys(held_out["trial"]))
    if not folder.trials.is_dir():  # an external cohort has none
        trials = []
    for trial in trials:
        if not folder.is_finished(trial):
            raise MgmtError(
                f"{folder.trial(trial)}: missing, but {path.name} has its predictions. Run "
                f"`mgmt-ray run STUDY --out {out}` again."
            )
    parts = [_read_columns(folder.trial(t) / name, columns, out) for name in names for t in trials]
    table = pd.concat([part[list(columns)] for part in (*parts, held_out)], ignore_index=True)
    models = table.groupby(["network", "modality"], sort=False).ngroup()
    return table.iloc[np.argsort(models, kind="stable")].reset_index(drop=True)


def _read_columns(path: Path, columns: tuple[str, ...], out: Path) -> pd.DataFrame:
    command = f"mgmt-ray run STUDY --out {out}"
    table = read_table(path, command)
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise MgmtError(
            f"{path}: no column {', '.join(missing)}, so another version of mgmt-ray wrote it. "
            f"Delete its folder and run `{command}` again."
        )
    return table
