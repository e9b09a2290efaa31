"""Inspection of a subject's files: problems, hashes of the voxels, and previews."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Shaped

from mgmt_ray.base import MgmtError, fingerprint, quantity
from mgmt_ray.cohort.problem import VIEW_SCAN, BadScan, Problem, faults_of
from mgmt_ray.cohort.scan import (
    Scan,
    check_grid,
    check_mask,
    check_values,
    mask_hash,
    read_mask,
    read_scan,
    voxel_hash,
)
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.preprocess.artefact_store import Artefact, ArtefactPart, file_state, read_index
from mgmt_ray.preprocess.axial_slices import SliceSource, slices_from_scans
from mgmt_ray.preprocess.recipe import RecipeConfig, SliceRecipe
from mgmt_ray.preprocess.scan_preview import View, view_scan
from mgmt_ray.preprocess.spatial import (
    Window,
    bounding_box,
    check_window,
    count_outside,
    resample,
    whole_window,
)

PARTS = ("given", "predicted", "unmasked")
"""Parts of a store of inspections: by the kind of the subjects' masks."""

AnyRecipe: TypeAlias = RecipeConfig | SliceRecipe
"""The recipe of volumes, or of slices in a study without volumes."""


@dataclass(frozen=True, slots=True, eq=False)
class Inspection:
    """The result of inspecting a subject's files.

    Attributes:
        subject: the subject's id.
        problems: of all files.
        hashes: hash of each readable scan's voxels, by modality (see ``scan.voxel_hash``).
        views: previews of the scans without a problem.
        mask_hash: hash of the mask (see ``scan.mask_hash``); empty if the mask has a problem.
        labels: that the mask has, apart from 0; empty if it cannot be read.
        mask_shape: depth, height, width of the mask, and
        tumour_box: of the tumour in it; both None if it cannot be read or marks none.
    """

    subject: str
    problems: tuple[Problem, ...]
    hashes: dict[str, str]
    views: tuple[View, ...]
    mask_hash: str = ""
    labels: tuple[int, ...] = ()
    mask_shape: tuple[int, int, int] | None = None
    tumour_box: Window | None = None


def is_final(description: Mapping[str, Any]) -> bool:
    """Whether an inspection is valid while the files are unchanged; a failed read may succeed."""
    return not any(p["kind"] in ("unreadable", "no_file") for p in description["problems"])


def inspection_key(
    subject: Subject,
    recipe: AnyRecipe,
    mask_labels: Sequence[int],
    slices: SliceRecipe | None = None,
) -> str:
    """Return a fingerprint of all that an inspection depends on, without reading a file."""
    files = {**({"mask": subject.mask} if subject.mask else {}), **subject.scans}
    states = {name: [str(path), _state(path)] for name, path in files.items()}
    window: list[Any] = []
    if isinstance(recipe, RecipeConfig):
        window = [recipe.window, recipe.allow_clipping]
    settings = [*window, recipe.resample, list(mask_labels), asdict(subject.conventions)]
    if slices is not None:
        settings += [slices.model_dump(mode="json"), subject.mask_kind]
    content = [[field.name for field in fields(kind)] for kind in (Inspection, Problem, View)]
    return fingerprint([content, states, settings])


def _state(path: Path) -> dict[str, Any] | None:
    """Return the state of a file or series; None where a part is missing or not accessible."""
    try:
        return asdict(file_state(path))
    except OSError:
        return None


def inspect_subject(
    subject: Subject,
    recipe: AnyRecipe,
    mask_labels: Sequence[int],
    slices: SliceRecipe | None = None,
) -> Inspection:
    """Read all files of a subject completely and list every problem.

    Args:
        subject: without a mask only its scans are checked.
        recipe: its window must contain the tumour; a slice recipe has no window, since slices are
            cut around the brain.
        mask_labels: labels that a mask may have apart from 0.
        slices: recipe of the slices that will be cut too; None if the study uses volumes only.
    """
    problems: list[Problem] = []

    def add_problem(error: BadScan, path: Path, modality: str = "") -> None:
        about = str(path), error.found, error.remedy, modality, error.setting
        problems.append(Problem(subject.id, error.kind, *about))

    labelled, fault = _read_mask(subject, recipe, mask_labels)
    mask = None if fault else labelled
    if fault:
        add_problem(fault, fault.path)
    hashes: dict[str, str] = {}
    views: list[View] = []
    for modality, path in subject.scans.items():
        try:
            with faults_of(path):
                scan = read_scan(path, subject.conventions)
                if labelled is not None and problems and problems[0].kind == "small_scan":
                    problems[0] = _small_mask_problem(problems[0], labelled, scan, path)
                check_values(scan, path)
                hashes[modality] = voxel_hash(scan)
                _check_distinct(hashes, modality, path)
                if mask is not None:
                    voxels = _on_mask_grid(mask, scan, path, subject.required_mask, recipe)
                    views.append(view_scan(modality, path, voxels, mask.voxels > 0))
                if slices is not None:
                    _check_slices(subject, path, scan, mask, slices)
        except BadScan as error:
            if error.path != subject.mask:
                add_problem(error, path, modality)
            elif not any(p.where == str(error.path) for p in problems):
                # a problem of the mask, which would otherwise be listed once per scan
                add_problem(error, error.path)
    return Inspection(
        subject.id,
        tuple(problems),
        hashes,
        tuple(views),
        mask_hash(mask) if mask else "",
        tuple(int(value) for value in np.unique(labelled.voxels) if value) if labelled else (),
        labelled.grid.shape if labelled else None,
        bounding_box(labelled.voxels > 0) if labelled else None,
    )


