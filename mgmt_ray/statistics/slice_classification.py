"""How well slices and patients were classified: table 4 of Chen et al. 2020, and best models."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from mgmt_ray.base import MgmtError
from mgmt_ray.selection.predictions import read_complete_table, read_table, write_table
from mgmt_ray.statistics.intervals import (
    column_names,
    interval_columns,
    mean_over_models,
    std_over_models,
)
from mgmt_ray.statistics.slice_overlap import (
    SEGMENTATION_COLUMNS,
    slice_overlap_table,
    slice_seconds_table,
)
from mgmt_ray.statistics.slice_scores import (
    SLICE_COLUMNS,
    SLICE_METRICS,
    PatientResamples,
    patient_interval,
    resample_patients,
    score_levels,
)
from mgmt_ray.study.folder import StudyFolder

CLASSIFICATION_COLUMNS: tuple[str, ...] = (
    *("network", "modality", "phase", "level"),
    *("num_splits", "num_models", "num_patients", "num_rows"),
    *(
        f"{metric}{of}"
        for metric in SLICE_METRICS
        for of in ("", "_low", "_high", "_std", "_undefined")
    ),
)
"""``num_rows`` are slices or patients, ``auc_undefined`` and its like count models."""

BEST_SLICE_COLUMNS: tuple[str, ...] = (
    *("network", "modality", "outer_fold", "fold", "trial", "phase", "level"),
    *("num_patients", "num_rows", *column_names("auc")),
)


def slice_classification_table(slices: pd.DataFrame, seed: int = 42) -> pd.DataFrame:
    """Scores of the classifiers of all folds and seeds, by slice and by patient.

    A patient's probability is the mean over its slices. A value is the mean over the models of an
    outer split for which it is defined, then over splits; ``_undefined`` counts the others, and
    ``_std`` is that of :func:`std_over_models`. The interval of test and external
    patients is the percentile interval of a cluster bootstrap, stratified by label: patients are
    drawn with all their slices, the same ones for all models and both levels. A resample in which
    no model has a value is left out. Training and validation have no interval, since their patients
    differ from fold to fold.

    Args:
        slices: :data:`.slice_scores.SLICE_COLUMNS`.
        seed: of the bootstrap.

    Returns:
        :data:`CLASSIFICATION_COLUMNS`, a row per network, modality, phase and level.
    """
    rows = []
    keys = ["network", "modality", "split"]
    for (network, modality, phase), part in slices.groupby(keys, sort=False):
        drawn = resample_patients(part, str(phase), seed)
        for level, own in score_levels(part).items():
            counts = {
                "num_splits": own["outer_fold"].nunique(),
                "num_models": own["trial"].nunique(),
                "num_patients": own["subject"].nunique(),
                "num_rows": len(own[["subject", "depth"]].drop_duplicates()),
            }
            key = {"network": network, "modality": modality, "phase": phase, "level": level}
            rows.append({**key, **counts, **_columns(own, drawn)})
    return pd.DataFrame(rows, columns=list(CLASSIFICATION_COLUMNS))


def best_slice_models(slices: pd.DataFrame, seed: int = 42) -> pd.DataFrame:
    """The AUCs of the model that validation is best for, by network, modality and outer split.

    It is the one of the highest AUC by slice on its validation patients; of equal ones that of the
    highest by patient, then the first. Each model has validation patients of its own, so the best
    is in part the one whose patients are easiest. Test patients have the interval of
    :func:`slice_classification_table`.

    Args:
        slices: :data:`.slice_scores.SLICE_COLUMNS` of all phases.
        seed: of the bootstrap.

    Returns:
        :data:`BEST_SLICE_COLUMNS`, a row per network, modality, split, phase and level.
    """
    rows = []
    for (network, modality, outer), part in slices.groupby(
        ["network", "modality", "outer_fold"], sort=False
    ):
        best = _best_on_validation(part[part["split"] == "validation"])
        own = part[part["trial"] == best]
        key = {"network": network, "modality": modality, "outer_fold": outer, "trial": best}
        for phase, of_phase in own.groupby("split", sort=False):
            drawn = resample_patients(of_phase, str(phase), seed)
            for level, data in score_levels(of_phase).items():
                counts = {
                    "fold": int(data["fold"].iloc[0]),
                    "num_patients": data["subject"].nunique(),
                    "num_rows": len(data),
                }
                area = patient_interval(drawn.scores(data)["auc"])
                named = {"phase": phase, "level": level, **counts}
                rows.append({**key, **named, **interval_columns({"auc": area})})
    return pd.DataFrame(rows, columns=list(BEST_SLICE_COLUMNS))


def _best_on_validation(validation: pd.DataFrame) -> str:
    levels = score_levels(validation)

    def order(trial: str) -> tuple[float, ...]:
        areas = []
        for rows in levels.values():
            own = rows[rows["trial"] == trial]
            area = float(resample_patients(own, "validation", seed=0).scores(own)["auc"][0])
            # Equal in exact arithmetic must be equal here, so that the earlier one stays.
            areas.append(-1.0 if math.isnan(area) else round(area, 12))
        return tuple(areas)

    return str(max(dict.fromkeys(validation["trial"]), key=order))


def _columns(rows: pd.DataFrame, drawn: PatientResamples) -> dict[str, float]:
    """Every metric's columns, of the models of one network, modality, phase and level."""
    models = [own for _, own in rows.groupby("trial", sort=False)]
    outers = np.array([int(own["outer_fold"].iloc[0]) for own in models])
    scores = [drawn.scores(own) for own in models]
    return dict(
        column
        for metric in SLICE_METRICS
        for column in _metric_columns(metric, np.stack([s[metric] for s in scores]), outers)
    )


