"""Preparing a cohort's volumes and slices, and logging what was done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mgmt_ray.cluster.progress import ProgressCallback, log, show_progress
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.csv_rows import join_first
from mgmt_ray.data.bring_up_to_date import Maker, bring_up_to_date
from mgmt_ray.preprocess.artefact_store import ArtefactPart, Wanted
from mgmt_ray.preprocess.axial_slices import slice_sources
from mgmt_ray.preprocess.recipe import RecipeConfig, SliceRecipe, augmentation_of
from mgmt_ray.preprocess.slice_store import make_slice_artefacts, wanted_slices
from mgmt_ray.preprocess.volume_store import (
    VolumeSource,
    is_accepted,
    make_volume_artefacts,
    wanted_volumes,
)
from mgmt_ray.study.folder import StudyFolder

MAX_VOLUME_CHANGE = 0.5
"""Change of a tumour's volume by an augmentation, as a fraction, above which it is reported."""

REMEDIES = {
    "deform": "Lower recipe.deform_sigma_voxels, or omit it.",
    "rotate": "Make recipe.shape as high as wide, so that less leaves the volume.",
}


def prepare_cohort(
    name: str,
    cohort: Cohort,
    inputs: tuple[tuple[str, ...], ...],
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
        inputs: modalities of each model's input; all of them are prepared, one by one.
        recipe: how scans become volumes.
        folder: that holds the store.
        verify: whether all volumes are read again and compared with their checksums; loading a
            subject's volumes compares theirs anyway.

    Raises:
        MgmtError: as :func:`prepare_volumes`, or volumes were changed after they were written.
    """
    modalities = tuple(dict.fromkeys(m for channels in inputs for m in channels))
    with show_progress(name) as progress:
        volumes = folder.volumes
        prepared = prepare_volumes(cohort, modalities, recipe, volumes, resources, progress)
    log(f"{name}: {prepared} subjects prepared" if prepared else f"{name}: up to date")
    if verify:
        _verify(name, folder.volumes, modalities)


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
    >>> from mgmt_ray.preprocess.volume_store import VolumeStore
    >>> store = VolumeStore(root / "volumes", "T1")
    >>> store.load(store.ids, ["original", "flip"]).shape
    (2, 2, 8, 8, 8)
    """
    wanted = {m: wanted_volumes(folder, cohort, m, recipe) for m in modalities}
    is_valid = partial(is_accepted, allow_clipping=recipe.allow_clipping)
    maker = Maker(make_volume_artefacts, recipe, _by_subject, is_valid)
    about = {"recipe": recipe.model_dump(mode="json")}
    update = bring_up_to_date(folder, wanted, maker, about, resources, progress)
    update.check_faults()
    if update.num_made and (warning := describe_torn_tumours(update.entries)):
        log(warning)
    return update.num_made


def describe_torn_tumours(entries: Mapping[tuple[str, str], Mapping[str, Any]]) -> str:
    """Say which augmentations change tumours' volumes by more than half; empty if none does.

    Args:
        entries: descriptions of volumes by modality and subject.

    >>> voxels = {"original": 881, "flip": 881, "deform": 391}
    >>> versions = {name: ["key", {"tumour_voxels": n}] for name, n in voxels.items()}
    >>> describe_torn_tumours({("T1", "P1"): {"versions": versions}})[:65]
    'warning: deform changes the tumour of 1 of 1 subjects by more tha'
    """
    torn: dict[str, dict[str, str]] = {}
    for (_, subject), entry in entries.items():
        voxels = {name: drawn["tumour_voxels"] for name, (_, drawn) in entry["versions"].items()}
        before = voxels["original"]
        for name, after in voxels.items():
            if abs(after - before) > MAX_VOLUME_CHANGE * before:
                kind = augmentation_of(name)
                torn.setdefault(kind, {})[subject] = f"{subject}: {before} voxels became {after}"
    total = len({subject for _, subject in entries})
    return "\n".join(
        f"warning: {kind} changes the tumour of {len(subjects)} of {total} subjects by more than "
        f"half ({join_first([*subjects.values()], 3)}). {REMEDIES.get(kind, '')}"
        for kind, subjects in torn.items()
    )


def prepare_slices(
    name: str,
    cohort: Cohort,
    inputs: tuple[tuple[str, ...], ...],
    recipe: SliceRecipe,
    folder: StudyFolder,
    resources: Resources,
    *,
    verify: bool,
) -> None:
    """Bring a slice store up to date, and log the result; arguments as :func:`prepare_cohort`.

    Each input is a part of the store: its modalities are sliced at the same positions.

    Raises:
        UnusableFiles: files of some subjects cannot be used; the others are prepared.
        MgmtError: the disk is full, or slices were changed after they were written.
    """
    name, store = f"{name} slices", folder.slices
    parts = {"+".join(channels): channels for channels in inputs}
    wanted = {
        part: wanted_slices(part, slice_sources(cohort, *channels), recipe)
        for part, channels in parts.items()
    }
    maker = Maker(make_slice_artefacts, recipe)
    about = {"recipe": recipe.model_dump(mode="json")}
    with show_progress(name) as progress:
        update = bring_up_to_date(store, wanted, maker, about, resources, progress)
    update.check_faults()
    log(f"{name}: {update.num_made} scans sliced" if update.num_made else f"{name}: up to date")
    if verify:
        _verify(name, store, tuple(parts))


def _by_subject(pending: Sequence[Wanted[VolumeSource]]) -> list[list[Wanted[VolumeSource]]]:
    """Return a task for all modalities of a subject, whose mask is then read once."""
    tasks: dict[str, list[Wanted[VolumeSource]]] = {}
    for item in pending:
        tasks.setdefault(item.subject, []).append(item)
    return list(tasks.values())


def _verify(name: str, folder: Path, modalities: Sequence[str]) -> None:
    with show_progress(f"{name}: verify") as progress:
        for done, modality in enumerate(modalities, start=1):
            ArtefactPart(folder, modality).verify()
            progress(done, len(modalities))
