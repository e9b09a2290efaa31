"""A small study below the audited one: its own labels, splits and trainings."""

from __future__ import annotations

from mgmt_ray.audit.audited import Audited
from mgmt_ray.cluster.progress import say
from mgmt_ray.cohort.cohort import Cohort, write_cohort
from mgmt_ray.pipeline.stages import ensemble, train
from mgmt_ray.splits.split import Split, write_splits
from mgmt_ray.study.config import StudyConfig, write_study
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.plan import make_plan
from mgmt_ray.study.trial import Trial
from mgmt_ray.trials.context import Job


def run_sub_study(
    audited: Audited, name: str, study: StudyConfig, cohort: Cohort, splits: tuple[Split, ...]
) -> tuple[StudyFolder, list[Trial]]:
    """Train, choose, average and measure as a study does; what is finished is not done again.

    What it reads is in place already (see ``training_data.py``). Its log of test openings is its
    own, and so are its labels.

    Args:
        audited: the study above.
        name: of the folder.
        study: what to run.
        cohort: with the labels to believe in.
        splits: of it.

    Returns:
        Its folder and plan.
    """
    folder = StudyFolder(audited.work / name)
    job = Job(study, folder, audited.job.placement)
    write_cohort(cohort, folder.root)
    write_study(study, folder.study_file)
    write_splits(splits, folder.splits)
    trials = make_plan(study, splits)
    inputs = job.inputs(cohort, splits)
    say(f"audit: {name}, {len(trials)} trials of {audited.cheapest_network}")
    train(job, trials, inputs)
    ensemble(job, trials, inputs, {})
    return folder, trials
