"""One data set as it was found: who is there, what their files hold, and who is in the cohort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mgmt_ray.base import MgmtError
from mgmt_ray.cluster.progress import show_progress
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.datasets import CohortConfig, read_data_set
from mgmt_ray.cohort.inclusion import MASK, CohortSelection, select_subjects
from mgmt_ray.cohort.persons import (
    Crosswalk,
    PersonRef,
    SubjectKey,
    find_shared_voxels,
    list_persons,
    read_crosswalk,
)
from mgmt_ray.cohort.problem import Problem
from mgmt_ray.cohort.reader import ReaderResult
from mgmt_ray.data.inspect_files import inspect_cohort
from mgmt_ray.preprocess.scan_inspection import Inspection
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.study_config import StudyConfig


@dataclass(frozen=True, slots=True)
class ScannedCohort:
    """One data set.

    Attributes:
        name: of the cohort; empty for the study's own.
        config: of its reader.
        folder: of its tables.
        reader_result: what the reader found.
        inspections: of each subject's files, by id.
        crosswalk: rows of ids of one person.
        selection: who is in, who is out and why.
    """

    name: str
    config: CohortConfig
    folder: StudyFolder
    reader_result: ReaderResult
    inspections: Mapping[str, Inspection]
    crosswalk: Crosswalk
    selection: CohortSelection

    @property
    def persons(self) -> list[PersonRef]:
        """Everybody found, also who is out."""
        return list_persons(self.reader_result, self.name)

    @property
    def scan_hashes(self) -> dict[SubjectKey, dict[str, str]]:
        """Hashes of the scans' voxels, by subject and modality."""
        return {(self.name, s): dict(seen.hashes) for s, seen in self.inspections.items()}

    def reselect(
        self,
        result: ReaderResult,
        inspections: Mapping[str, Inspection],
        problems: Sequence[Problem],
    ) -> ScannedCohort:
        """The same with other masks.

        Args:
            result: with them.
            inspections: of every subject's files.
            problems: that are neither of the reading nor of a file.
        """
        selection = _select(self.name, self.config, result, inspections, self.crosswalk, problems)
        return replace(self, reader_result=result, inspections=inspections, selection=selection)


def list_subjects(
    name: str, config: CohortConfig, study: StudyConfig, folder: StudyFolder, resources: Resources
) -> ScannedCohort:
    """Read a data set and look at every file; a subject whose mask is missing has scans alone.

    Args:
        name: of the cohort; empty for the study's own.
        config: of its reader.
        study: whose recipe the files must suit.
        folder: keeps what was seen of them.
        resources: with backend "ray", Ray must be connected.

    Raises:
        MgmtError: the data set cannot be read, or no scan suits the recipe.
    """
    result = read_data_set(config)
    recipe = study.recipe if study.takes_volumes else study.slices
    with_mask = [s for s in result.subjects if s.mask is not None]
    without = [s for s in result.subjects if s.mask is None]
    seen: dict[str, Inspection] = {}
    with show_progress(f"check {name}" if name else "check files") as step:

        def counted(done: int, total: int) -> None:
            step(len(seen) + done, len(seen) + total)

        # apart from what is seen of them with their predicted mask, so that both are kept
        for subjects, kept in ((without, folder.masks / "scans"), (with_mask, folder.inspections)):
            labels, slices = config.mask_labels, study.slices if study.takes_slices else None
            seen |= inspect_cohort(subjects, recipe, labels, kept, resources, counted, slices)
    check_scan_sizes(seen, study)
    crosswalk = read_crosswalk(config.crosswalk)
    selection = _select(name, config, result, seen, crosswalk)
    return ScannedCohort(name, config, folder, result, seen, crosswalk, selection)


def check_scan_sizes(seen: Mapping[str, Inspection], study: StudyConfig) -> None:
    """Raise MgmtError, once, where every scan is too small for the recipe's window."""
    small = [p for one in seen.values() for p in one.problems if p.kind == "small_scan"]
    if small and len({p.subject for p in small}) == len(seen):
        raise MgmtError(
            f"recipe.window: {small[0].found}, and so for all {len(seen)} subjects. Fit "
            "recipe.window to your scans, and recipe.shape (window extents divided by "
            f"recipe.shrink = {study.recipe.shrink}, or more)."
        )


def shared_voxel_pairs(cohorts: Sequence[ScannedCohort]) -> list[tuple[SubjectKey, SubjectKey]]:
    """Pairs of subjects, in whatever cohort, that share a scan."""
    images = {key: own for found in cohorts for key, own in found.scan_hashes.items()}
    return [pair[:2] for pair in find_shared_voxels(images)]


def _select(
    name: str,
    config: CohortConfig,
    result: ReaderResult,
    inspections: Mapping[str, Inspection],
    crosswalk: Crosswalk,
    more: Sequence[Problem] = (),
) -> CohortSelection:
    hashes = {subject: {**seen.hashes, **_mask_hash(seen)} for subject, seen in inspections.items()}
    problems = [problem for seen in inspections.values() for problem in seen.problems]
    key = f"external.{name}" if name else "cohort"
    return select_subjects(result, config, [*problems, *more], hashes, crosswalk, key)


def _mask_hash(seen: Inspection) -> dict[str, str]:
    return {MASK: seen.mask_hash} if seen.mask_hash else {}
