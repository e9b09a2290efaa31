"""Select the subjects of a study and of its external cohorts; every file is checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from mgmt_ray.base import MgmtError, quantity, write_text
from mgmt_ray.cluster.progress import log
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.cohort import Cohort, exclusion_flow, write_cohort
from mgmt_ray.cohort.csv_rows import group_alike
from mgmt_ray.cohort.datasets import CohortConfig
from mgmt_ray.cohort.inclusion import exclude_persons, write_findings
from mgmt_ray.cohort.persons import Crosswalk, PersonRef, SubjectKey, count_matches, find_persons
from mgmt_ray.data.scanned_cohort import (
    ScannedCohort,
    list_subjects,
    shared_voxel_pairs,
    smallest_recipe,
)
from mgmt_ray.masks.predicted_masks import predict_masks
from mgmt_ray.masks.segmentation_study import load_segmentations
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.study_config import StudyConfig, write_study
from mgmt_ray.trials.context import StudyContext


@dataclass(frozen=True, slots=True)
class StudyCohorts:
    """The cohorts of a study."""

    cohort: Cohort
    external: Mapping[str, Cohort]


def select(context: StudyContext) -> StudyCohorts:
    """Read the data sets, check every file, predict masks, write and print subjects and exclusions.

    Writes cohort.csv, exclusions.csv, problems.csv and predicted masks into the study's folder, and
    those of external cohorts below it.

    Raises:
        MgmtError: lists all problems that the study's rules do not cover, those that are alike in
            one line. Then problems.csv is new and all other files are unchanged.
    """
    study, folder = context.study, context.folder
    _check_separate_folder(study, folder)
    main_scan, *external_scans = _scan_data_sets(study, folder, context.resources)
    cohort = main_scan.selection.cohort
    if not cohort.subjects:
        raise MgmtError(
            f"{study.cohort.root}: none of {len(main_scan.persons)} subjects is left for the "
            f"study. {_most_common_reason(cohort)}Check cohort.modalities and cohort.rules."
        )
    _check_crosswalk([main_scan, *external_scans])
    external = _without_own_persons(external_scans, main_scan) if external_scans else {}
    write_study(study, folder.study_file)
    write_cohort(cohort, folder.root)
    for name, external_cohort in external.items():
        write_cohort(external_cohort, folder.external(name).root)
    planted = study.cohort.root / "planted.json"
    if planted.is_file():
        write_text(folder.root / "planted.json", planted.read_text(encoding="utf-8"))
    else:
        (folder.root / "planted.json").unlink(missing_ok=True)
    _show(f"data: {study.cohort.root}", cohort, study.modalities)
    if smallest := _smallest_recipe([main_scan, *external_scans], study):
        log(smallest)
    for name, external_cohort in external.items():
        config = _restrict_modalities(name, study.external[name], study)
        _show(f"external {name}: {config.root}", external_cohort, config.modalities)
    return StudyCohorts(cohort, external)


def _check_separate_folder(study: StudyConfig, folder: StudyFolder) -> None:
    source = study.mask_source
    if source and source.study.resolve() == folder.root.resolve():
        raise MgmtError(
            f"mask_source.study: {source.study} is this study's own --out, so that study would be "
            "overwritten. Use another folder with --out."
        )


def _scan_data_sets(
    study: StudyConfig, folder: StudyFolder, resources: Resources
) -> list[ScannedCohort]:
    """Scan the study's own data set and the external ones, and predict missing masks."""
    source = study.mask_source
    segmentations = load_segmentations(source, study.modalities) if source else None
    configs = {
        name: _restrict_modalities(name, config, study) for name, config in study.external.items()
    }
    cohorts = [
        list_subjects(name, config, study, folder.external(name) if name else folder, resources)
        for name, config in ({"": study.cohort} | configs).items()
    ]
    _check_unresolved(cohorts, study, folder)
    if segmentations:
        cohorts = predict_masks(cohorts, study, segmentations, resources)
        _check_unresolved(cohorts, study, folder)
    for cohort in cohorts:
        num_covered = len(cohort.selection.findings) - len(cohort.selection.unresolved)
        if num_covered:
            covered = quantity(num_covered, "problem")
            log(f"{covered} covered by the study: see {cohort.folder.problems}")
    return cohorts


def _show(heading: str, cohort: Cohort, modalities: tuple[str, ...]) -> None:
    """Print the number of subjects after each exclusion."""
    log(heading)
    lines = exclusion_flow(cohort, modalities)
    width = max(len(label) for label, _ in lines)
    for label, number in lines:
        log(f"{label:<{width}}  {number:>5}")