def _metric_columns(
    metric: str, values: Float[np.ndarray, "model resample"], outers: Int[np.ndarray, " model"]
) -> Iterator[tuple[str, float]]:
    yield from interval_columns(
        {metric: patient_interval(mean_over_models(values, outers))}
    ).items()
    yield f"{metric}_std", std_over_models(values[:, 0], outers)
    yield f"{metric}_undefined", int(np.isnan(values[:, 0]).sum())


SLICE_TABLES = ("slice_overlap", "slice_seconds", "slice_classification", "slice_best")


def write_slice_tables(out: Path) -> None:
    """Write the tables of :data:`SLICE_TABLES` as far as there is something to make them of.

    ``slice_classification.csv`` and ``slice_best.csv`` follow from ``slice_predictions.csv`` and
    the trials in it, ``slice_overlap.csv`` and ``slice_seconds.csv`` from ``segmentations.csv``
    and the segmentations in that. An external cohort's folder has no trials: its tables are of its
    own patients alone, and nothing is best. Tables of slices of an earlier run are deleted.

    Args:
        out: the study's folder, or that of an external cohort.

    Raises:
        MgmtError: a trial's table is not there or has other columns.
    """
    ensembles = StudyFolder(out).ensembles
    made: dict[str, pd.DataFrame] = {}
    segmented = read_segmentations(out)
    if segmented is not None:
        made["slice_overlap"] = slice_overlap_table(segmented)
        held_out = segmented[segmented["split"].isin(("test", "external"))]
        made["slice_seconds"] = slice_seconds_table(held_out)
    classified = read_classified_slices(out)
    if classified is not None:
        made["slice_classification"] = slice_classification_table(classified)
        if (classified["split"] == "validation").any():
            made["slice_best"] = best_slice_models(classified)
    for name in SLICE_TABLES:
        path = ensembles / f"{name}.csv"
        if name in made:
            write_table(made[name], path)
        else:
            path.unlink(missing_ok=True)


def read_segmentations(out: Path) -> pd.DataFrame | None:
    """How the folds' own segmentations did on their patients; None where nothing was segmented.

    Arguments and errors as of :func:`write_slice_tables`.
    """
    path = StudyFolder(out).ensembles / "segmentations.csv"
    return _with_trials(out, path, ("segmentations.csv",), SEGMENTATION_COLUMNS)


def read_classified_slices(out: Path) -> pd.DataFrame | None:
    """What slice classifiers said of every slice; None where no slice was classified.

    Arguments and errors as of :func:`write_slice_tables`.
    """
    path = StudyFolder(out).ensembles / "slice_predictions.csv"
    return _with_trials(out, path, ("slice_train.csv", "slice_validation.csv"), SLICE_COLUMNS)


def _with_trials(
    out: Path, path: Path, names: Iterable[str], columns: tuple[str, ...]
) -> pd.DataFrame | None:
    """By network and modality what its trials left of their own patients, then the unseen ones."""
    if not path.exists():
        return None
    held_out = read_complete_table(path, columns)
    folder = StudyFolder(out)
    named = dict.fromkeys(held_out["trial"])
    trials = list(named) if folder.trials.is_dir() else []  # an external cohort has none
    for trial in trials:
        if not folder.is_finished(trial):
            raise MgmtError(
                f"{folder.trial(trial)}: not there, and {path.name} is of it. Run `mgmt-ray run "
                f"STUDY --out {out}` again."
            )
    own = [_read(folder.trial(t) / name, columns, out) for name in names for t in trials]
    table = pd.concat([part[list(columns)] for part in (*own, held_out)], ignore_index=True)
    models = table.groupby(["network", "modality"], sort=False).ngroup()
    return table.iloc[np.argsort(models, kind="stable")].reset_index(drop=True)


def _read(path: Path, columns: tuple[str, ...], out: Path) -> pd.DataFrame:
    command = f"mgmt-ray run STUDY --out {out}"
    table = read_table(path, command)
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise MgmtError(
            f"{path}: no column {', '.join(missing)}, so another version of mgmt-ray wrote it. "
            f"Delete its folder and run `{command}` again."
        )
    return table
