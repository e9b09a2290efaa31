"""Preparing volumes and slices: a task per subject computes them, this process writes them."""

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


class UnusableFiles(MgmtError):
    """Files of some subjects cannot be used; the other subjects are prepared.

    Attributes:
        faults: message by subject id.
    """

    def __init__(self, faults: Mapping[str, str]) -> None:
        super().__init__("\n".join(f"subject {name}: {fault}" for name, fault in faults.items()))
        self.faults = dict(faults)


def prepare_cohort(
    name: str,
    cohort: Cohort,
    modalities: tuple[str, ...],
    recipe: RecipeConfig,
    folder: StudyFolder,
    resources: Resources,
    *,
    verify: bool,
) -> None:
    """Bring a volume store up to date, and log the result.

    Args:
        name: what log lines begin with.
        cohort: of subjects with masks.
        modalities: to prepare.
        recipe: how scans become volumes.
        folder: that holds the store.
        verify: whether all volumes are read again and compared with their checksums; loading a
            subject's volumes compares theirs anyway.

    Raises:
        MgmtError: as :func:`prepare_volumes`, or volumes were changed after they were written.
    """
    with show_progress(name) as progress:
        volumes = folder.volumes
        prepared = prepare_volumes(cohort, modalities, recipe, volumes, resources, progress)
    log(f"{name}: {prepared} subjects prepared" if prepared else f"{name}: up to date")
    if verify:
        with show_progress(f"{name}: verify volumes") as progress:
            for done, modality in enumerate(modalities, start=1):
                VolumeStore(folder.volumes, modality).verify()
                progress(done, len(modalities))


def prepare_volumes(
    cohort: Cohort,
    modalities: tuple[str, ...],
    recipe: RecipeConfig,
    folder: Path,
    resources: Resources,
    progress: ProgressCallback,
) -> int:
    """Bring a volume store up to date.

    Args:
        cohort: of subjects with masks.
        modalities: to prepare.
        recipe: how scans become volumes.
        folder: of the store.
        progress: receives the number of prepared subjects and their total.

    Returns:
        The number of subjects whose volumes were missing or out of date.

    Raises:
        UnusableFiles: files of some subjects cannot be used; the others are prepared.
        CannotWrite: the disk is full.

    >>> from tempfile import TemporaryDirectory
    >>> from mgmt_ray.cohort.upenn import UpennConfig, read_upenn
    >>> from mgmt_ray.synthetic.generate import SyntheticConfig, synthesize
    >>> temporary = TemporaryDirectory()
    >>> root = Path(temporary.name)
    >>> synthesize(SyntheticConfig(subjects=2, grid=(16, 16, 16), modalities=("T1",)), root)
    >>> found = read_upenn(UpennConfig(reader="upenn", root=root, modalities=("T1",)))
    >>> recipe = RecipeConfig(window=((0, 16), (0, 16), (0, 16)), shape=(8, 8, 8))
    >>> prepare_volumes(Cohort(found.subjects), ("T1",), recipe, root / "volumes",
    ...                 Resources(backend="in-process"), lambda done, total: None)
    2
    >>> store = VolumeStore(root / "volumes", "T1")
    >>> store.load(store.ids, ["original", "flip"]).shape
    (2, 2, 8, 8, 8)
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
            progress(done, len(tasks))

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
    folder: StudyFolder,
    resources: Resources,
    *,
    verify: bool,
) -> None:
    """Bring a slice store up to date, and log the result; arguments as :func:`prepare_cohort`.

    Raises:
        UnusableFiles: files of some subjects cannot be used; the others are prepared.
        CannotWrite: the disk is full.
    """
    name = f"{name} slices"
    plan = plan_slice_store(
        folder.slices, {m: slice_sources(cohort, m) for m in modalities}, recipe
    )
    faults: dict[str, str] = {}
    if plan.modalities:
        with show_progress(name) as progress, SliceWriter(plan) as writer:
            made = parallel_map(_slice_scan, plan.tasks, recipe, resources)
            for done, (task, slices) in enumerate(made, start=1):
                if isinstance(slices, MgmtError):
                    faults[task.source.id] = f"{task.modality}: {slices}"
                else:
                    writer.put(task, slices)
                progress(done, len(plan.tasks))
            if faults:
                raise UnusableFiles(faults)
    num_scans = len(plan.tasks)
    log(f"{name}: {num_scans} scans sliced" if num_scans else f"{name}: up to date")
    if verify:
        with show_progress(f"{name}: verify slices") as progress:
            for done, modality in enumerate(modalities, start=1):
                SliceStore(folder.slices, modality).verify()
                progress(done, len(modalities))


def _slice_scan(task: SliceTask, recipe: SliceRecipe) -> SubjectSlices | MgmtError:
    """Cut a scan's slices, or return what is wrong with its files."""
    try:
        return make_slices(task.source, recipe)
    except MgmtError as error:
        return error


def _prepare_subject(
    task: SubjectTask, recipe: RecipeConfig
) -> dict[str, SubjectVolumes] | MgmtError:
    """Make a subject's volumes, or return what is wrong with its files: the others go on."""
    try:
        return make_volumes(task.subject, task.wanted, recipe)
    except MgmtError as error:
        return error
