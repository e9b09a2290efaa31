"""What a study's files look like and what was wrong with them, for the command and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.subject import Subject, by_group
from mgmt_ray.figures.contact import Seen, contact_sheet
from mgmt_ray.figures.intensities import find_outliers, intensity_figure
from mgmt_ray.figures.style import LABEL_NAMES, save_compact_figure, save_figure
from mgmt_ray.figures.versions import Varied, versions_figure
from mgmt_ray.preprocess.index import array_path, read_index
from mgmt_ray.preprocess.inspection import Inspection, read_inspection
from mgmt_ray.preprocess.recipe import RecipeConfig, versions
from mgmt_ray.preprocess.store import VolumeStore
from mgmt_ray.preprocess.volumes import make_versions
from mgmt_ray.report.problems import Problems, read_problems
from mgmt_ray.report.tables import Table
from mgmt_ray.study.folder import StudyFolder

NUM_EXAMPLES = 3
"""Subjects whose augmentations are shown."""


@dataclass(frozen=True, slots=True)
class CohortFigure:
    """A figure of the cohort's scans.

    Attributes:
        path: of the PNG.
        caption: printed below it.
        alt: what it shows, for readers who do not see it.
        is_sheet: with many small pictures, not to be shown smaller.
    """

    path: Path
    caption: str
    alt: str
    is_sheet: bool = False


@dataclass(frozen=True, slots=True)
class Scans:
    """What the report tells of the files that were read.

    Attributes:
        problems: with them.
        looks: in a sentence what can be looked at, or why nothing can.
        unusual: scans of another scale than most; None where there are none.
        figures: to be looked at.
    """

    problems: Problems
    looks: str
    unusual: Table | None
    figures: tuple[CohortFigure, ...]


def write_cohort_figures(
    out: Path, cohort: Cohort, recipe: RecipeConfig, modalities: Sequence[str]
) -> list[Path]:
    """Draw what the inspections saw, and the augmentations of a few subjects.

    Args:
        out: the study's folder, with the inspections of its subjects; gets ``figures/cohort_*``.
        cohort: the study's.
        recipe: by which volumes are made where the store does not have them.
        modalities: of the study.

    Raises:
        MgmtError: a file cannot be written, or a scan cannot be read any more.
    """
    seen = seen_scans(out, cohort, modalities)
    figures = [*_looks(out, seen), *_versions(out, cohort, modalities, recipe)]
    return [figure.path for figure in figures]


def read_scans(out: Path, cohort: Cohort, modalities: Sequence[str]) -> Scans:
    """Read problems and inspections of a study, and draw its figures anew.

    Versions are shown from the prepared volumes alone: no scan is read.

    Args:
        out: the study's folder.
        cohort: the study's.
        modalities: of the study.

    Raises:
        MgmtError: problems.csv is not one, or prepared volumes are damaged.
    """
    problems = read_problems(StudyFolder(out).problems)
    seen = seen_scans(out, cohort, modalities)
    figures = (*_looks(out, seen), *_versions(out, cohort, modalities, None))
    if seen:
        looks = "Every scan was read whole; this is what they look like."
    else:
        looks = "What the scans look like was not kept. `mgmt-ray cohort STUDY` looks at them."
    return Scans(problems, looks, _unusual(seen), figures)


def seen_scans(out: Path, cohort: Cohort, modalities: Sequence[str]) -> dict[str, list[Seen]]:
    """By modality the scans of all subjects that were found, also of those that are left out.

    Inspections of subjects whom the study does not know (any more) are not read.
    """
    folder = StudyFolder(out).inspections
    labels: dict[str, int | None] = {e.subject: None for e in cohort.exclusions}
    labels |= {subject.id: subject.label for subject in cohort.subjects}
    read = (read_inspection(folder, name) for name in sorted(labels))
    inspections = [inspection for inspection in read if inspection]
    seen = {
        modality: [
            found
            for i in inspections
            if (found := _seen(i, modality, labels[i.subject])) is not None
        ]
        for modality in modalities
    }
    return {modality: scans for modality, scans in seen.items() if scans}


def _seen(inspection: Inspection, modality: str, label: int | None) -> Seen | None:
    """None where the subject does not have that modality."""
    for view in inspection.views:
        if view.modality == modality:
            return Seen(inspection.subject, label, view)
    own = [p.kind for p in inspection.problems if p.modality == modality]
    if modality in inspection.hashes:
        own += [p.kind for p in inspection.problems if not p.modality]
    return Seen(inspection.subject, label, None, own[0].replace("_", " ")) if own else None


def _looks(out: Path, seen: Mapping[str, Sequence[Seen]]) -> list[CohortFigure]:
    if not seen:
        return []
    path = out / "figures" / "cohort_intensities.png"
    save_compact_figure(intensity_figure(seen), path)
    outliers = [o for modality, scans in seen.items() for o in find_outliers(modality, scans)]
    sound = {m: sum(s.view is not None for s in scans) for m, scans in seen.items()}
    numbers = ", ".join(f"{modality} {number}" for modality, number in sound.items())
    named = ", ".join(f"{o.subject} {o.modality}" for o in outliers)
    figures = [
        CohortFigure(
            path,
            "Values in the tumour: a thin line per subject, and the mean of each label. Means and "
            "axes are those of the scans that are not named as unusual.",
            f"Histograms of tumour values by modality (subjects: {numbers}). "
            f"Unusual: {named or 'none'}.",
        )
    ]
    for modality, scans in seen.items():
        path = out / "figures" / f"cohort_contact_{modality}.png"
        save_compact_figure(contact_sheet(modality, scans), path)
        faults = [f"{seen.subject} ({seen.fault})" for seen in scans if seen.view is None]
        figures.append(
            CohortFigure(
                path,
                f"{modality}: each subject's axial slice with the most tumour, which is outlined. "
                "The patient's left is on the right.",
                f"Contact sheet of {len(scans)} {modality} scans with outlined tumours. "
                f"Without a picture: {', '.join(faults) or 'none'}.",
                is_sheet=True,
            )
        )
    return figures


def _unusual(seen: Mapping[str, Sequence[Seen]]) -> Table | None:
    outliers = [o for modality, scans in seen.items() for o in find_outliers(modality, scans)]
    if not outliers:
        return None
    rows = tuple(
        (
            o.subject,
            o.modality,
            *(_number(n) for n in (o.median, o.usual, o.spread, o.usual_spread)),
        )
        for o in outliers
    )
    header = ("Subject", "Modality", "Median", "usual", "Quartiles' distance", "usual")
    return Table("Scans whose tumour values are unlike the others'", header, rows)


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def _versions(
    out: Path, cohort: Cohort, modalities: Sequence[str], recipe: RecipeConfig | None
) -> list[CohortFigure]:
    figures = []
    for modality in (members[0] for members in by_group(modalities).values()):
        subjects = examples([s for s in cohort.subjects if modality in s.scans])
        rows = _varied(out, subjects, modality, recipe)
        if not rows:
            continue
        path = out / "figures" / f"cohort_versions_{modality}.png"
        save_figure(versions_figure(modality, rows), path)
        names = ", ".join(rows[0].names)
        who = ", ".join(f"{row.subject} ({LABEL_NAMES[row.label]})" for row in rows)
        figures.append(
            CohortFigure(
                path,
                f"{modality}: one axial slice of each version of the volumes that networks see. "
                "A value outside [0, 1] would be red.",
                f"Versions {names} of the {modality} volumes of {who}.",
            )
        )
    return figures


def examples(subjects: Sequence[Subject]) -> list[Subject]:
    """A few subjects spread over the ids, of both labels where there are both."""
    others = [s for s in subjects if s.label == 0]
    methylated = [s for s in subjects if s.label == 1]
    middle = methylated[len(methylated) // 2 :]
    ranked = [*others[:1], *middle[:1], *others[-1:], *subjects]
    chosen = {subject.id: subject for subject in ranked}
    return sorted(list(chosen.values())[:NUM_EXAMPLES], key=lambda subject: subject.id)


def _varied(
    out: Path, subjects: Sequence[Subject], modality: str, recipe: RecipeConfig | None
) -> list[Varied]:
    """From the store if it has them by this recipe (None: by any), else made; nothing else."""
    folder = StudyFolder(out).volumes
    index = read_index(folder, modality) if array_path(folder, modality).exists() else None
    rows = []
    if index and (recipe is None or index.recipe == recipe.model_dump(mode="json")):
        store = VolumeStore(folder, modality)
        names = _first_round(store.versions)
        for subject in subjects:
            if subject.id in store.ids:
                volumes = store.load([subject.id], names)[0]
                drawn = [store.parameters(subject.id, name) for name in names]
                rows.append(Varied(subject.id, subject.label, names, volumes, drawn))
    if len(rows) == len(subjects) or recipe is None:
        return rows
    names = _first_round(versions(recipe))
    return [
        Varied(subject.id, subject.label, names, *make_versions(subject, modality, recipe, names))
        for subject in subjects
    ]


def _first_round(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if "-" not in name)
