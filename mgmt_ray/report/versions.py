"""What networks see of a few subjects: their volumes and the augmentations of these."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.subject import Subject, by_group
from mgmt_ray.figures.save import save_figure
from mgmt_ray.figures.style import LABEL_NAMES, Label
from mgmt_ray.figures.versions import Varied, versions_figure
from mgmt_ray.preprocess.index import array_path, read_index
from mgmt_ray.preprocess.recipe import RecipeConfig, versions
from mgmt_ray.preprocess.store import VolumeStore
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
    for modality in (members[0] for members in by_group(modalities).values()):
        subjects = examples([s for s in cohort.subjects if modality in s.scans])
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


def label_before_splits(subject: Subject) -> Label:
    """A subject's label, or that it is not known before each split has fitted a cut-off."""
    return subject.label if subject.score is None else "fitted"


def examples(subjects: Sequence[Subject]) -> list[Subject]:
    """A few subjects spread over the ids, of both labels where there are both."""
    others = [s for s in subjects if label_before_splits(s) == 0]
    methylated = [s for s in subjects if label_before_splits(s) == 1]
    middle = methylated[len(methylated) // 2 :]
    ranked = [*others[:1], *middle[:1], *others[-1:], *subjects]
    chosen = {subject.id: subject for subject in ranked}
    return sorted(list(chosen.values())[:NUM_EXAMPLES], key=lambda subject: subject.id)


def _varied(
    out: Path, subjects: Sequence[Subject], modality: str, recipe: RecipeConfig | None
) -> list[Varied]:
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
                rows.append(Varied(subject.id, label_before_splits(subject), names, volumes, drawn))
    if len(rows) == len(subjects) or recipe is None:
        return rows
    names = _first_round(versions(recipe))
    return [
        Varied(
            subject.id,
            label_before_splits(subject),
            names,
            *make_versions(subject, modality, recipe, names),
        )
        for subject in subjects
    ]


def _first_round(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if "-" not in name)
