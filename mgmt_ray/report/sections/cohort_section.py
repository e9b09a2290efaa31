"""Pictures of a study's scans and augmentations, and problems with its files.

Both ``mgmt-ray cohort --figures`` and the report draw them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.subject import Subject, group_modalities
from mgmt_ray.figures.augmentation_grid import AugmentedSubject, versions_figure
from mgmt_ray.figures.contact_sheet import ScanPreview, contact_sheet
from mgmt_ray.figures.figure_folder import FigureFolder
from mgmt_ray.figures.intensity_histogram import find_outliers, intensity_figure
from mgmt_ray.figures.style import (
    LABEL_NAMES,
    LABELS_HIDDEN,
    Label,
)
from mgmt_ray.preprocess.artefact_store import read_index
from mgmt_ray.preprocess.recipe import RecipeConfig, versions
from mgmt_ray.preprocess.scan_inspection import Inspection, read_inspection
from mgmt_ray.preprocess.volume_store import VolumeStore
from mgmt_ray.preprocess.volumes import make_versions
from mgmt_ray.report.html_table import Table
from mgmt_ray.report.section import Picture
from mgmt_ray.report.sections.problem_tables import ProblemTables, faulty_scans, read_problems
from mgmt_ray.study.folder import StudyFolder

NUM_EXAMPLES = 3
"""Subjects whose augmentations are shown."""


def versions_pictures(
    out: Path,
    cohort: Cohort,
    modalities: Sequence[str],
    recipe: RecipeConfig | None,
    figures: FigureFolder,
) -> list[Picture]:
    """Draw the versions of a few subjects' volumes, of one modality of each group.

    Args:
        recipe: volumes come from the store if it has them by this recipe, else they are computed.
            With None, any recipe of the store is accepted and nothing is computed.

    Raises:
        MgmtError: prepared volumes are damaged, or a scan is no longer readable.
    """
    pictures = []
    is_opened = StudyFolder(out).test_openings.exists()
    for modality in (members[0] for members in group_modalities(modalities).values()):
        subjects = examples([s for s in cohort.subjects if modality in s.scans], is_opened)
        rows = _augmented_subjects(out, subjects, modality, recipe)
        if not rows:
            continue
        path = figures.save(versions_figure(modality, rows), f"cohort_versions_{modality}")
        names = ", ".join(rows[0].names)
        shown_subjects = ", ".join(f"{row.subject} ({LABEL_NAMES[row.label]})" for row in rows)
        pictures.append(
            Picture(
                path,
                f"{modality}: one axial slice of each version of the volumes that networks see. "
                "A value outside [0, 1] would be red.",
                f"Versions {names} of the {modality} volumes of {shown_subjects}.",
            )
        )
    return pictures


def visible_label(subject: Subject, is_opened: bool) -> Label:
    """Return the label of a subject that a picture may show.

    Args:
        is_opened: whether the test set was accessed. Before that no label is shown, because
            choices are still to be made; afterwards, none that depends on a cut-off of each split.

    >>> subject = Subject("S1", 1, {}, Path("mask.nii.gz"))
    >>> visible_label(subject, is_opened=False), visible_label(subject, is_opened=True)
    ('hidden', 1)
    """
    if not is_opened:
        return "hidden"
    return subject.label if subject.score is None else "fitted"


def examples(subjects: Sequence[Subject], is_opened: bool) -> list[Subject]:
    """Choose up to :data:`NUM_EXAMPLES` subjects, of both labels if labels are visible.

    Args:
        subjects: sorted by id.
        is_opened: see :func:`visible_label`; hidden labels do not influence the choice.

    Returns:
        The chosen subjects, sorted by id.
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
    index = read_index(folder, modality)
    rows = []
    if index and (recipe is None or index["recipe"] == recipe.model_dump(mode="json")):
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
    """What the report shows of the scans.

    Attributes:
        problems: of files and tables.
        summary: a sentence on what the pictures show, or why there are none.
        outliers: scans with intensities on another scale than most; None if there are none.
        figures: intensities, contact sheets and augmentations.
    """

    problems: ProblemTables
    summary: str
    outliers: Table | None
    figures: tuple[Picture, ...]


def write_cohort_figures(
    out: Path, cohort: Cohort, recipe: RecipeConfig | None, modalities: Sequence[str]
) -> list[Path]:
    """Draw the inspected scans and a few subjects' augmentations, and return the figures' paths.

    Older ``figures/cohort_*``, for instance of a modality dropped since, are deleted.

    Args:
        out: the study's folder, with the inspections of its subjects.
        recipe: to compute volumes that the store does not have; None if no network takes volumes.

    Raises:
        MgmtError: a file cannot be written, or a scan is no longer readable.
    """
    previews = preview_scans(out, cohort, modalities)
    figures = FigureFolder(out / "figures")
    return [p.path for p in _draw(out, cohort, modalities, previews, recipe, figures)]


