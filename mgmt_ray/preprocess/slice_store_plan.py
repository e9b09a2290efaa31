"""What a preparation of slices has to do: compared with what the folder holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mgmt_ray.base import MgmtError, fingerprint
from mgmt_ray.preprocess.axial_slices import SliceSource
from mgmt_ray.preprocess.slice_index import FORMAT, SliceRow, read_slice_index, slice_path
from mgmt_ray.preprocess.slice_recipe import METHOD, SliceRecipe
from mgmt_ray.preprocess.slice_store import read_row
from mgmt_ray.preprocess.volume_index import Source, source_of


@dataclass(frozen=True, slots=True)
class SliceTask:
    """One subject's slices of one modality, to be made with ``make_slices``."""

    modality: str
    source: SliceSource


@dataclass(frozen=True, slots=True)
class WantedRow:
    """One subject of a modality.

    Attributes:
        source: its files.
        key: what its slices depend on.
        image: state of the scan.
        mask: state of the mask, if there is one.
        finished: the row in place; None if the slices must be made.
    """

    source: SliceSource
    key: str
    image: Source
    mask: Source | None
    finished: SliceRow | None


@dataclass(frozen=True, slots=True)
class ModalityPlan:
    """All subjects of a modality, sorted by id.

    Attributes:
        modality: of all of them.
        rows: one per subject.
        target: fingerprint of subjects and keys: of all that the index will tell.
    """

    modality: str
    rows: tuple[WantedRow, ...]
    target: str


@dataclass(frozen=True, slots=True)
class SliceStorePlan:
    """What stands between a folder and the slices of a cohort and recipe.

    Attributes:
        folder: of the store.
        sources: by modality, as they were asked for.
        recipe: how.
        modalities: those that have something missing; none when all is up to date.
    """

    folder: Path
    sources: Mapping[str, Sequence[SliceSource]]
    recipe: SliceRecipe
    modalities: tuple[ModalityPlan, ...]

    @property
    def tasks(self) -> tuple[SliceTask, ...]:
        """What has to be made; may be none though an index must be written."""
        return tuple(
            SliceTask(plan.modality, row.source)
            for plan in self.modalities
            for row in plan.rows
            if row.finished is None
        )


def plan_slice_store(
    folder: Path, sources: Mapping[str, Sequence[SliceSource]], recipe: SliceRecipe
) -> SliceStorePlan:
    """Compare a folder with what a study needs; no scan and no slice is read.

    A subject's slices are kept if the recipe is as it was, and name, size and modification time of
    its scan and mask. What an interrupted preparation finished is kept too.

    Args:
        folder: of the store.
        sources: by modality the scans of a cohort (see ``slices.slice_sources``).
        recipe: how.

    Raises:
        MgmtError: no subject has a modality, or a file of the cohort is gone.
    """
    plans = (_plan_modality(folder, modality, of, recipe) for modality, of in sources.items())
    return SliceStorePlan(folder, sources, recipe, tuple(p for p in plans if p is not None))


def _plan_modality(
    folder: Path, modality: str, sources: Sequence[SliceSource], recipe: SliceRecipe
) -> ModalityPlan | None:
    if not sources:
        raise MgmtError(
            f"cohort: no subject has {modality}. Drop it from cohort.modalities, or look at "
            "exclusions.csv for the reason."
        )
    ordered = sorted(sources, key=lambda source: source.id)
    rows = tuple(_want(folder, modality, source, recipe) for source in ordered)
    target = fingerprint([FORMAT, modality, [[row.source.id, row.key] for row in rows]])
    index = read_slice_index(folder, modality)
    if index and index.target == target and all(row.finished for row in rows):
        return None
    return ModalityPlan(modality, rows, target)


def _want(folder: Path, modality: str, source: SliceSource, recipe: SliceRecipe) -> WantedRow:
    image = _state(source.id, modality, source.image)
    mask = None if source.mask is None else _state(source.id, "mask", source.mask)
    files = [asdict(image), asdict(mask) if mask else None]
    key = fingerprint([FORMAT, METHOD, recipe.model_dump(mode="json"), files])
    row = read_row(slice_path(folder, modality, source.id, key))
    return WantedRow(source, key, image, mask, row if row and row.key == key else None)


def _state(subject: str, what: str, path: Path) -> Source:
    try:
        return source_of(path)
    except OSError as error:
        raise MgmtError(
            f"subject {subject}: {what} {path} cannot be read ({error.strerror}). "
            "Put the file back, or make the cohort's tables anew with `mgmt-ray cohort STUDY`."
        ) from error
