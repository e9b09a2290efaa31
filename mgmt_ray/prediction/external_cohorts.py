"""External cohorts: the finished members predict them, and nothing is chosen or fitted on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from mgmt_ray.base import MgmtError, fingerprint
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.prediction.access_log import (
    ResultKey,
    invalidate_results,
    is_evaluated,
    log_opening,
    mark_results,
)
from mgmt_ray.prediction.member_predictions import write_slice_predictions
from mgmt_ray.prediction.predict_members import predict_members
from mgmt_ray.prediction.predict_slices import log_unannotated
from mgmt_ray.prediction.test_set import check_weights, select_members
from mgmt_ray.preprocess.slice_store import SliceStore
from mgmt_ray.preprocess.volume_store import VolumeStore
from mgmt_ray.selection.ensembles import group_ensembles
from mgmt_ray.selection.predictions import shorten_list, write_table
from mgmt_ray.statistics.result_tables import TABLES_VERSION, evaluate_ensembles
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.held_out_set import HeldOutSet
from mgmt_ray.study.trial import Trial
from mgmt_ray.training.training_config import EvaluationConfig
from mgmt_ray.trials.context import TrialInputs
from mgmt_ray.trials.run_trial import covariates_checksum
from mgmt_ray.trials.voxel_size import voxel_size_problems
from mgmt_ray.trials.warm_start import check_external_leakage


def check_external(
    name: str, external: Cohort, cohort: Cohort, inputs: Sequence[tuple[str, ...]]
) -> None:
    """Refuse, before anything is trained, an external cohort that could not be evaluated.

    Args:
        name: of the external cohort in the study.
        external: its subjects.
        cohort: the study's own.
        inputs: channels of each model.

    Raises:
        MgmtError: a person is in both, a label would have to be fitted, there is nobody with what
            any model takes, or all who could be predicted together are of one class.
    """
    if not external.subjects:
        reasons = Counter(e.reason for e in external.exclusions if e.scope == "cohort")
        counted = ", ".join(f"{number} {reason}" for reason, number in reasons.most_common())
        raise MgmtError(
            f"external.{name}: nobody is left to predict ({counted or 'nobody found'}). Take "
            "another cohort, or leave it away."
        )
    own = {s.person: s.id for s in cohort.subjects}
    both = [f"{s.id} (here {own[s.person]})" for s in external.subjects if s.person in own]
    if both:
        raise MgmtError(
            f"external.{name}: {shorten_list(both)} also in the study's own cohort. "
            f"Leave them out with external.{name}.exclude."
        )
    if any(s.score is not None for s in external.subjects):
        raise MgmtError(
            f"external.{name}: its labels would follow from a cut-off fitted on itself. "
            f"Set external.{name}.rule: stp27."
        )
    _check_both_classes(name, external, inputs)


def _check_both_classes(name: str, external: Cohort, inputs: Sequence[tuple[str, ...]]) -> None:
    groups = group_ensembles([c[0] for c in inputs if len(c) == 1])
    found = set()
    for channels in dict.fromkeys([*inputs, *groups.values()]):
        labels = {s.label for s in external.subjects if s.has_all(channels)}
        found |= labels
        if len(labels) == 1:
            raise MgmtError(
                f"external.{name}: its subjects with {', '.join(channels)} are all of one class, "
                f"so AUC is not defined. Name fewer in external.{name}.modalities."
            )
    if not found:
        raise MgmtError(
            f"external.{name}: nobody has the scans that a model of this study takes. "
            "Leave the cohort away."
        )


def predict_external(
    name: str,
    external: Cohort,
    trials: Sequence[Trial],
    inputs: TrialInputs,
    evaluation: EvaluationConfig,
    resources: Resources,
    progress: Callable[[int, int], None],
) -> bool:
    """Predict an external cohort with the members of all splits, and write its tables.

    A model predicts the subjects that have its modalities; its volumes must be prepared.

    Args:
        name: of the external cohort; its tables go to ``external/NAME/ensembles``.
        external: its subjects.
        trials: the whole plan.
        inputs: of the study.
        evaluation: draws.
        resources: with backend "ray", Ray must be connected.
        progress: is given members done and their number.

    Returns:
        Whether anything was done; False if the tables are of these members and subjects already.

    Raises:
        MgmtError: as :func:`check_external`, :func:`select_members`, for changed weights, and
            for scans of other voxels than those that segmentations were trained on.
    """
    folder = inputs.folder.external(name)
    models = tuple(dict.fromkeys(trial.channels for trial in trials))
    check_external(name, external, inputs.cohort, models)
    check_external_leakage(name, external, trials)
    members = select_members(trials, inputs)
    tasks = member_tasks(members.trials, external, folder)
    _check_voxel_sizes(name, tasks, inputs)
    read = {(c, trial.takes_slices) for trial, _ in tasks for c in trial.channels}
    volumes = {c: VolumeStore(folder.volumes, c).checksum for c, slices in read if not slices}
    sliced = {c: SliceStore(folder.slices, c).checksum for c, slices in read if slices}
    settings = {"evaluation": evaluation.model_dump(mode="json")}
    named = {name for trial, _ in tasks for name in trial.network_config.covariates}
    metadata = {
        "cohort": external.hash,
        "volumes": volumes,
        "covariates": covariates_checksum(external, sorted(named)),
    }
    metadata |= {"slices": sliced} if sliced else {}
    source = ResultKey(
        fingerprint(members.facts | settings | metadata), fingerprint({"version": TABLES_VERSION})
    )
    if is_evaluated(folder, source):
        return False
    invalidate_results(folder)
    check_weights(members, inputs)
    subjects = {"num_subjects": len(external.subjects), "cohort_hash": external.hash}
    log_opening(folder, {"purpose": f"external {name}", **subjects, **members.names})
    predicted = predict_members(tasks, inputs, evaluation, resources, progress)
    write_table(predicted.table, folder.ensembles / "member_predictions.csv")
    write_slice_predictions(predicted, folder)
    log_unannotated(predicted.slices, folder)
    evaluate_ensembles(folder.root, "external", list(dict.fromkeys(members.table["modality"])))
    mark_results(folder, source)
    return True


def _check_voxel_sizes(
    name: str, tasks: Sequence[tuple[Trial, HeldOutSet]], inputs: TrialInputs
) -> None:
    unlike = voxel_size_problems(tasks, inputs.folder)
    if unlike:
        told = next(iter(unlike.values()))
        raise MgmtError(
            f"external.{name}: {shorten_list(list(unlike))}: of the first, {told}, or leave such "
            f"subjects out with external.{name}.exclude."
        )


def member_tasks(
    members: Sequence[Trial], external: Cohort, folder: StudyFolder
) -> list[tuple[Trial, HeldOutSet]]:
    """Each member that has somebody to predict, with the subjects that have its modalities."""
    tasks = []
    for trial in members:
        label = {s.id: s.label for s in external.subjects if s.has_all(trial.channels)}
        if label:
            tasks.append((trial, HeldOutSet("external", folder, label, external)))
    return tasks
