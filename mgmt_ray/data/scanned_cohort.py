"""A data set with the inspections of its files, and the selection of its cohort."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mgmt_ray.base import MgmtError
from mgmt_ray.cluster.progress import show_progress
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.covariates import AGE_SEX, covariate_problems
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
from mgmt_ray.preprocess.spatial import smallest_window
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.study_config import StudyConfig


@dataclass(frozen=True, slots=True)
class ScannedCohort:
    """A data set that was read and inspected.

    Attributes:
        name: of an external cohort; empty for the study's own.
        folder: of the cohort's tables and inspections.
        reader_result: all subjects of the data set, and its problems.
        inspections: of all subjects' files, by id.
        crosswalk: each row has the ids of one person.
        selection: the cohort, and the exclusions with their reasons.
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
        """All persons of the data set, excluded ones too."""
        return list_persons(self.reader_result, self.name)

    @property
    def scan_hashes(self) -> dict[SubjectKey, dict[str, str]]:
        """Hashes of the scans' voxels, by subject and modality."""
        return {
            (self.name, subject): dict(inspection.hashes)
            for subject, inspection in self.inspections.items()
        }

    def reselect(
        self,
        result: ReaderResult,
        inspections: Mapping[str, Inspection],
        problems: Sequence[Problem],
    ) -> ScannedCohort:
        """Select the cohort again, after masks were predicted.

        Args:
            result: with the new masks.
            inspections: of all subjects' files.
            problems: further ones, neither of the reader nor of a file.
        """
        selection = _select(self.name, self.config, result, inspections, self.crosswalk, problems)
        return replace(self, reader_result=result, inspections=inspections, selection=selection)


def list_subjects(
    name: str, config: CohortConfig, study: StudyConfig, folder: StudyFolder, resources: Resources
) -> ScannedCohort:
    """Read a data set, its covariates that the study takes, and inspect all files.

    Of a subject without a mask only the scans are inspected.

    Args:
        name: of an external cohort; empty for the study's own.
        config: of the data set's reader.
        study: its recipes are what the files are checked against.
        folder: of the cohort's inspections.

    Raises:
        MgmtError: the data set cannot be read, or all scans are too small for the recipe.
    """
    result = read_data_set(config)
    table = config.root / config.table if config.reader == "table" else config.root
    covariates = AGE_SEX if not name and "age_sex" in study.baselines else study.network_covariates
    faults = covariate_problems(result.subjects, covariates, str(table))
    result = replace(result, problems=(*result.problems, *faults))
    with show_progress(f"check {name}" if name else "check files") as progress:
        inspections = inspect_cohort(
            result.subjects,
            study.first_recipe,
            config.known_labels,
            folder.inspections,
            resources,
            progress,
            study.slice_recipe,
        )
    check_scan_sizes(inspections, study)
    if not name and "radiomics_forest" in study.baselines:
        check_parts_marked(inspections, config)
    crosswalk = read_crosswalk(config.crosswalk)
    selection = _select(name, config, result, inspections, crosswalk)
    return ScannedCohort(name, config, folder, result, inspections, crosswalk, selection)


def smallest_recipe(inspections: Iterable[Inspection], shrink: int) -> str:
    """Return the smallest window and shape that hold all tumours, as YAML; empty if unknown."""
    seen = [i for i in inspections if i.tumour_box and i.mask_shape]
    boxes = [i.tumour_box for i in seen if i.tumour_box]
    grid = [min(sizes) for sizes in zip(*(i.mask_shape for i in seen if i.mask_shape), strict=True)]
    smallest = smallest_window(boxes, grid, shrink) if boxes else None
    if smallest is None:
        return ""
    window, shape = ([*map(list, smallest[0])], list(smallest[1]))
    return f"recipe: {{window: {window}, shape: {shape}, shrink: {shrink}}}"


def check_scan_sizes(inspections: Mapping[str, Inspection], study: StudyConfig) -> None:
    """Raise MgmtError if all scans are too small for the recipe's window."""
    small = [
        problem
        for inspection in inspections.values()
        for problem in inspection.problems
        if problem.kind == "small_scan"
    ]
    if small and len({problem.subject for problem in small}) == len(inspections):
        raise MgmtError(
            f"recipe.window: {small[0].found}; the same holds for all {len(inspections)} subjects. "
            "Fit recipe.window to your scans, and recipe.shape (window extents divided by "
            f"recipe.shrink = {study.recipe.shrink}, or more). The smallest that hold all tumours: "
            f"{smallest_recipe(inspections.values(), study.recipe.shrink)}"
        )


def check_parts_marked(inspections: Mapping[str, Inspection], config: CohortConfig) -> None:
    """Raise MgmtError if no mask marks a part of the tumour that the forest measures."""
    present = sorted({label for i in inspections.values() for label in i.labels})
    if not present or config.label_map is None:
        return
    for part, label in config.label_map.parts.items():
        if label not in present:
            raise MgmtError(
                f"cohort.mask_labels: {label} is {part}, but no mask has it (they have "
                f"{', '.join(map(str, present))}). Write which label is which, or remove "
                "radiomics_forest from baselines."
            )


def shared_voxel_pairs(cohorts: Sequence[ScannedCohort]) -> list[tuple[SubjectKey, SubjectKey]]:
    """Return pairs of subjects, of the same or different cohorts, that share a scan."""
    hashes = {key: value for cohort in cohorts for key, value in cohort.scan_hashes.items()}
    return [pair[:2] for pair in find_shared_voxels(hashes)]


def _select(
    name: str,
    config: CohortConfig,
    result: ReaderResult,
    inspections: Mapping[str, Inspection],
    crosswalk: Crosswalk,
    further_problems: Sequence[Problem] = (),
) -> CohortSelection:
    hashes = {
        subject: {**inspection.hashes, **_mask_hash(inspection)}
        for subject, inspection in inspections.items()
    }
    problems = [problem for inspection in inspections.values() for problem in inspection.problems]
    key = f"external.{name}" if name else "cohort"
    return select_subjects(result, config, [*problems, *further_problems], hashes, crosswalk, key)


def _mask_hash(inspection: Inspection) -> dict[str, str]:
    return {MASK: inspection.mask_hash} if inspection.mask_hash else {}
