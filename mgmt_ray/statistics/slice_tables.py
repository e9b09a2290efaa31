"""The tables of a study's slices, made of what trials and their predictions say of each slice."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from mgmt_ray.base import MgmtError
from mgmt_ray.selection.predictions import read_table, read_whole_table, write_table
from mgmt_ray.statistics.slice_classification import best_slice_models, slice_classification_table
from mgmt_ray.statistics.slice_overlap import (
    SEGMENTATION_COLUMNS,
    slice_overlap_table,
    slice_seconds_table,
)
from mgmt_ray.statistics.slice_scores import SLICE_COLUMNS
from mgmt_ray.study.folder import StudyFolder

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
        unseen = segmented[segmented["split"].isin(("test", "external"))]
        made["slice_seconds"] = slice_seconds_table(unseen)
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
    unseen = read_whole_table(path, columns)
    folder = StudyFolder(out)
    named = dict.fromkeys(unseen["trial"])
    trials = list(named) if folder.trials.is_dir() else []  # an external cohort has none
    for trial in trials:
        if not folder.is_finished(trial):
            raise MgmtError(
                f"{folder.trial(trial)}: not there, and {path.name} is of it. Run `mgmt-ray run "
                f"STUDY --out {out}` again."
            )
    own = [_read(folder.trial(t) / name, columns, out) for name in names for t in trials]
    table = pd.concat([part[list(columns)] for part in (*own, unseen)], ignore_index=True)
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
