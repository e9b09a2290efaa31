"""Making volumes: one Ray task per subject computes, this process alone writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import ray

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.orchestration.connect import fetch
from mgmt_ray.orchestration.placement import Placement
from mgmt_ray.orchestration.progress import Step
from mgmt_ray.preprocess.recipe import RecipeConfig
from mgmt_ray.preprocess.store_plan import SubjectTask, plan_store
from mgmt_ray.preprocess.store_writer import StoreWriter
from mgmt_ray.preprocess.volumes import Made, make_volumes
from mgmt_ray.study.config import StudyConfig

WAITING_PER_CPU = 2
"""Tasks submitted per core at a time: results of many more would fill the object store."""


def prepare_volumes(
    cohort: Cohort, study: StudyConfig, folder: Path, placement: Placement, step: Step
) -> int:
    """Bring the volume store up to date.

    Args:
        cohort: whose volumes.
        study: which modalities and how.
        folder: of the store.
        placement: with launcher "ray", Ray must be connected.
        step: is given subjects done and their number.

    Returns:
        How many subjects had something to be made.

    Raises:
        MgmtError: files that cannot be used, each named, once all others are done; a full disk.
    """
    plan = plan_store(folder, cohort, study.modalities, study.recipe)
    tasks = plan.tasks
    if not plan.arrays:
        return 0
    faults: list[str] = []

    def results() -> Iterator[tuple[str, dict[str, Made]]]:
        make = _make_here if placement.launcher == "in-process" else _make_on_ray
        for done, (subject_id, made) in enumerate(make(tasks, study.recipe), start=1):
            if isinstance(made, MgmtError):
                faults.append(str(made))
            else:
                yield subject_id, made
            step(done, len(tasks))

    with StoreWriter(plan) as writer:
        for subject_id, made in results():
            writer.put(subject_id, made)
        if faults:
            raise MgmtError("\n".join(faults))
    return len(tasks)


def _make_here(
    tasks: Sequence[SubjectTask], recipe: RecipeConfig
) -> Iterator[tuple[str, dict[str, Made] | MgmtError]]:
    for task in tasks:
        yield task.subject.id, _make(task, recipe)


def _make_on_ray(
    tasks: Sequence[SubjectTask], recipe: RecipeConfig
) -> Iterator[tuple[str, dict[str, Made] | MgmtError]]:
    remote = ray.remote(_make).options(num_cpus=1)
    limit = WAITING_PER_CPU * max(1, int(ray.cluster_resources().get("CPU", 1)))
    left = list(reversed(tasks))
    running: dict[ray.ObjectRef, str] = {}
    while left or running:
        while left and len(running) < limit:
            task = left.pop()
            running[remote.remote(task, recipe)] = task.subject.id
        (reference, *_), _ = ray.wait(list(running), num_returns=1)
        yield running.pop(reference), fetch(reference)


def _make(task: SubjectTask, recipe: RecipeConfig) -> dict[str, Made] | MgmtError:
    """A subject's volumes, or what is wrong with its files: one bad file stops no other."""
    try:
        return make_volumes(task.subject, task.wanted, recipe)
    except MgmtError as error:
        return error
