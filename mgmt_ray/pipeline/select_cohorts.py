"""Selecting a study's subjects, and those of its external cohorts: every file is looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from mgmt_ray.base import MgmtError, write_text
from mgmt_ray.cluster.progress import log
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.cohort import Cohort, exclusion_flow, write_cohort
from mgmt_ray.cohort.datasets import CohortConfig
from mgmt_ray.cohort.inclusion import exclude_persons, write_findings
from mgmt_ray.cohort.persons import SubjectKey, count_matches, find_persons
from mgmt_ray.data.scanned_cohort import ScannedCohort, list_subjects, shared_voxel_pairs
from mgmt_ray.masks.predicted_masks import predict_masks
from mgmt_ray.masks.segmentation_study import load_segmentations
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.study_config import StudyConfig, write_study


@dataclass(frozen=True, slots=True)
class StudyCohorts:
    """The subjects of a study.

    Attributes:
        cohort: to train, validate and test on.
        external: by name, to be predicted only.
    """

    cohort: Cohort
    external: Mapping[str, Cohort]


def select_cohorts(study: StudyConfig, folder: StudyFolder, resources: Resources) -> StudyCohorts:
    """Read the data sets, look at every file, predict masks, and write who is in and who is out.

    Args:
        study: its cohort and external cohorts.
        folder: gets cohort.csv, exclusions.csv, problems.csv and predicted masks; the external
            ones' go below it.
        resources: with backend "ray", Ray must be connected.

    Raises:
        MgmtError: something is wrong that the study does not cover; all of it, a line each. Then
            problems.csv is new and everything else stays as it was.
    """
    _check_separate_folder(study, folder)
    own, *external = _scan_data_sets(study, folder, resources)
    cohort = own.selection.cohort
    if not cohort.subjects:
        raise MgmtError(
            f"{study.cohort.root}: nobody of {len(own.persons)} found is left for the study. "
            f"{_most_common_reason(cohort)}Look at cohort.modalities and cohort.rules."
        )
    _show_crosswalk([own, *external])
    others = _without_own_persons(external, own) if external else {}
    write_study(study, folder.study_file)
    write_cohort(cohort, folder.root)
    for name, members in others.items():
        write_cohort(members, folder.external(name).root)
    planted = study.cohort.root / "planted.json"
    if planted.is_file():
        write_text(folder.root / "planted.json", planted.read_text(encoding="utf-8"))
    else:
        (folder.root / "planted.json").unlink(missing_ok=True)
    return StudyCohorts(cohort, others)


def _check_separate_folder(study: StudyConfig, folder: StudyFolder) -> None:
    source = study.mask_source
    if source and source.study.resolve() == folder.root.resolve():
        raise MgmtError(
            f"mask_source.study: {source.study} is this study's own --out, so that study would be "
            "written over. Name another folder with --out."
        )


def _scan_data_sets(
    study: StudyConfig, folder: StudyFolder, resources: Resources
) -> list[ScannedCohort]:
    """The study's own data set and the external ones, with the masks that had to be predicted."""
    # networks of kind slices need no masks: their own segmentations find the tumour
    source = study.mask_source if study.takes_volumes else None
    segmentations = load_segmentations(source, study.modalities) if source else None
    configs = {
        name: _restrict_modalities(name, config, study) for name, config in study.external.items()
    }
    found = [
        list_subjects(name, config, study, folder.external(name) if name else folder, resources)
        for name, config in ({"": study.cohort} | configs).items()
    ]
    _check_unresolved(found, folder)
    if segmentations:
        found = predict_masks(found, study, segmentations, resources)
        _check_unresolved(found, folder)
    for one in found:
        covered = len(one.selection.findings) - len(one.selection.unresolved)
        if covered:
            log(f"{covered} problems that the study covers are in {one.folder.problems}")
    return found


def show_cohorts(study: StudyConfig, selected: StudyCohorts) -> None:
    """Print the flow of numbers."""
    _show(f"data: {study.cohort.root}", selected.cohort, study.modalities)
    for name, cohort in selected.external.items():
        config = study.external[name]
        wanted = _restrict_modalities(name, config, study).modalities
        _show(f"external {name}: {config.root}", cohort, wanted)


