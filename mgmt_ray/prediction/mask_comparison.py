"""The effect of predicted masks: test subjects predicted again with their other mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import pandas as pd

from mgmt_ray.base import write_csv
from mgmt_ray.cluster.progress import log, show_progress
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.data.prepare_stores import prepare_volumes
from mgmt_ray.masks.alternate_masks import AlternateMasks, alternate_masks, mask_agreement
from mgmt_ray.prediction.access_log import refresh_result_mark
from mgmt_ray.prediction.evaluation import (
    Members,
    Target,
    evaluate,
    select_members,
    sets_by_split,
)
from mgmt_ray.preprocess.volume_store import VolumeStore
from mgmt_ray.selection.ensembles import group_ensembles
from mgmt_ray.selection.predictions import read_predictions, write_table
from mgmt_ray.statistics.mask_effect import mask_effect_table
from mgmt_ray.study.folder import MASK_EFFECT, StudyFolder
from mgmt_ray.study.trial import Trial
from mgmt_ray.trials.context import TrialInputs
from mgmt_ray.trials.pipelines import pipeline_of

PREDICTIONS = "member_predictions.csv"

SUBJECTS = "subjects.csv"
"""In the folder of the mask effect: the Dice coefficient of each subject's two masks, or why the
subject has only one."""


def measure_mask_effect(trials: Sequence[Trial], inputs: TrialInputs) -> None:
    """Predict test subjects with their other mask, and write the table that compares the two.

    The members are those of the results, which must exist. In a study on given masks, the other
    masks are predicted by segmentations that were not trained on that person; in a study on
    predicted masks, the given ones are used where there are any. A study without ``mask_source``
    or without 3-D networks gets no table.

    Raises:
        MgmtError: the segmentations cannot be read, or the inspections of the scans are lost.
    """
    folder, effect_folder = inputs.folder, inputs.folder.mask_effect
    if inputs.study.mask_source is None:
        _delete_table(folder)
        return
    alternate = alternate_masks(inputs, inputs.study.mask_source)
    if not alternate.subjects:
        _delete_table(folder)
        write_csv(effect_folder.root / SUBJECTS, _subject_rows(alternate, {}))
        log("mask effect: no test subject has both a given and a predicted mask")
        return
    members = _volume_members(select_members(trials, inputs))
    cohort = _prepare(alternate, members, inputs)
    predictions = effect_folder.ensembles / PREDICTIONS
    held_out = sets_by_split(inputs, effect_folder, cohort)

    def compare() -> None:
        agreement = mask_agreement(alternate, inputs.cohort, inputs.resources)
        write_csv(effect_folder.root / SUBJECTS, _subject_rows(alternate, agreement))
        table = _compare(read_predictions(predictions), agreement, inputs)
        write_table(table, folder.mask_effect_table)
        refresh_result_mark(folder)
        log(
            f"mask effect: {len(agreement)} test subjects with both masks, median Dice "
            f"{median(agreement.values()):.3f}; AUC by mask is in {folder.mask_effect_table}"
        )

    target = Target(
        MASK_EFFECT,
        {
            "num_subjects": len(cohort.subjects),
            "split_hashes": [split.hash for split in inputs.splits],
        },
        [(t, held_out[t.outer_fold].having(t.channels)) for t in members.trials],
        folder,
        effect_folder,
        members.result_key(inputs.study, _dependencies(members, alternate, cohort, inputs)),
        lambda predicted: write_table(predicted.table, predictions),
        compare,
        (folder.mask_effect_table,),
    )
    with show_progress("mask effect") as progress:
        if not evaluate(target, members, inputs, progress):
            log("mask effect: up to date")


def _delete_table(folder: StudyFolder) -> None:
    """Delete the table of an earlier run, if there is one."""
    if folder.mask_effect_table.is_file():
        folder.mask_effect_table.unlink()
        refresh_result_mark(folder)


def _volume_members(members: Members) -> Members:
    """Return the members that take volumes, which masks crop."""
    rows = [i for i, t in enumerate(members.trials) if pipeline_of(t).needs_masks]
    return Members(
        members.table.iloc[rows].reset_index(drop=True),
        tuple(members.trials[i] for i in rows),
        tuple(members.files[i] for i in rows),
    )


def _prepare(alternate: AlternateMasks, members: Members, inputs: TrialInputs) -> Cohort:
    """Prepare the volumes of all test subjects; those without another mask keep theirs.

    Minibatches are then the same as for the results, so that rounding is not taken for an effect.
    """
    with_other_mask = {s.id: s for s in alternate.subjects}
    test_ids = with_other_mask.keys() | alternate.reasons.keys()
    cohort = Cohort(
        tuple(with_other_mask.get(s.id, s) for s in inputs.cohort.subjects if s.id in test_ids)
    )
    channels = tuple(dict.fromkeys(channel for t in members.trials for channel in t.channels))
    recipe = inputs.study.recipe.model_copy(update={"rounds": 0})
    volumes = inputs.folder.mask_effect.volumes
    with show_progress("mask effect: volumes") as progress:
        prepare_volumes(cohort, channels, recipe, volumes, inputs.resources, progress)
    return cohort


def _dependencies(
    members: Members, alternate: AlternateMasks, cohort: Cohort, inputs: TrialInputs
) -> dict[str, Any]:
    """Return what the predictions with other masks depend on, besides the members."""
    channels = sorted({channel for trial in members.trials for channel in trial.channels})
    volumes = inputs.folder.mask_effect.volumes
    return {
        "cohort": cohort.hash,
        "volumes": {c: VolumeStore(volumes, c).checksum for c in channels},
        "reasons": dict(alternate.reasons),
    }


def _compare(
    with_other_mask: pd.DataFrame, agreement: Mapping[str, float], inputs: TrialInputs
) -> pd.DataFrame:
    """Return the table that compares these predictions with those of the results."""
    results = read_predictions(inputs.folder.ensembles / PREDICTIONS)
    with_study_mask = results[results["trial"].isin(set(with_other_mask["trial"]))]
    study_mask = {s.id: s.mask_kind for s in inputs.cohort.subjects}

    def predictions_with(kind: str) -> pd.DataFrame:
        parts = [
            table[[(study_mask[s] == kind) is is_study_mask for s in table["subject"]]]
            for table, is_study_mask in ((with_study_mask, True), (with_other_mask, False))
        ]
        return pd.concat(parts).sort_values(["trial", "subject"]).reset_index(drop=True)

    groups = group_ensembles(list(dict.fromkeys(with_study_mask["modality"])))
    given, predicted = predictions_with("given"), predictions_with("predicted")
    return mask_effect_table(given, predicted, agreement, groups)


def _subject_rows(
    alternate: AlternateMasks, agreement: Mapping[str, float]
) -> list[tuple[str, str, str]]:
    rows = [(name, repr(value), "") for name, value in agreement.items()]
    rows += [(name, "", reason) for name, reason in alternate.reasons.items()]
    return [("subject", "dice", "left_out_because"), *sorted(rows)]
