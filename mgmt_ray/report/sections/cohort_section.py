"""What a study's files look like and what was wrong with them, for the command and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.subject import Subject, group_modalities
from mgmt_ray.figures.augmentation_grid import AugmentedSubject, versions_figure
from mgmt_ray.figures.contact_sheet import ScanPreview, contact_sheet
from mgmt_ray.figures.intensity_histogram import find_outliers, intensity_figure
from mgmt_ray.figures.style import (
    LABEL_NAMES,
    LABELS_HIDDEN,
    Label,
    delete_other_figures,
    save_compact_figure,
    save_figure,
)
from mgmt_ray.preprocess.recipe import RecipeConfig, versions
from mgmt_ray.preprocess.scan_inspection import Inspection, read_inspection
from mgmt_ray.preprocess.volume_index import array_path, read_index
from mgmt_ray.preprocess.volume_store import VolumeStore
from mgmt_ray.preprocess.volumes import make_versions
from mgmt_ray.report.html_table import Table
from mgmt_ray.report.section import Picture
from mgmt_ray.report.sections.problem_tables import ProblemTables, faulty_scans, read_problems
from mgmt_ray.study.folder import StudyFolder

NUM_EXAMPLES = 3
"""Subjects whose augmentations are shown."""


def versions_pictures(
    out: Path, cohort: Cohort, modalities: Sequence[str], recipe: RecipeConfig | None
) -> list[Picture]:
    """Draw the versions of a few subjects' volumes, of one modality of each group.

    They come from the volume store if it has them by this recipe (with None: by any), else they are
    made (with None: they are not shown).

    Args:
        out: the study's folder; gets ``figures/cohort_versions_*.png``.
        cohort: the study's.
        modalities: of the study.
        recipe: by which volumes are made where the store does not have them.

    Raises:
        MgmtError: prepared volumes are damaged, or a scan cannot be read any more.
    """
    pictures = []
    is_opened = StudyFolder(out).test_openings.exists()
    for modality in (members[0] for members in group_modalities(modalities).values()):
        subjects = examples([s for s in cohort.subjects if modality in s.scans], is_opened)
        rows = _augmented_subjects(out, subjects, modality, recipe)
        if not rows:
            continue
        path = out / "figures" / f"cohort_versions_{modality}.png"
        save_figure(versions_figure(modality, rows), path)
        names = ", ".join(rows[0].names)
        who = ", ".join(f"{row.subject} ({LABEL_NAMES[row.label]})" for row in rows)
        pictures.append(
            Picture(
                path,
                f"{modality}: one axial slice of each version of the volumes that networks see. "
                "A value outside [0, 1] would be red.",
                f"Versions {names} of the {modality} volumes of {who}.",
            )
        )
    return pictures


def visible_label(subject: Subject, is_opened: bool) -> Label:
    """A subject's label as far as a picture may tell it.

    Args:
        subject: of the study's cohort.
        is_opened: whether the test set was opened. Before that no label is shown, since whoever
            looks may still choose; after it, none that each split fits a cut-off for.
    """
    if not is_opened:
        return "hidden"
    return subject.label if subject.score is None else "fitted"


def examples(subjects: Sequence[Subject], is_opened: bool) -> list[Subject]:
    """A few subjects, in the order of ids; of both labels where both are there to be shown.

    Args:
        subjects: of the study's cohort, in the order of ids.
        is_opened: see :func:`visible_label`; labels that are not shown have no say here either.
    """
    others = [s for s in subjects if visible_label(s, is_opened) == 0]
    methylated = [s for s in subjects if visible_label(s, is_opened) == 1]
    middle = methylated[len(methylated) // 2 :]
    ranked = [*others[:1], *middle[:1], *others[-1:], *subjects]
    chosen = {subject.id: subject for subject in ranked}
    return sorted(list(chosen.values())[:NUM_EXAMPLES], key=lambda subject: subject.id)


def _augmented_subjects(
    out: Path, subjects: Sequence[Subject], modality: str, recipe: RecipeConfig | None
) -> list[AugmentedSubject]:
    folder, is_opened = StudyFolder(out).volumes, StudyFolder(out).test_openings.exists()
    labels = {subject.id: visible_label(subject, is_opened) for subject in subjects}
    index = read_index(folder, modality) if array_path(folder, modality).exists() else None
    rows = []
    if index and (recipe is None or index.recipe == recipe.model_dump(mode="json")):
        store = VolumeStore(folder, modality)
        names = _first_round(store.versions)
        for subject in subjects:
            if subject.id in store.ids:
                volumes = store.load([subject.id], names)[0]
                drawn = [store.parameters(subject.id, name) for name in names]
                rows.append(AugmentedSubject(subject.id, labels[subject.id], names, volumes, drawn))
    if len(rows) == len(subjects) or recipe is None:
        return rows
    names = _first_round(versions(recipe))
    return [
        AugmentedSubject(
            subject.id,
            labels[subject.id],
            names,
            *make_versions(subject, modality, recipe, names),
        )
        for subject in subjects
    ]


def _first_round(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if "-" not in name)


@dataclass(frozen=True, slots=True)
class ScanReport:
    """What the report tells of the files that were read.

    Attributes:
        problems: with them.
        summary: in a sentence what can be looked at, or why nothing can.
        outliers: scans of another scale than most; None where there are none.
        figures: to be looked at.
    """

    problems: ProblemTables
    summary: str
    outliers: Table | None
    figures: tuple[Picture, ...]


def write_cohort_figures(
    out: Path, cohort: Cohort, recipe: RecipeConfig | None, modalities: Sequence[str]
) -> list[Path]:
    """Draw what the inspections saw, and the augmentations of a few subjects.

    Older figures of the cohort, for instance of a modality dropped since, are deleted.

    Args:
        out: the study's folder, with the inspections of its subjects; gets ``figures/cohort_*``.
        cohort: the study's.
        recipe: by which volumes are made where the store does not have them; None where no
            network takes volumes.
        modalities: of the study.

    Raises:
        MgmtError: a file cannot be written, or a scan cannot be read any more.
    """
    seen = preview_scans(out, cohort, modalities)
    return [picture.path for picture in _draw(out, cohort, modalities, seen, recipe)]


def read_scans(out: Path, cohort: Cohort, modalities: Sequence[str]) -> ScanReport:
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
    seen = preview_scans(out, cohort, modalities)
    figures = _draw(out, cohort, modalities, seen, None)
    if seen:
        looks = "Every scan was read whole; this is what they look like."
    else:
        looks = "What the scans look like was not kept. `mgmt-ray cohort STUDY` looks at them."
    return ScanReport(problems, looks, _outlier_table(seen), figures)


def preview_scans(
    out: Path, cohort: Cohort, modalities: Sequence[str]
) -> dict[str, list[ScanPreview]]:
    """By modality the scans of all subjects that were found, also of those that are left out.

    A scan that could not even be looked at is there without a view, as problems.csv tells it.
    Inspections of subjects whom the study does not know (any more) are not read. Before the test
    set was opened no label is told.

    Raises:
        MgmtError: problems.csv is not one.
    """
    folder = StudyFolder(out)
    labels: dict[str, Label] = {e.subject: None for e in cohort.exclusions}
    is_opened = folder.test_openings.exists()
    labels |= {subject.id: visible_label(subject, is_opened) for subject in cohort.subjects}
    faulty = faulty_scans(folder.problems)
    inspections = {name: read_inspection(folder.inspections, name) for name in sorted(labels)}
    if not any(inspections.values()):
        return {}
    seen = {
        modality: [
            found
            for name, inspection in inspections.items()
            if (found := _preview_scan(name, inspection, modality, labels[name], faulty))
            is not None
        ]
        for modality in modalities
    }
    return {modality: scans for modality, scans in seen.items() if scans}


def _draw(
    out: Path,
    cohort: Cohort,
    modalities: Sequence[str],
    seen: Mapping[str, Sequence[ScanPreview]],
    recipe: RecipeConfig | None,
) -> tuple[Picture, ...]:
    pictures = (*_plot_intensities(out, seen), *versions_pictures(out, cohort, modalities, recipe))
    delete_other_figures(out / "figures", "cohort_*.png", {p.path for p in pictures})
    return pictures


def _preview_scan(
    name: str,
    inspection: Inspection | None,
    modality: str,
    label: Label,
    faulty: Mapping[tuple[str, str], str],
) -> ScanPreview | None:
    """None where nothing is known of a scan of that modality."""
    views = [view for view in inspection.views if view.modality == modality] if inspection else []
    if views:
        return ScanPreview(name, label, views[0])
    fault = (_fault(inspection, modality) if inspection else "") or faulty.get((name, modality), "")
    return ScanPreview(name, label, None, fault.replace("_", " ")) if fault else None


def _fault(inspection: Inspection, modality: str) -> str:
    own = [p.kind for p in inspection.problems if p.modality == modality]
    if modality in inspection.hashes:
        own += [p.kind for p in inspection.problems if not p.modality]
    return own[0] if own else ""


def _plot_intensities(out: Path, seen: Mapping[str, Sequence[ScanPreview]]) -> list[Picture]:
    if not seen:
        return []
    path = out / "figures" / "cohort_intensities.png"
    save_compact_figure(intensity_figure(seen), path)
    outliers = [o for modality, scans in seen.items() for o in find_outliers(modality, scans)]
    sound = {m: sum(s.view is not None for s in scans) for m, scans in seen.items()}
    numbers = ", ".join(f"{modality} {number}" for modality, number in sound.items())
    named = ", ".join(f"{o.subject} {o.modality}" for o in outliers)
    is_hidden = any(scan.label == "hidden" for scans in seen.values() for scan in scans)
    means = f"the mean of all ({LABELS_HIDDEN})" if is_hidden else "the mean of each label"
    figures = [
        Picture(
            path,
            f"Values in the tumour: a thin line per subject, and {means}. Means and axes are those "
            "of the scans that are not named as unusual.",
            f"Histograms of tumour values by modality (subjects: {numbers}). "
            f"Unusual: {named or 'none'}.",
        )
    ]
    for modality, scans in seen.items():
        path = out / "figures" / f"cohort_contact_{modality}.png"
        save_compact_figure(contact_sheet(modality, scans), path)
        faults = [f"{seen.subject} ({seen.fault})" for seen in scans if seen.view is None]
        figures.append(
            Picture(
                path,
                f"{modality}: each subject's axial slice with the most tumour, which is outlined. "
                "The patient's left is on the right.",
                f"Contact sheet of {len(scans)} {modality} scans with outlined tumours. "
                f"Without a picture: {', '.join(faults) or 'none'}.",
                is_contact_sheet=True,
            )
        )
    return figures


def _outlier_table(seen: Mapping[str, Sequence[ScanPreview]]) -> Table | None:
    outliers = [o for modality, scans in seen.items() for o in find_outliers(modality, scans)]
    if not outliers:
        return None
    rows = tuple(
        (
            o.subject,
            o.modality,
            *(_number(n) for n in (o.median, o.typical_median, o.spread, o.typical_spread)),
        )
        for o in outliers
    )
    header = ("Subject", "Modality", "Median", "usual", "Quartiles' distance", "usual")
    return Table("unusual_scans", "Scans whose tumour values are unlike the others'", header, rows)


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
