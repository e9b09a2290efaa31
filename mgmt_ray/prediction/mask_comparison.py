"""What predicted masks do to the results: test subjects predicted once more with another mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

import pandas as pd

from mgmt_ray.base import fingerprint, write_csv
from mgmt_ray.cluster.progress import Step, say, stage
from mgmt_ray.cluster.resources import Placement
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.data.prepare_stores import prepare_volumes
from mgmt_ray.masks.alternate_masks import Swapped, how_alike, swap_masks
from mgmt_ray.prediction.access_log import (
    Source,
    forget_evaluation,
    is_evaluated,
    is_predicted,
    log_opening,
    mark_again,
    mark_evaluated,
)
from mgmt_ray.prediction.predict_members import predict_members
from mgmt_ray.prediction.test_set import Members, find_members, refuse_changed_weights
from mgmt_ray.preprocess.volume_store import VolumeStore
from mgmt_ray.selection.ensembles import group_ensembles
from mgmt_ray.selection.predictions import read_predictions, write_table
from mgmt_ray.splits.split import label_by_training
from mgmt_ray.statistics.mask_effect import mask_effect_table
from mgmt_ray.statistics.result_tables import TABLES_VERSION
from mgmt_ray.study.folder import MASK_EFFECT, StudyFolder
from mgmt_ray.study.held_out_set import Unseen
from mgmt_ray.study.study_config import StudyConfig
from mgmt_ray.study.trial import Trial
from mgmt_ray.trials.context import TrialInputs

PREDICTIONS = "member_predictions.csv"

SUBJECTS = "subjects.csv"
"""In the folder of the effect: who has both masks, how alike these are, and why others are out."""


def measure_mask_effect(
    trials: Sequence[Trial], inputs: TrialInputs, study: StudyConfig, placement: Placement
) -> None:
    """Predict test subjects with their other mask by the members of the results; write the table.

    In a study on given masks the other ones are predicted here, by segmentations that did not train
    on that person; in one on predicted masks the given ones are taken where there are any. A study
    that names no segmentation, or has no network of volumes, gets no table.

    Args:
        trials: the whole plan; the tables of results are there.
        inputs: of the study.
        study: names the segmentations.
        placement: with launcher "ray", Ray must be connected.

    Raises:
        MgmtError: the segmentations cannot be read, or what was seen of the scans is lost.
    """
    folder, there = inputs.folder, inputs.folder.mask_effect
    if study.mask_source is None or not study.takes_volumes:
        _forget(folder)
        return
    swapped = swap_masks(inputs, study, study.mask_source, placement)
    if not swapped.subjects:
        _forget(folder)
        write_csv(there.root / SUBJECTS, _rows(swapped, {}))
        say("mask effect: no test subject has both a given and a predicted mask")
        return
    members = _volumetric(find_members(trials, inputs))
    cohort = _prepare(swapped, members, inputs, study, placement)
    source = _source(members, swapped, cohort, study, there)
    if is_evaluated(there, source) and folder.mask_effect_table.is_file():
        say("mask effect: up to date")
        return
    if not is_predicted(there, source):
        forget_evaluation(there)
        with stage("mask effect") as step:
            predicted = _predict(members, cohort, inputs, study, placement, step)
        write_table(predicted, there.ensembles / PREDICTIONS)
    alike = how_alike(swapped, inputs.cohort, placement)
    write_csv(there.root / SUBJECTS, _rows(swapped, alike))
    predicted = read_predictions(there.ensembles / PREDICTIONS)
    write_table(_table(predicted, alike, inputs), folder.mask_effect_table)
    say(
        f"mask effect: {len(alike)} test subjects with both masks, median Dice "
        f"{median(alike.values()):.3f}; AUC by mask is in {folder.mask_effect_table}"
    )
    mark_evaluated(there, source)
    mark_again(folder)


def _forget(folder: StudyFolder) -> None:
    """No table stays that the study does not have any more."""
    if folder.mask_effect_table.is_file():
        folder.mask_effect_table.unlink()
        mark_again(folder)


def _volumetric(members: Members) -> Members:
    """The members whose input a mask cuts out."""
    takes = [not trial.takes_slices for trial in members.trials]
    kept = [i for i, own in enumerate(takes) if own]
    return Members(
        members.table[takes].reset_index(drop=True),
        tuple(members.trials[i] for i in kept),
        tuple(members.files[i] for i in kept),
    )


def _prepare(
    swapped: Swapped,
    members: Members,
    inputs: TrialInputs,
    study: StudyConfig,
    placement: Placement,
) -> Cohort:
    """All test subjects with their volumes; those who have no other mask with their own.

    So batches are as they were for the results, and no rounding is taken for an effect.
    """
    others = {s.id: s for s in swapped.subjects}
    tested = others.keys() | swapped.reasons.keys()
    cohort = Cohort(tuple(others.get(s.id, s) for s in inputs.cohort.subjects if s.id in tested))
    read = tuple(dict.fromkeys(channel for t in members.trials for channel in t.channels))
    recipe = study.recipe.model_copy(update={"rounds": 0})
    with stage("mask effect: volumes") as step:
        prepare_volumes(cohort, read, recipe, inputs.folder.mask_effect.volumes, placement, step)
    return cohort


def _source(
    members: Members, swapped: Swapped, cohort: Cohort, study: StudyConfig, there: StudyFolder
) -> Source:
    read = sorted({channel for trial in members.trials for channel in trial.channels})
    facts = {
        "cohort": cohort.hash,
        "volumes": {c: VolumeStore(there.volumes, c).checksum for c in read},
        "reasons": dict(swapped.reasons),
        "evaluation": study.evaluation.model_dump(mode="json"),
    }
    return Source(fingerprint(members.facts | facts), fingerprint({"version": TABLES_VERSION}))


def _predict(
    members: Members,
    cohort: Cohort,
    inputs: TrialInputs,
    study: StudyConfig,
    placement: Placement,
    step: Step,
) -> pd.DataFrame:
    """What members say of the test subjects of their split; this is written down first."""
    refuse_changed_weights(members, inputs)
    number = {"num_subjects": len(cohort.subjects)}
    hashes = {"split_hashes": [split.hash for split in inputs.splits]}
    log_opening(inputs.folder, {"purpose": MASK_EFFECT, **number, **hashes, **members.names})
    unseen = []
    for split in inputs.splits:
        label = label_by_training(split, inputs.cohort)
        test = {subject: label[subject] for subject in split.test}
        unseen.append(Unseen("test", inputs.folder.mask_effect, test, cohort))
    tasks = [(trial, unseen[trial.outer]) for trial in members.trials]
    return predict_members(tasks, inputs, study.evaluation, placement, step).table


def _table(other: pd.DataFrame, alike: Mapping[str, float], inputs: TrialInputs) -> pd.DataFrame:
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
    return mask_effect_table(cut_with("given"), cut_with("predicted"), alike, groups)


def _rows(swapped: Swapped, alike: Mapping[str, float]) -> list[tuple[str, str, str]]:
    rows = [(name, repr(value), "") for name, value in alike.items()]
    rows += [(name, "", reason) for name, reason in swapped.reasons.items()]
    return [("subject", "dice", "left_out_because"), *sorted(rows)]
