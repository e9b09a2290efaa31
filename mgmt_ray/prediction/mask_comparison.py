"""What predicted masks do to the results: test subjects predicted once more with another mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

import pandas as pd

from mgmt_ray.base import fingerprint, write_csv
from mgmt_ray.cluster.progress import ProgressCallback, log, show_progress
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.data.prepare_stores import prepare_volumes
from mgmt_ray.masks.alternate_masks import AlternateMasks, alternate_masks, mask_agreement
from mgmt_ray.prediction.access_log import (
    ResultKey,
    invalidate_results,
    is_evaluated,
    is_predicted,
    log_opening,
    mark_results,
    refresh_result_mark,
)
from mgmt_ray.prediction.predict_members import predict_members
from mgmt_ray.prediction.test_set import Members, check_weights, select_members
from mgmt_ray.preprocess.volume_store import VolumeStore
from mgmt_ray.selection.ensembles import group_ensembles
from mgmt_ray.selection.predictions import read_predictions, write_table
from mgmt_ray.splits.split import resolve_labels
from mgmt_ray.statistics.mask_effect import mask_effect_table
from mgmt_ray.statistics.result_tables import TABLES_VERSION
from mgmt_ray.study.folder import MASK_EFFECT, StudyFolder
from mgmt_ray.study.held_out_set import HeldOutSet
from mgmt_ray.study.study_config import StudyConfig
from mgmt_ray.study.trial import Trial
from mgmt_ray.trials.context import TrialInputs

PREDICTIONS = "member_predictions.csv"

SUBJECTS = "subjects.csv"
"""In the folder of the effect: who has both masks, how alike these are, and why others are out."""


def measure_mask_effect(
    trials: Sequence[Trial], inputs: TrialInputs, study: StudyConfig, resources: Resources
) -> None:
    """Predict test subjects with their other mask by the members of the results; write the table.

    In a study on given masks the other ones are predicted here, by segmentations that did not train
    on that person; in one on predicted masks the given ones are taken where there are any. A study
    that names no segmentation, or has no network of volumes, gets no table.

    Args:
        trials: the whole plan; the tables of results are there.
        inputs: of the study.
        study: names the segmentations.
        resources: with backend "ray", Ray must be connected.

    Raises:
        MgmtError: the segmentations cannot be read, or what was seen of the scans is lost.
    """
    folder, there = inputs.folder, inputs.folder.mask_effect
    if study.mask_source is None or not study.takes_volumes:
        _delete_table(folder)
        return
    alternate = alternate_masks(inputs, study, study.mask_source, resources)
    if not alternate.subjects:
        _delete_table(folder)
        write_csv(there.root / SUBJECTS, _rows(alternate, {}))
        log("mask effect: no test subject has both a given and a predicted mask")
        return
    members = _volume_members(select_members(trials, inputs))
    cohort = _prepare(alternate, members, inputs, study, resources)
    source = _result_key(members, alternate, cohort, study, there)
    if is_evaluated(there, source) and folder.mask_effect_table.is_file():
        log("mask effect: up to date")
        return
    if not is_predicted(there, source):
        invalidate_results(there)
        with show_progress("mask effect") as step:
            predicted = _predict(members, cohort, inputs, study, resources, step)
        write_table(predicted, there.ensembles / PREDICTIONS)
    agreement = mask_agreement(alternate, inputs.cohort, resources)
    write_csv(there.root / SUBJECTS, _rows(alternate, agreement))
    predicted = read_predictions(there.ensembles / PREDICTIONS)
    write_table(_table(predicted, agreement, inputs), folder.mask_effect_table)
    log(
        f"mask effect: {len(agreement)} test subjects with both masks, median Dice "
        f"{median(agreement.values()):.3f}; AUC by mask is in {folder.mask_effect_table}"
    )
    mark_results(there, source)
    refresh_result_mark(folder)


def _delete_table(folder: StudyFolder) -> None:
    """No table stays that the study does not have any more."""
    if folder.mask_effect_table.is_file():
        folder.mask_effect_table.unlink()
        refresh_result_mark(folder)


def _volume_members(members: Members) -> Members:
    """The members whose input a mask cuts out."""
    takes = [not trial.takes_slices for trial in members.trials]
    kept = [i for i, own in enumerate(takes) if own]
    return Members(
        members.table[takes].reset_index(drop=True),
        tuple(members.trials[i] for i in kept),
        tuple(members.files[i] for i in kept),
    )


def _prepare(
    alternate: AlternateMasks,
    members: Members,
    inputs: TrialInputs,
    study: StudyConfig,
    resources: Resources,
) -> Cohort:
    """All test subjects with their volumes; those who have no other mask with their own.

    So batches are as they were for the results, and no rounding is taken for an effect.
    """
    others = {s.id: s for s in alternate.subjects}
    tested = others.keys() | alternate.reasons.keys()
    cohort = Cohort(tuple(others.get(s.id, s) for s in inputs.cohort.subjects if s.id in tested))
    read = tuple(dict.fromkeys(channel for t in members.trials for channel in t.channels))
    recipe = study.recipe.model_copy(update={"rounds": 0})
    with show_progress("mask effect: volumes") as step:
        prepare_volumes(cohort, read, recipe, inputs.folder.mask_effect.volumes, resources, step)
    return cohort


def _result_key(
    members: Members,
    alternate: AlternateMasks,
    cohort: Cohort,
    study: StudyConfig,
    there: StudyFolder,
) -> ResultKey:
    read = sorted({channel for trial in members.trials for channel in trial.channels})
    metadata = {
        "cohort": cohort.hash,
        "volumes": {c: VolumeStore(there.volumes, c).checksum for c in read},
        "reasons": dict(alternate.reasons),
        "evaluation": study.evaluation.model_dump(mode="json"),
    }
    return ResultKey(
        fingerprint(members.facts | metadata), fingerprint({"version": TABLES_VERSION})
    )


def _predict(
    members: Members,
    cohort: Cohort,
    inputs: TrialInputs,
    study: StudyConfig,
    resources: Resources,
    step: ProgressCallback,
) -> pd.DataFrame:
    """What members say of the test subjects of their split; this is written down first."""
    check_weights(members, inputs)
    number = {"num_subjects": len(cohort.subjects)}
    hashes = {"split_hashes": [split.hash for split in inputs.splits]}
    log_opening(inputs.folder, {"purpose": MASK_EFFECT, **number, **hashes, **members.names})
    held_out = []
    for split in inputs.splits:
        label = resolve_labels(split, inputs.cohort)
        test = {subject: label[subject] for subject in split.test}
        held_out.append(HeldOutSet("test", inputs.folder.mask_effect, test, cohort))
    tasks = [(trial, held_out[trial.outer_fold]) for trial in members.trials]
    return predict_members(tasks, inputs, study.evaluation, resources, step).table


def _table(
    other: pd.DataFrame, agreement: Mapping[str, float], inputs: TrialInputs
) -> pd.DataFrame:
    """The comparison; each subject's own predictions are those of the results."""
    results = read_predictions(inputs.folder.ensembles / PREDICTIONS)
    own = results[results["trial"].isin(set(other["trial"]))]
    kind = {s.id: s.mask_kind for s in inputs.cohort.subjects}

    def cut_with(wanted: str) -> pd.DataFrame:
        parts = [
            table[[(kind[s] == wanted) is is_own for s in table["subject"]]]
            for table, is_own in ((own, True), (other, False))
        ]
        return pd.concat(parts).sort_values(["trial", "subject"]).reset_index(drop=True)

    groups = group_ensembles(list(dict.fromkeys(own["modality"])))
    return mask_effect_table(cut_with("given"), cut_with("predicted"), agreement, groups)


def _rows(alternate: AlternateMasks, agreement: Mapping[str, float]) -> list[tuple[str, str, str]]:
    rows = [(name, repr(value), "") for name, value in agreement.items()]
    rows += [(name, "", reason) for name, reason in alternate.reasons.items()]
    return [("subject", "dice", "left_out_because"), *sorted(rows)]