def _show(heading: str, cohort: Cohort, modalities: tuple[str, ...]) -> None:
    log(heading)
    lines = exclusion_flow(cohort, modalities)
    width = max(len(what) for what, _ in lines)
    for what, number in lines:
        log(f"{what:<{width}}  {number:>5}")


def _show_crosswalk(cohorts: list[ScannedCohort]) -> None:
    """Say how many people the crosswalks name; one that names nobody is the wrong file."""
    people = [known for found in cohorts for known in found.persons]
    rows = [row for found in cohorts for row in found.crosswalk]
    if rows:
        number = count_matches(people, rows)
        log(f"crosswalk: {len(rows)} rows name {number} of the {len(people)} found")
        if not number:
            raise MgmtError(
                "cohort.crosswalk: no cell names anybody here. Give the right file, a CSV with the "
                "ids of one person in each row."
            )


def _identify_persons(cohorts: list[ScannedCohort]) -> Mapping[SubjectKey, str]:
    """Who is the same human being, in whatever cohort: by all crosswalks, and by equal voxels."""
    people = [known for found in cohorts for known in found.persons]
    rows = [row for found in cohorts for row in found.crosswalk]
    return find_persons(people, rows, shared_voxel_pairs(cohorts))


def _restrict_modalities(name: str, config: CohortConfig, study: StudyConfig) -> CohortConfig:
    """An external cohort of the study's modalities only."""
    wanted = tuple(m for m in config.modalities if m in study.modalities)
    if not wanted:
        raise MgmtError(
            f"external.{name}: has none of the study's modalities "
            f"({', '.join(study.modalities)}). Name others, or leave the cohort away."
        )
    return config.model_copy(update={"modalities": wanted})


def _without_own_persons(external: list[ScannedCohort], own: ScannedCohort) -> dict[str, Cohort]:
    """The external cohorts by name, each without the persons of the study's own cohort."""
    person = _identify_persons([own, *external])
    _log_shared_persons(external, person)
    cohort = own.selection.cohort
    return {
        found.name: exclude_persons(found.selection.cohort, cohort, person, found.name)
        for found in external
    }


def _log_shared_persons(external: list[ScannedCohort], person: Mapping[SubjectKey, str]) -> None:
    """Tell of persons in two external cohorts: their results confirm each other less."""
    for one, other in combinations(external, 2):
        first, second = (
            {person[found.name, s.id] for s in found.selection.cohort.subjects}
            for found in (one, other)
        )
        if first & second:
            log(
                f"external {one.name} and {other.name} share {len(first & second)} persons: they "
                "are no two confirmations"
            )


def _most_common_reason(cohort: Cohort) -> str:
    reasons = Counter(e.reason for e in cohort.exclusions if e.scope == "cohort")
    return "".join(f"{number}: {reason}. " for reason, number in reasons.most_common(1))


def _check_unresolved(cohorts: list[ScannedCohort], folder: StudyFolder) -> None:
    for found in cohorts:
        write_findings(found.selection.findings, found.folder.problems)
    problems = [(found.name, p) for found in cohorts for p in found.selection.unresolved]
    if not problems:
        return
    kinds = sorted({problem.kind for _, problem in problems})
    tables = [(folder.external(name) if name else folder).problems for name, _ in problems]
    lines = [f"{name}: {problem}" if name else str(problem) for name, problem in problems]
    where = ", ".join(map(str, dict.fromkeys(tables)))
    raise MgmtError(
        "\n".join(
            [
                f"{len(problems)} problems that the study does not cover (also in {where}):",
                *lines,
                "Mend the files or tables, name subjects in cohort.exclude, or say in cohort.rules "
                f"what to do about {', '.join(kinds)} (for instance `{kinds[0]}: exclude_subject`)"
                "; for an external cohort in its own section.",
            ]
        )
    )
