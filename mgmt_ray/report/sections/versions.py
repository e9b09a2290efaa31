"""What networks see of a few subjects: their volumes and the augmentations of these."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.subject import Subject, by_group
from mgmt_ray.figures.augmentation_grid import Varied, versions_figure
from mgmt_ray.figures.save import save_figure
from mgmt_ray.figures.style import LABEL_NAMES, Label
from mgmt_ray.preprocess.recipe import RecipeConfig, versions
from mgmt_ray.preprocess.volume_index import array_path, read_index
from mgmt_ray.preprocess.volume_store import VolumeStore
from mgmt_ray.preprocess.volumes import make_versions
from mgmt_ray.report.picture import Picture
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
    for modality in (members[0] for members in by_group(modalities).values()):
        subjects = examples([s for s in cohort.subjects if modality in s.scans], is_opened)
        rows = _varied(out, subjects, modality, recipe)
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


def label_to_show(subject: Subject, is_opened: bool) -> Label:
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
        is_opened: see :func:`label_to_show`; labels that are not shown have no say here either.
    """
    others = [s for s in subjects if label_to_show(s, is_opened) == 0]
    methylated = [s for s in subjects if label_to_show(s, is_opened) == 1]
    middle = methylated[len(methylated) // 2 :]
    ranked = [*others[:1], *middle[:1], *others[-1:], *subjects]
    chosen = {subject.id: subject for subject in ranked}
    return sorted(list(chosen.values())[:NUM_EXAMPLES], key=lambda subject: subject.id)


def _varied(
    out: Path, subjects: Sequence[Subject], modality: str, recipe: RecipeConfig | None
) -> list[Varied]:
    folder, is_opened = StudyFolder(out).volumes, StudyFolder(out).test_openings.exists()
    labels = {subject.id: label_to_show(subject, is_opened) for subject in subjects}
    index = read_index(folder, modality) if array_path(folder, modality).exists() else None
    rows = []
    if index and (recipe is None or index.recipe == recipe.model_dump(mode="json")):
        store = VolumeStore(folder, modality)
        names = _first_round(store.versions)
        for subject in subjects:
            if subject.id in store.ids:
                volumes = store.load([subject.id], names)[0]
                drawn = [store.parameters(subject.id, name) for name in names]
                rows.append(Varied(subject.id, labels[subject.id], names, volumes, drawn))
    if len(rows) == len(subjects) or recipe is None:
        return rows
    names = _first_round(versions(recipe))
    return [
        Varied(
            subject.id,
            labels[subject.id],
            names,
            *make_versions(subject, modality, recipe, names),
        )
        for subject in subjects
    ]


def _first_round(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if "-" not in name)