def read_scans(
    out: Path, cohort: Cohort, modalities: Sequence[str], figures: FigureFolder
) -> ScanReport:
    """Read problems and inspections of a study, and redraw the cohort's figures.

    Augmentations are shown from the prepared volumes alone: no scan is read.

    Raises:
        MgmtError: problems.csv has other columns, or prepared volumes are damaged.
    """
    problems = read_problems(StudyFolder(out).problems)
    previews = preview_scans(out, cohort, modalities)
    pictures = _draw(out, cohort, modalities, previews, None, figures)
    if previews:
        sentence = "Every scan was read completely; the figures show previews of them."
    else:
        sentence = "No previews of the scans were kept. `mgmt-ray cohort STUDY` makes them."
    return ScanReport(problems, sentence, _outlier_table(previews), pictures)


def preview_scans(
    out: Path, cohort: Cohort, modalities: Sequence[str]
) -> dict[str, list[ScanPreview]]:
    """Return previews of the scans of all subjects by modality, excluded subjects included.

    A scan that could not be read has no view, only the problem that problems.csv records.
    Inspections of subjects that are no longer in the study are not read. Labels are hidden before
    the test set was accessed.

    Raises:
        MgmtError: problems.csv has other columns.
    """
    folder = StudyFolder(out)
    labels: dict[str, Label] = {e.subject: None for e in cohort.exclusions}
    is_opened = folder.test_openings.exists()
    labels |= {subject.id: visible_label(subject, is_opened) for subject in cohort.subjects}
    faulty = faulty_scans(folder.problems)
    inspections = {name: read_inspection(folder.inspections, name) for name in sorted(labels)}
    if not any(inspections.values()):
        return {}
    previews = {
        modality: [
            preview
            for name, inspection in inspections.items()
            if (preview := _preview_scan(name, inspection, modality, labels[name], faulty))
            is not None
        ]
        for modality in modalities
    }
    return {modality: scans for modality, scans in previews.items() if scans}


def _draw(
    out: Path,
    cohort: Cohort,
    modalities: Sequence[str],
    previews: Mapping[str, Sequence[ScanPreview]],
    recipe: RecipeConfig | None,
    figures: FigureFolder,
) -> tuple[Picture, ...]:
    pictures = (
        *_scan_pictures(previews, figures),
        *versions_pictures(out, cohort, modalities, recipe, figures),
    )
    figures.delete_others("cohort_*.png", {p.path for p in pictures})
    return pictures


def _preview_scan(
    name: str,
    inspection: Inspection | None,
    modality: str,
    label: Label,
    faulty: Mapping[tuple[str, str], str],
) -> ScanPreview | None:
    """Return None if nothing is known of a scan of that modality."""
    views = [view for view in inspection.views if view.modality == modality] if inspection else []
    if views:
        return ScanPreview(name, label, views[0])
    fault = (_fault(inspection, modality) if inspection else "") or faulty.get((name, modality), "")
    return ScanPreview(name, label, None, fault.replace("_", " ")) if fault else None


def _fault(inspection: Inspection, modality: str) -> str:
    kinds = [p.kind for p in inspection.problems if p.modality == modality]
    if modality in inspection.hashes:
        kinds += [p.kind for p in inspection.problems if not p.modality]
    return kinds[0] if kinds else ""


def _scan_pictures(
    previews: Mapping[str, Sequence[ScanPreview]], figures: FigureFolder
) -> list[Picture]:
    if not previews:
        return []
    path = figures.save(intensity_figure(previews), "cohort_intensities", compact=True)
    outliers = [o for modality, scans in previews.items() for o in find_outliers(modality, scans)]
    num_shown = {m: sum(s.view is not None for s in scans) for m, scans in previews.items()}
    numbers = ", ".join(f"{modality} {number}" for modality, number in num_shown.items())
    unusual = ", ".join(f"{o.subject} {o.modality}" for o in outliers)
    is_hidden = any(scan.label == "hidden" for scans in previews.values() for scan in scans)
    means = f"the mean of all ({LABELS_HIDDEN})" if is_hidden else "the mean of each label"
    pictures = [
        Picture(
            path,
            f"Intensities in the tumour: a thin line per subject, and {means}. Means and axes are "
            "those of the scans that are not listed as unusual.",
            f"Histograms of tumour intensities by modality (subjects: {numbers}). "
            f"Unusual: {unusual or 'none'}.",
        )
    ]
    for modality, scans in previews.items():
        sheet = contact_sheet(modality, scans)
        path = figures.save(sheet, f"cohort_contact_{modality}", compact=True)
        faults = [f"{scan.subject} ({scan.fault})" for scan in scans if scan.view is None]
        pictures.append(
            Picture(
                path,
                f"{modality}: each subject's axial slice with the most tumour, which is outlined. "
                "The patient's left is on the right.",
                f"Contact sheet of {len(scans)} {modality} scans with outlined tumours. "
                f"Without a picture: {', '.join(faults) or 'none'}.",
                is_contact_sheet=True,
            )
        )
    return pictures


def _outlier_table(previews: Mapping[str, Sequence[ScanPreview]]) -> Table | None:
    outliers = [o for modality, scans in previews.items() for o in find_outliers(modality, scans)]
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
    header = ("Subject", "Modality", "Median", "usual", "Interquartile range", "usual")
    return Table("unusual_scans", "Scans with unusual intensities in the tumour", header, rows)


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
