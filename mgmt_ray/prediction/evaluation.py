"""Predicting held-out subjects with a study's members, in the same steps for every target."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mgmt_ray.base import MgmtError, fingerprint
from mgmt_ray.cluster.progress import ProgressCallback
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.prediction.access_log import (
    ResultKey,
    invalidate_results,
    is_evaluated,
    is_predicted,
    log_access,
    mark_results,
)
from mgmt_ray.prediction.access_register import AccessRegister
from mgmt_ray.prediction.predict_members import Task, predict_members
from mgmt_ray.prediction.predict_slices import log_unannotated
from mgmt_ray.prediction.prediction_files import MemberPredictions
from mgmt_ray.selection.members import DIVERGED, choose_members
from mgmt_ray.splits.split import check_group_leakage, resolve_labels
from mgmt_ray.statistics.result_tables import TABLES_VERSION
from mgmt_ray.study.folder import StudyFolder, check_weights
from mgmt_ray.study.held_out_set import HeldOutSet
from mgmt_ray.study.study_config import StudyConfig
from mgmt_ray.study.trial import Trial
from mgmt_ray.trials.context import TrialInputs
from mgmt_ray.trials.run_trial import input_checksums


@dataclass(frozen=True, slots=True)
class Members:
    """The trained models chosen on validation, in one order in all attributes.

    Attributes:
        table: a row per member: its trial, hyperparameters, epoch and validation result.
        files: checksums of the files that each member was trained from.
    """

    table: pd.DataFrame
    trials: tuple[Trial, ...]
    files: tuple[dict[str, Any], ...]

    def result_key(
        self,
        study: StudyConfig,
        dependencies: Mapping[str, Any],
        statistics: Mapping[str, Any] | None = None,
    ) -> ResultKey:
        """Return the fingerprints of all that a target's results depend on.

        Args:
            study: says how often SpotTune's policy is drawn.
            dependencies: what predictions depend on besides the members.
            statistics: what else the tables depend on.
        """
        predictions = {
            "members": self.table[["trial", "weights_sha256"]].to_dict("list"),
            "files": list(self.files),
            "evaluation": study.evaluation.model_dump(mode="json"),
            **dependencies,
        }
        tables = {"version": TABLES_VERSION, **(statistics or {})}
        return ResultKey(fingerprint(predictions), fingerprint(tables))


def select_members(trials: Sequence[Trial], inputs: TrialInputs) -> Members:
    """Choose the members on validation alone, out of all trials of a study.

    Raises:
        MgmtError: a trial is not finished, or was trained from other volumes or another checkpoint.
    """
    table = choose_members(_trial_table(trials, inputs))
    by_id = {trial.id: trial for trial in trials}
    chosen = tuple(by_id[name] for name in table["trial"])
    return Members(table, chosen, tuple(input_checksums(trial, inputs) for trial in chosen))


def _trial_table(trials: Sequence[Trial], inputs: TrialInputs) -> pd.DataFrame:
    """Return a row per trial with its validation result; raise MgmtError if one is unfinished."""
    missing = [t for t in trials if not inputs.folder.is_finished(t.id)]
    if missing:
        raise MgmtError(
            f"{len(missing)} of {len(trials)} trials are not finished, the first is "
            f"{missing[0].id}. Run `mgmt-ray run` with the same study and --out."
        )
    diverged = {"rule": DIVERGED, "epoch": 0, "m": None}
    rows = []
    for trial in (t for t in trials if t.is_classifier):
        result = inputs.folder.read_trial(trial.id)
        selection = result.get("selection", diverged)
        rows.append(
            {
                **trial.identity,
                "repeat": trial.repeat,
                "hyperparameters": json.dumps(trial.hyperparameters),
                "rule": selection["rule"],
                "epoch": selection["epoch"],
                "validation_m": float("nan") if selection["m"] is None else selection["m"],
                "weights_sha256": result["weights_sha256"],
            }
        )
    return pd.DataFrame(rows)


def check_members(members: Members, folder: StudyFolder) -> None:
    """Check the weights of the members, and of the segmentations that slice classifiers use.

    Raises:
        MgmtError: a file of weights is missing, or is not the one that its training wrote.
    """
    for trial in members.trials:
        for needed in (trial, *trial.needs[:1]):
            check_weights(folder.trial(needed.id))


def sets_by_split(
    inputs: TrialInputs,
    folder: StudyFolder,
    cohort: Cohort,
    ids: Collection[str] | None = None,
) -> list[HeldOutSet]:
    """Return the test subjects of each split.

    Args:
        inputs: the study's splits, and the cohort that they were drawn from.
        folder: with the subjects' volumes or slices.
        cohort: the same subjects, perhaps with other masks.
        ids: the test subjects to return; None for all.

    Raises:
        MgmtError: a person would be on two sides of a split.
    """
    held_out = []
    for split in inputs.splits:
        check_group_leakage(split, inputs.cohort)
        label = resolve_labels(split, inputs.cohort)
        chosen = split.test if ids is None else [s for s in ids if s in split.test]
        held_out.append(HeldOutSet("test", folder, {s: label[s] for s in chosen}, cohort))
    return held_out


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """Held-out subjects that members predict, and the results that are written of them.

    Attributes:
        purpose: of the access, for the access log.
        subjects: entries of the access log on the subjects.
        tasks: members, each with the subjects that it predicts.
        access_log: the folder whose access log gets an entry.
        folder: gets the results.
        write: writes the members' predictions.
        summarise: writes the tables that follow from them.
        tables: what ``summarise`` writes elsewhere.
        external: the external cohort's name in the study; empty for the study's own test subjects.
    """

    purpose: str
    subjects: Mapping[str, Any]
    tasks: Sequence[Task]
    access_log: StudyFolder
    folder: StudyFolder
    key: ResultKey
    write: Callable[[MemberPredictions], None]
    summarise: Callable[[], object]
    tables: tuple[Path, ...] = ()
    external: str = ""


def access_register(
    study: StudyConfig, subjects: Collection[str], external: str = ""
) -> AccessRegister | None:
    """Return the register in which an access to these subjects is entered; None without one.

    Args:
        external: name of the external cohort that they are of; empty for the study's own.
    """
    if study.test_register is None:
        return None
    data_set = (study.external[external] if external else study.cohort).reader
    return AccessRegister(study.test_register, data_set, tuple(sorted(subjects)))


def evaluate(
    target: Target, members: Members, inputs: TrialInputs, progress: ProgressCallback
) -> bool:
    """Bring a target's results up to date; predictions that are up to date are kept.

    Args:
        target: whose volumes or slices are prepared.
        members: of the study, which predict the target.

    Returns:
        False if the results were up to date and nothing was done.

    Raises:
        MgmtError: a member's weights were changed since its training ended.
    """
    folder, key = target.folder, target.key
    if is_evaluated(folder, key) and all(path.is_file() for path in target.tables):
        return False
    has_predictions = is_predicted(folder, key)
    invalidate_results(folder)
    if not has_predictions:
        check_members(members, inputs.folder)
        register = access_register(
            inputs.study,
            {s for _, held_out in target.tasks for s in held_out.label},
            target.external,
        )
        trials = members.table["trial"]
        log_access(target.access_log, target.purpose, target.subjects, trials, register)
        predicted = predict_members(target.tasks, inputs, progress)
        target.write(predicted)
        log_unannotated(predicted.slices, folder)
    target.summarise()
    mark_results(folder, key)
    return True