def inspection_artefact(inspection: Inspection) -> Artefact:
    """Return the artefact of an inspection: its previews are arrays, all else is described."""
    arrays: dict[str, np.ndarray] = {}
    for number, view in enumerate(inspection.views):
        arrays |= {
            f"picture{number}": view.picture,
            f"tumour{number}": view.tumour,
            f"counts{number}": view.counts,
        }
    description = {
        "problems": [asdict(problem) for problem in inspection.problems],
        "hashes": inspection.hashes,
        "mask_hash": inspection.mask_hash,
        "labels": inspection.labels,
        "mask_shape": inspection.mask_shape,
        "tumour_box": inspection.tumour_box,
        "views": [[v.modality, v.slice_number, v.low, v.high] for v in inspection.views],
    }
    return Artefact(arrays, description)


def read_inspection(folder: Path, subject_id: str) -> Inspection | None:
    """Read a subject's inspection; None if the file is missing or damaged.

    That with a given mask comes before that with a predicted one, and before that without any.
    """
    for part in PARTS:
        index = read_index(folder, part)
        if index is not None and subject_id in index["subjects"]:
            try:
                return load_inspection(ArtefactPart(folder, part), subject_id)
            except MgmtError:
                return None
    return None


def load_inspection(part: ArtefactPart, subject_id: str) -> Inspection:
    """Read a subject's inspection from a part of the store.

    Raises:
        MgmtError: the file is missing or was changed.
    """
    artefact = part.load(subject_id)
    arrays, description = artefact.arrays, artefact.description
    views = tuple(
        View(
            modality,
            arrays[f"picture{i}"],
            arrays[f"tumour{i}"],
            number,
            low,
            high,
            arrays[f"counts{i}"],
        )
        for i, (modality, number, low, high) in enumerate(description["views"])
    )
    problems = tuple(Problem(**problem) for problem in description["problems"])
    shape, box = description["mask_shape"], description["tumour_box"]
    return Inspection(
        subject_id,
        problems,
        description["hashes"],
        views,
        description["mask_hash"],
        tuple(description["labels"]),
        tuple(shape) if shape else None,
        ((*box[0],), (*box[1],), (*box[2],)) if box else None,
    )


def _read_mask(
    subject: Subject, recipe: AnyRecipe, labels: Sequence[int]
) -> tuple[Scan | None, BadScan | None]:
    """Return a subject's mask if its labels are known, and what is wrong with it."""
    if subject.mask is None:
        return None, None
    try:
        with faults_of(subject.mask):
            mask = read_mask(subject.mask, subject.conventions)
            check_mask(mask, subject.mask, labels)
    except BadScan as error:
        return None, error
    try:
        _check_window(mask, subject.mask, recipe)
    except BadScan as error:
        return mask, error
    return mask, None


def _check_window(mask: Scan, path: Path, recipe: AnyRecipe) -> None:
    window, allow_clipping = whole_window(mask.voxels.shape), False
    if isinstance(recipe, RecipeConfig):
        window, allow_clipping = recipe.window, recipe.allow_clipping
    check_window(mask.voxels > 0, window, allow_clipping=allow_clipping, path=path)


def _small_mask_problem(problem: Problem, mask: Scan, scan: Scan, path: Path) -> Problem:
    """Return the problem of a mask that does not hold the window, although its scan does."""
    if not any(m < s for m, s in zip(mask.grid.shape, scan.grid.shape, strict=True)):
        return problem
    found = f"is on a smaller grid than {path.name}: {mask.grid.difference(scan.grid)}"
    remedy = "Resample the mask onto its scans"
    return replace(problem, kind="other_grid", found=found, remedy=remedy, setting="")


def _check_distinct(hashes: Mapping[str, str], modality: str, path: Path) -> None:
    for other, value in hashes.items():
        if other != modality and value == hashes[modality]:
            found = f"has the same voxels as the subject's {other}"
            raise BadScan(path, "same_voxels", found, VIEW_SCAN)


def _on_mask_grid(
    mask: Scan, scan: Scan, path: Path, mask_path: Path, recipe: AnyRecipe
) -> Shaped[np.ndarray, "depth height width"]:
    if not recipe.resample:
        check_grid(scan, mask, path, mask_path)
        return scan.voxels
    outside = count_outside(scan.grid, mask.grid, mask.voxels > 0)
    if outside:
        voxels = quantity(outside, "tumour voxel")
        found = f"does not reach {voxels} of its mask {mask_path.name}"
        raise BadScan(path, "other_grid", found, VIEW_SCAN)
    return resample(scan, mask.grid, whole_window(mask.voxels.shape))


def _check_slices(
    subject: Subject, path: Path, scan: Scan, mask: Scan | None, recipe: SliceRecipe
) -> None:
    """Raise BadScan if no slices can be cut, which ignore predicted masks."""
    given = mask if subject.mask_kind == "given" else None
    source = SliceSource(subject.id, (path,), subject.mask if given else None, subject.conventions)
    slices_from_scans(source, [scan], given, recipe)
