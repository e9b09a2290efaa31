"""All files of a subject at once: what is wrong with them, and what is shown of them."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Int64, Shaped, UInt8

from mgmt_ray.base import fingerprint, write_aside
from mgmt_ray.cohort.check import check_grid, check_mask, check_values
from mgmt_ray.cohort.problem import LOOK_AT_IT, BadScan, Problem
from mgmt_ray.cohort.scan import Scan, mask_hash, read_scan, voxel_hash
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.preprocess.index import source_of
from mgmt_ray.preprocess.recipe import RecipeConfig
from mgmt_ray.preprocess.slice_recipe import SliceRecipe
from mgmt_ray.preprocess.spatial import check_window, count_outside, resample

METHOD = 2
"""Raised whenever the same files would give another inspection, so that old ones are not kept."""

AnyRecipe: TypeAlias = RecipeConfig | SliceRecipe
"""What a study makes of its scans."""

PICTURE = 96
"""Pixels along each side of a picture."""

BINS = 48

UNREADABLE = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)
"""What a damaged file, or one of another version, may raise."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What is shown of one scan.

    Attributes:
        modality: of the scan.
        picture: the axial slice with the most tumour, black to white from the 1st to the 99th
            percentile of its voxels that are not 0; the slice is fitted into the square.
        tumour: the mask there.
        slice_number: counted from the feet, of the scan.
        low: smallest value in the tumour, in the scan's own unit.
        high: largest value in the tumour.
        counts: tumour voxels in equal bins from ``low`` to ``high``.
    """

    modality: str
    picture: UInt8[np.ndarray, "height width"]
    tumour: Bool[np.ndarray, "height width"]
    slice_number: int
    low: float
    high: float
    counts: Int64[np.ndarray, " bin"]


@dataclass(frozen=True, slots=True, eq=False)
class Inspection:
    """What a subject's files hold.

    Attributes:
        subject: id.
        key: fingerprint of the files' states and of what they were compared with.
        problems: all of them.
        hashes: by modality, of the voxels (see ``scan.voxel_hash``).
        views: of the sound scans.
        mask_hash: of the mask (see ``scan.mask_hash``); empty where it is not sound.
    """

    subject: str
    key: str
    problems: tuple[Problem, ...]
    hashes: dict[str, str]
    views: tuple[View, ...]
    mask_hash: str = ""

    @property
    def lasts(self) -> bool:
        """Whether it holds as long as the files stay as they are; a refused reading may not."""
        return not any(p.kind in ("unreadable", "no_file") for p in self.problems)


def inspection_key(subject: Subject, recipe: AnyRecipe, mask_labels: Sequence[int]) -> str:
    """What an inspection depends on; nothing is read."""
    files = {**({"mask": subject.mask} if subject.mask else {}), **subject.scans}
    states = {
        name: [str(path), asdict(source_of(path)) if path.exists() else None]
        for name, path in files.items()
    }
    window: list[Any] = []
    if isinstance(recipe, RecipeConfig):
        window = [recipe.window, recipe.allow_clipping]
    against = [*window, recipe.resample, list(mask_labels)]
    return fingerprint([METHOD, subject.id, states, against])


def inspect_subject(subject: Subject, recipe: AnyRecipe, mask_labels: Sequence[int]) -> Inspection:
    """Read every file of a subject whole and list all that is wrong.

    Args:
        subject: as a reader found it; without a mask its scans are looked at alone.
        recipe: whose window must hold the tumour; of slices, which are cut around the brain, the
            whole scan.
        mask_labels: that a mask may have beside 0.
    """
    problems: list[Problem] = []

    def note(error: BadScan, path: Path, modality: str = "") -> None:
        problems.append(
            Problem(subject.id, error.kind, str(path), error.found, error.remedy, modality)
        )

    key = inspection_key(subject, recipe, mask_labels)
    mask = None
    if subject.mask is not None:
        try:
            mask = _sound_mask(subject.mask, recipe, mask_labels)
        except BadScan as error:
            note(error, subject.mask)
    hashes: dict[str, str] = {}
    views: list[View] = []
    for modality, path in subject.scans.items():
        try:
            scan = read_scan(path)
            check_values(scan, path)
            hashes[modality] = voxel_hash(scan)
            _refuse_twin(hashes, modality, path)
            if mask is not None:
                voxels = _on_grid_of(mask, scan, path, subject.required_mask, recipe)
                views.append(_view(modality, path, voxels, mask.voxels > 0))
        except BadScan as error:
            note(error, path, modality)
    of_mask = mask_hash(mask) if mask else ""
    return Inspection(subject.id, key, tuple(problems), hashes, tuple(views), of_mask)


def write_inspection(inspection: Inspection, folder: Path) -> None:
    """Write ``<subject>.npz`` completely or not at all."""
    facts = {
        "key": inspection.key,
        "problems": [asdict(problem) for problem in inspection.problems],
        "hashes": inspection.hashes,
        "mask_hash": inspection.mask_hash,
        "views": [[v.modality, v.slice_number, v.low, v.high] for v in inspection.views],
    }
    arrays: dict[str, Any] = {"facts": np.array(json.dumps(facts, allow_nan=False))}
    for number, view in enumerate(inspection.views):
        arrays |= {
            f"picture{number}": view.picture,
            f"tumour{number}": view.tumour,
            f"counts{number}": view.counts,
        }

    def write(aside: Path) -> None:
        with aside.open("wb") as file:
            np.savez_compressed(file, **arrays)

    write_aside(_path(folder, inspection.subject), write)


def read_inspection(folder: Path, subject_id: str) -> Inspection | None:
    """What :func:`write_inspection` wrote; None where there is nothing readable."""
    try:
        with np.load(_path(folder, subject_id)) as arrays:
            facts = json.loads(str(arrays["facts"]))
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
                for i, (modality, number, low, high) in enumerate(facts["views"])
            )
            problems = tuple(Problem(**problem) for problem in facts["problems"])
            key, hashes, of_mask = facts["key"], facts["hashes"], facts["mask_hash"]
    except UNREADABLE:
        return None  # it is made again
    return Inspection(subject_id, key, problems, hashes, views, of_mask)


def _path(folder: Path, subject_id: str) -> Path:
    return folder / f"{subject_id}.npz"


def _sound_mask(path: Path, recipe: AnyRecipe, labels: Sequence[int]) -> Scan:
    mask = read_scan(path)
    check_mask(mask, path, labels)
    depth, height, width = mask.voxels.shape
    window, allow_clipping = ((0, depth), (0, height), (0, width)), False
    if isinstance(recipe, RecipeConfig):
        window, allow_clipping = recipe.window, recipe.allow_clipping
    check_window(mask.voxels > 0, window, allow_clipping=allow_clipping, path=path)
    return mask


def _refuse_twin(hashes: Mapping[str, str], modality: str, path: Path) -> None:
    for other, value in hashes.items():
        if other != modality and value == hashes[modality]:
            found = f"has the same voxels as the subject's {other}"
            raise BadScan(path, "same_voxels", found, LOOK_AT_IT)


def _on_grid_of(
    mask: Scan, scan: Scan, path: Path, mask_path: Path, recipe: AnyRecipe
) -> Shaped[np.ndarray, "depth height width"]:
    if not recipe.resample:
        check_grid(scan, mask, path, mask_path)
        return scan.voxels
    outside = count_outside(scan.grid, mask.grid, mask.voxels > 0)
    if outside:
        found = f"{outside} tumour voxels of its mask {mask_path.name} lie outside the scan"
        raise BadScan(path, "other_grid", found, LOOK_AT_IT)
    depth, height, width = mask.voxels.shape
    return resample(scan, mask.grid, ((0, depth), (0, height), (0, width)))


def _view(
    modality: str,
    path: Path,
    voxels: Shaped[np.ndarray, "depth height width"],
    tumour: Bool[np.ndarray, "depth height width"],
) -> View:
    inside = voxels[tumour]
    low, high = float(inside.min()), float(inside.max())
    if low == high:
        found = f"every tumour voxel is {low:g}"
        raise BadScan(path, "constant", found, LOOK_AT_IT)
    counts, _ = np.histogram(inside.astype(np.float64), bins=BINS, range=(low, high))
    number = int(np.argmax(tumour.sum(axis=(1, 2))))
    plane = voxels[number].astype(np.float32)
    shown = plane[plane != 0]
    black, white = np.percentile(shown, (1, 99)) if shown.size else (0.0, 1.0)
    grey = np.clip((plane - black) / max(white - black, np.finfo(np.float32).tiny), 0, 1)
    rows, columns = (_nearest(size, max(plane.shape)) for size in plane.shape)
    inside_rows, inside_columns = rows >= 0, columns >= 0
    picture = np.zeros((PICTURE, PICTURE), np.uint8)
    outline = np.zeros((PICTURE, PICTURE), bool)
    here = np.ix_(inside_rows, inside_columns)
    there = np.ix_(rows[inside_rows], columns[inside_columns])
    picture[here] = np.round(255 * np.where(plane == 0, 0, grey)[there])
    outline[here] = tumour[number][there]
    return View(modality, picture, outline, number, low, high, counts)


def _nearest(size: int, square: int) -> Int64[np.ndarray, " pixel"]:
    """For each pixel of a picture the voxel it shows along an axis; -1 beside the slice."""
    voxels = np.floor((np.arange(PICTURE) + 0.5) * square / PICTURE - (square - size) / 2)
    return np.where((voxels >= 0) & (voxels < size), voxels, -1).astype(np.int64)
