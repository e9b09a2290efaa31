"""Predict external cohorts with the finished members; nothing is chosen or fitted on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from mgmt_ray.base import MgmtError
from mgmt_ray.cluster.progress import ProgressCallback
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.prediction.evaluation import Target, evaluate, select_members
from mgmt_ray.prediction.predict_members import Task
from mgmt_ray.prediction.prediction_files import write_predictions
from mgmt_ray.selection.ensembles import group_ensembles
from mgmt_ray.selection.predictions import shorten_list
from mgmt_ray.statistics.result_tables import evaluate_ensembles
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.held_out_set import HeldOutSet
from mgmt_ray.study.trial import Trial
from mgmt_ray.trials.context import TrialInputs
from mgmt_ray.trials.pipelines import pipeline_of, unfit_scans
from mgmt_ray.trials.run_trial import covariates_checksum
from mgmt_ray.trials.warm_start import check_external_leakage


def check_external(
    name: str, external: Cohort, cohort: Cohort, inputs: Sequence[tuple[str, ...]]
) -> None:
    """Check, before anything is trained, that an external cohort can be evaluated.

    Args:
        name: the external cohort's key in the study file.
        inputs: channels of each model.

    Raises:
        MgmtError: a person is in both cohorts, labels would need a cut-off fitted on the external
            cohort, no subject has the scans of any model, or the subjects of an ensemble are all
            of one class.
    """
    if not external.subjects:
        reasons = Counter(e.reason for e in external.exclusions if e.scope == "cohort")
        counted = ", ".join(f"{number} {reason}" for reason, number in reasons.most_common())
        raise MgmtError(
            f"external.{name}: no subject is left to predict ({counted or 'none found'}). Use "
            "another cohort, or omit it."
        )
    ids = {s.person: s.id for s in cohort.subjects}
    shared = [f"{s.id} (here {ids[s.person]})" for s in external.subjects if s.person in ids]
    if shared:
        raise MgmtError(
            f"external.{name}: {shorten_list(shared)} also in the study's own cohort. "
            f"Exclude them with external.{name}.exclude."
        )
    if any(s.score is not None for s in external.subjects):
        raise MgmtError(
            f"external.{name}: its labels would need a cut-off fitted on this cohort itself. "
            f"Set external.{name}.rule: stp27."
        )
    _check_both_classes(name, external, inputs)


def _check_both_classes(name: str, external: Cohort, inputs: Sequence[tuple[str, ...]]) -> None:
    groups = group_ensembles([c[0] for c in inputs if len(c) == 1])
    classes = set()
    for channels in dict.fromkeys([*inputs, *groups.values()]):
        labels = {s.label for s in external.subjects if s.has_all(channels)}
        classes |= labels
        if len(labels) == 1:
            raise MgmtError(
                f"external.{name}: its subjects with {', '.join(channels)} are all of one class, "
                f"so AUC is undefined. List fewer modalities in external.{name}.modalities."
            )
    if not classes:
        raise MgmtError(
            f"external.{name}: no subject has the scans that a model of this study takes. "
            "Omit this cohort."
        )


def predict_external(
    name: str,
    external: Cohort,
    trials: Sequence[Trial],
    inputs: TrialInputs,
    progress: ProgressCallback,
) -> bool:
    """Predict an external cohort with the members of all splits, and write its tables.

    Each member predicts the subjects that have its modalities; their volumes or slices must be
    prepared.

    Args:
        name: the external cohort's key; its tables go to ``external/NAME/ensembles``.

    Returns:
        False if the tables were up to date and nothing was done.

    Raises:
        MgmtError: as :func:`check_external` and :func:`select_members`; a member's weights were
            changed; or voxel sizes differ from those that segmentations were trained on.
    """
    folder = inputs.folder.external(name)
    models = tuple(dict.fromkeys(trial.channels for trial in trials))
    check_external(name, external, inputs.cohort, models)
    check_external_leakage(name, external, trials)
    members = select_members(trials, inputs)
    tasks = member_tasks(members.trials, external, folder)
    _check_voxel_sizes(name, tasks, inputs)
    modalities = list(dict.fromkeys(members.table["modality"]))
    target = Target(
        f"external {name}",
        {"num_subjects": len(external.subjects), "cohort_hash": external.hash},
        tasks,
        folder,
        folder,
        members.result_key(inputs.study, _dependencies(external, tasks, folder)),
        lambda predicted: write_predictions(replace(predicted, policies=pd.DataFrame()), folder),
        lambda: evaluate_ensembles(folder.root, "external", modalities),
        external=name,
    )
    return evaluate(target, members, inputs, progress)


def _dependencies(external: Cohort, tasks: Sequence[Task], folder: StudyFolder) -> dict[str, Any]:
    """Return what the predictions of an external cohort depend on, besides the members."""
    stored: dict[str, dict[str, str]] = {"volumes": {}}
    for trial, _ in tasks:
        checksums = stored.setdefault(trial.pipeline, {})
        for part in pipeline_of(trial).parts(trial):
            checksums[part] = pipeline_of(trial).open_store(folder, part).checksum
    covariates = {name for trial, _ in tasks for name in trial.network_config.covariates}
    return {
        "cohort": external.hash,
        "covariates": covariates_checksum(external, tuple(sorted(covariates))),
        **stored,
    }


def _check_voxel_sizes(name: str, tasks: Sequence[Task], inputs: TrialInputs) -> None:
    problems = unfit_scans(tasks, inputs.folder)
    if problems:
        first_problem = next(iter(problems.values()))
        raise MgmtError(
            f"external.{name}: {shorten_list(list(problems))}: of the first, {first_problem}, or "
            f"exclude such subjects with external.{name}.exclude."
        )


def member_tasks(members: Sequence[Trial], external: Cohort, folder: StudyFolder) -> list[Task]:
    """Return each member with the subjects that have its modalities; none without subjects."""
    tasks = []
    for trial in members:
        label = {s.id: s.label for s in external.subjects if s.has_all(trial.channels)}
        if label:
            tasks.append((trial, HeldOutSet("external", folder, label, external)))
    return tasks
