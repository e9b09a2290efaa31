"""Making volumes and slices: a Ray task per subject computes, this process alone writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from mgmt_ray.base import MgmtError
from mgmt_ray.cluster.parallel_map import parallel_map
from mgmt_ray.cluster.progress import ProgressCallback, log, show_progress
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.preprocess.axial_slices import SubjectSlices, make_slices, slice_sources
from mgmt_ray.preprocess.recipe import RecipeConfig, SliceRecipe
from mgmt_ray.preprocess.slice_store import SliceStore
from mgmt_ray.preprocess.slice_store_writer import SliceTask, SliceWriter, plan_slice_store
from mgmt_ray.preprocess.volume_store import VolumeStore
from mgmt_ray.preprocess.volume_store_plan import SubjectTask, plan_store
from mgmt_ray.preprocess.volume_store_writer import StoreWriter
from mgmt_ray.preprocess.volumes import SubjectVolumes, make_volumes
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.study_config import StudyConfig


class UnusableFiles(MgmtError):
    """Files of some subjects cannot be used; what was made of the others is kept.

    Attributes:
        faults: by subject, in words.
    """

    def __init__(self, faults: Mapping[str, str]) -> None:
        super().__init__("\n".join(f"subject {name}: {fault}" for name, fault in faults.items()))
        self.faults = dict(faults)


def prepare_stores(
    name: str,
    cohort: Cohort,
    study: StudyConfig,
    folder: StudyFolder,
    resources: Resources,
    *,
    augmented: bool = False,
    verify: bool = False,
) -> None:
    """Bring the stores that a study's networks read of a cohort up to date, and say so.

    Args:
        name: what the lines begin with.
        cohort: the study's own, or of subjects that are only predicted.
        study: its networks, recipes and modalities.
        folder: of the cohort's stores.
        resources: with backend "ray", Ray must be connected.
        augmented: whether volumes are augmented, as those that train are.
        verify: as of :func:`prepare_cohort`.

    Raises:
        UnusableFiles: of some subjects, once all others are done.
    """
    some = tuple(m for m in study.modalities if augmented or m in cohort.modalities)
    recipe = study.recipe if augmented else study.recipe.model_copy(update={"rounds": 0})
    if study.takes_volumes:
        prepare_cohort(name, cohort, some, recipe, folder.volumes, resources, verify=verify)
    if study.takes_slices:
        prepare_slices(
            f"{name} slices", cohort, some, study.slices, folder.slices, resources, verify=verify
        )


def prepare_cohort(
    name: str,
    cohort: Cohort,
    modalities: tuple[str, ...],
    recipe: RecipeConfig,
    folder: Path,
    resources: Resources,
    *,
    verify: bool,
) -> None:
    """Bring a volume store up to date, and say so.

    Args:
        name: what the lines begin with.
        cohort: whose volumes.
        modalities: of the volumes.
        recipe: how.
        folder: of the store.
        resources: with backend "ray", Ray must be connected.
        verify: whether every voxel is read again and compared with its checksum. Who loads a
            subject's volumes compares these anyway.

    Raises:
        MgmtError: as :func:`prepare_volumes`, or volumes are not what was written.
    """
    with show_progress(name) as step:
        made = prepare_volumes(cohort, modalities, recipe, folder, resources, step)
    log(f"{name}: {made} subjects made anew" if made else f"{name}: up to date")
    if verify:
        with show_progress(f"{name}: verify volumes") as step:
            for done, modality in enumerate(modalities, start=1):
                VolumeStore(folder, modality).verify()
                step(done, len(modalities))


def prepare_volumes(
    cohort: Cohort,
    modalities: tuple[str, ...],
    recipe: RecipeConfig,
    folder: Path,
    resources: Resources,
    step: ProgressCallback,
) -> int:
    """Bring the volume store up to date.

    Args:
        cohort: whose volumes.
        modalities: of the volumes.
        recipe: how.
        folder: of the store.
        resources: with backend "ray", Ray must be connected.
        step: is given subjects done and their number.

    Returns:
        How many subjects had something to be made.

    Raises:
        UnusableFiles: of some subjects, once all others are done.
        CannotWrite: a full disk.
    """
    plan = plan_store(folder, cohort, modalities, recipe)
    tasks = plan.tasks
    if not plan.arrays:
        return 0
    faults: dict[str, str] = {}

    def results() -> Iterator[tuple[str, dict[str, SubjectVolumes]]]:
        made_by_task = parallel_map(_prepare_subject, tasks, recipe, resources)
        for done, (task, made) in enumerate(made_by_task, start=1):
            if isinstance(made, MgmtError):
                faults[task.subject.id] = str(made)
            else:
                yield task.subject.id, made
            step(done, len(tasks))

    with StoreWriter(plan) as writer:
        for subject_id, made in results():
            writer.put(subject_id, made)
        if faults:
            raise UnusableFiles(faults)
    return len(tasks)


def prepare_slices(
    name: str,
    cohort: Cohort,
    modalities: tuple[str, ...],
    recipe: SliceRecipe,
    folder: Path,
    resources: Resources,
    *,
    verify: bool,
) -> None:
    """Bring a slice store up to date, and say so; arguments as of :func:`prepare_cohort`.

    Raises:
        UnusableFiles: of some subjects, once all others are done.
        CannotWrite: a full disk.
    """
    plan = plan_slice_store(folder, {m: slice_sources(cohort, m) for m in modalities}, recipe)
    faults: dict[str, str] = {}
    if plan.modalities:
        with show_progress(name) as step, SliceWriter(plan) as writer:
            made = parallel_map(_slice_scan, plan.tasks, recipe, resources)
            for done, (task, slices) in enumerate(made, start=1):
                if isinstance(slices, MgmtError):
                    faults[task.source.id] = f"{task.modality}: {slices}"
                else:
                    writer.put(task, slices)
                step(done, len(plan.tasks))
            if faults:
                raise UnusableFiles(faults)
    number = len(plan.tasks)
    log(f"{name}: {number} scans sliced anew" if number else f"{name}: up to date")
    if verify:
        with show_progress(f"{name}: verify slices") as step:
            for done, modality in enumerate(modalities, start=1):
                SliceStore(folder, modality).verify()
                step(done, len(modalities))


def _slice_scan(task: SliceTask, recipe: SliceRecipe) -> SubjectSlices | MgmtError:
    """A scan's slices, or what is wrong with its files."""
    try:
        return make_slices(task.source, recipe)
    except MgmtError as error:
        return error


def _prepare_subject(
    task: SubjectTask, recipe: RecipeConfig
) -> dict[str, SubjectVolumes] | MgmtError:
    """A subject's volumes, or what is wrong with its files: one bad file stops no other."""
    try:
        return make_volumes(task.subject, task.wanted, recipe)
    except MgmtError as error:
        return error
