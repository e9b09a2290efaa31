"""Selecting a study's subjects, and those of its external cohorts: every file is looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from mgmt_ray.base import MgmtError, write_text
from mgmt_ray.cohort.cohort import Cohort, flow, write_cohort
from mgmt_ray.cohort.persons import by_voxels
from mgmt_ray.cohort.problem import Problem
from mgmt_ray.cohort.read import CohortConfig, read
from mgmt_ray.cohort.select import Selection, leave_out_persons, select, write_findings
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.orchestration.inspect import inspect_cohort
from mgmt_ray.orchestration.placement import Placement
from mgmt_ray.orchestration.progress import say, stage
from mgmt_ray.preprocess.inspection import Inspection
from mgmt_ray.study.config import StudyConfig, write_study
from mgmt_ray.study.folder import StudyFolder

Hashes: TypeAlias = Mapping[str, Mapping[str, str]]
"""Of the voxels, by subject and modality."""


@dataclass(frozen=True, slots=True)
class _Found:
    """One data set: who was selected, and all subjects with their voxels' hashes."""

    selection: Selection
    subjects: tuple[Subject, ...]
    hashes: Hashes


@dataclass(frozen=True, slots=True)
class Selected:
    """The subjects of a study.

    Attributes:
        cohort: to train, validate and test on.
        external: by name, to be predicted only.
    """

    cohort: Cohort
    external: Mapping[str, Cohort]


def select_cohorts(study: StudyConfig, folder: StudyFolder, placement: Placement) -> Selected:
    """Read the data sets, look at every file, and write who is in and who is out.

    Args:
        study: its cohort and external cohorts.
        folder: gets cohort.csv, exclusions.csv and problems.csv; the external ones' go below it.
        placement: with launcher "ray", Ray must be connected.

    Raises:
        MgmtError: something is wrong that the study does not cover; all of it, a line each. Then
            problems.csv is new and everything else stays as it was.
    """
    own = _select(study.cohort, study, folder, placement, "check files")
    externals = {
        name: _select(
            _fitted(name, config, study), study, folder.external(name), placement, f"check {name}"
        )
        for name, config in study.external.items()
    }
    _refuse_uncovered([own.selection, *(found.selection for found in externals.values())], folder)
    cohort = own.selection.cohort
    external = {
        name: leave_out_persons(
            found.selection.cohort,
            cohort,
            (*own.subjects, *found.subjects),
            [p for p in (study.cohort.crosswalk, study.external[name].crosswalk) if p],
            _twins(cohort, own.hashes, found.hashes),
        )
        for name, found in externals.items()
    }
    write_study(study, folder.study_file)
    write_cohort(cohort, folder.root)
    for name, members in external.items():
        write_cohort(members, folder.external(name).root)
    planted = study.cohort.root / "planted.json"
    if planted.is_file():
        write_text(folder.root / "planted.json", planted.read_text(encoding="utf-8"))
    else:
        (folder.root / "planted.json").unlink(missing_ok=True)
    return Selected(cohort, external)


def show_cohorts(study: StudyConfig, selected: Selected) -> None:
    """Print the flow of numbers."""
    _show(f"data: {study.cohort.root}", selected.cohort, study.modalities)
    for name, cohort in selected.external.items():
        config = study.external[name]
        wanted = _fitted(name, config, study).modalities
        _show(f"external {name}: {config.root}", cohort, wanted)


def _show(heading: str, cohort: Cohort, modalities: tuple[str, ...]) -> None:
    say(heading)
    lines = flow(cohort, modalities)
    width = max(len(what) for what, _ in lines)
    for what, number in lines:
        say(f"{what:<{width}}  {number:>5}")


def _select(
    config: CohortConfig, study: StudyConfig, folder: StudyFolder, placement: Placement, name: str
) -> _Found:
    reading = read(config)
    subjects = [s for s in reading.subjects if s.id not in config.exclude]
    with stage(name) as step:
        found = inspect_cohort(
            subjects, study.recipe, config.mask_labels, folder.inspections, placement, step
        )
    hashes = {name: inspection.hashes for name, inspection in found.items()}
    selection = select(reading, config, _problems(found), hashes)
    write_findings(selection.findings, folder.problems)
    covered = len(selection.findings) - len(selection.uncovered)
    if covered:
        say(f"{name}: {covered} problems that the study covers are in {folder.problems}")
    return _Found(selection, reading.subjects, hashes)


def _problems(inspections: Mapping[str, Inspection]) -> list[Problem]:
    return [problem for found in inspections.values() for problem in found.problems]


def _fitted(name: str, config: CohortConfig, study: StudyConfig) -> CohortConfig:
    """An external cohort of the study's modalities only."""
    wanted = tuple(m for m in config.modalities if m in study.modalities)
    if not wanted:
        raise MgmtError(
            f"external.{name}: has none of the study's modalities "
            f"({', '.join(study.modalities)}). Name others, or leave the cohort away."
        )
    return config.model_copy(update={"modalities": wanted})


def _twins(cohort: Cohort, own: Hashes, of_external: Hashes) -> set[str]:
    """External ids whose voxels a subject of the study has too."""
    here = {s.id for s in cohort.subjects}
    together = {f"0 {name}": hashes for name, hashes in own.items() if name in here}
    together |= {f"1 {name}": hashes for name, hashes in of_external.items()}
    return {
        second.removeprefix("1 ")
        for first, second, _ in by_voxels(together)
        if first.startswith("0 ") and second.startswith("1 ")
    }


def _refuse_uncovered(selections: list[Selection], folder: StudyFolder) -> None:
    problems = [problem for found in selections for problem in found.uncovered]
    if not problems:
        return
    kinds = sorted({problem.kind for problem in problems})
    lines = "\n".join(map(str, problems))
    raise MgmtError(
        f"{len(problems)} problems that the study does not cover (also in {folder.problems}):\n"
        f"{lines}\n"
        "Mend the files or tables, name subjects in cohort.exclude, or say in cohort.rules what to "
        f"do about {', '.join(kinds)} (for instance `{kinds[0]}: exclude_subject`)."
    )