def _check_crosswalk(cohorts: list[ScannedCohort]) -> None:
    """Log how many persons the crosswalks name; raise MgmtError if they name none."""
    persons, rows = _persons_and_rows(cohorts)
    if rows:
        number = count_matches(persons, rows)
        log(f"crosswalk: {len(rows)} rows name {number} of {len(persons)} subjects")
        if not number:
            raise MgmtError(
                "cohort.crosswalk: no cell is the id of a subject here. Use the right file, a CSV "
                "with the ids of one person in each row."
            )


def _persons_and_rows(cohorts: list[ScannedCohort]) -> tuple[list[PersonRef], Crosswalk]:
    """Return the persons of all cohorts, and the rows of their crosswalks."""
    persons = [person for cohort in cohorts for person in cohort.persons]
    return persons, tuple(row for cohort in cohorts for row in cohort.crosswalk)


def _restrict_modalities(name: str, config: CohortConfig, study: StudyConfig) -> CohortConfig:
    """Restrict an external cohort to the study's modalities."""
    modalities = tuple(m for m in config.modalities if m in study.modalities)
    if not modalities:
        raise MgmtError(
            f"external.{name}: has none of the study's modalities "
            f"({', '.join(study.modalities)}). List others, or omit the cohort."
        )
    return config.model_copy(update={"modalities": modalities})


def _without_own_persons(external: list[ScannedCohort], own: ScannedCohort) -> dict[str, Cohort]:
    """Return the external cohorts by name, without the persons of the study's own cohort."""
    cohorts = [own, *external]
    person = find_persons(*_persons_and_rows(cohorts), shared_voxel_pairs(cohorts))
    _log_shared_persons(external, person)
    return {
        cohort.name: exclude_persons(
            cohort.selection.cohort, own.selection.cohort, person, cohort.name
        )
        for cohort in external
    }


def _log_shared_persons(external: list[ScannedCohort], person: Mapping[SubjectKey, str]) -> None:
    """Log how many persons two external cohorts share, since their results are not independent."""
    for pair in combinations(external, 2):
        first, second = (
            {person[cohort.name, s.id] for s in cohort.selection.cohort.subjects} for cohort in pair
        )
        if first & second:
            log(
                f"external {pair[0].name} and {pair[1].name} share {len(first & second)} persons: "
                "their results are not independent"
            )


def _most_common_reason(cohort: Cohort) -> str:
    reasons = Counter(e.reason for e in cohort.exclusions if e.scope == "cohort")
    return "".join(f"{number}: {reason}. " for reason, number in reasons.most_common(1))


def _smallest_recipe(cohorts: list[ScannedCohort], study: StudyConfig) -> str:
    """Say which window and shape hold all tumours of the selected subjects, if any is needed."""
    if study.volume_recipe is None:
        return ""
    selected = [
        cohort.inspections[subject.id]
        for cohort in cohorts
        for subject in cohort.selection.cohort.subjects
        if subject.id in cohort.inspections
    ]
    yaml = smallest_recipe(selected, study.recipe.shrink)
    return f"The smallest window and shape that hold all tumours: {yaml}" if yaml else ""


def _check_unresolved(
    cohorts: list[ScannedCohort], study: StudyConfig, folder: StudyFolder
) -> None:
    """Write problems.csv of each cohort; raise MgmtError with all problems without a rule."""
    for cohort in cohorts:
        write_findings(cohort.selection.findings, cohort.folder.problems)
    problems = [(cohort.name, p) for cohort in cohorts for p in cohort.selection.unresolved]
    if not problems:
        return
    kinds = sorted({problem.kind for _, problem in problems})
    tables = [(folder.external(name) if name else folder).problems for name, _ in problems]
    lines = group_alike(
        (problem.subject, f"{name}: {problem}" if name else str(problem), f"{name} {problem.fault}")
        for name, problem in problems
    )
    paths = ", ".join(map(str, dict.fromkeys(tables)))
    clipped = {"clipped", "small_scan"} & {*kinds}
    smallest = _smallest_recipe(cohorts, study) if clipped else ""
    raise MgmtError(
        "\n".join(
            [
                f"{quantity(len(problems), 'problem')} not covered by the study (also in {paths}):",
                *lines,
                "Fix the files or tables, list subjects in cohort.exclude, or add rules for "
                f"{', '.join(kinds)} to cohort.rules (for instance `{kinds[0]}: exclude_subject`); "
                "for an external cohort, in its own section.",
                *([smallest] if smallest else []),
            ]
        )
    )
