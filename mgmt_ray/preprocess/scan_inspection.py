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
from jaxtyping import Shaped

from mgmt_ray.base import fingerprint, write_atomically
from mgmt_ray.cohort.problem import VIEW_SCAN, BadScan, Problem
from mgmt_ray.cohort.scan import Scan, mask_hash, read_scan, voxel_hash
from mgmt_ray.cohort.scan_checks import check_grid, check_mask, check_values
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.preprocess.axial_slices import SliceSource, slices_of
from mgmt_ray.preprocess.recipe import SLICE_METHOD, RecipeConfig, SliceRecipe
from mgmt_ray.preprocess.scan_preview import View, view_scan
from mgmt_ray.preprocess.spatial import check_window, count_outside, resample
from mgmt_ray.preprocess.volume_index import file_state

METHOD = 2
"""Raised whenever the same files would give another inspection, so that old ones are not kept."""

AnyRecipe: TypeAlias = RecipeConfig | SliceRecipe
"""What a study makes of its scans."""

UNREADABLE = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)
"""What a damaged file, or one of another version, may raise."""


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
    def is_cacheable(self) -> bool:
        """Whether it holds as long as the files stay as they are; a refused reading may not."""
        return not any(p.kind in ("unreadable", "no_file") for p in self.problems)


def inspection_key(
    subject: Subject,
    recipe: AnyRecipe,
    mask_labels: Sequence[int],
    slices: SliceRecipe | None = None,
) -> str:
    """What an inspection depends on; nothing is read."""
    files = {**({"mask": subject.mask} if subject.mask else {}), **subject.scans}
    states = {
        name: [str(path), asdict(file_state(path)) if path.exists() else None]
        for name, path in files.items()
    }
    window: list[Any] = []
    if isinstance(recipe, RecipeConfig):
        window = [recipe.window, recipe.allow_clipping]
    against = [*window, recipe.resample, list(mask_labels)]
    if slices is not None:
        against += [SLICE_METHOD, slices.model_dump(mode="json"), subject.mask_kind]
    return fingerprint([METHOD, subject.id, states, against])


def inspect_subject(
    subject: Subject,
    recipe: AnyRecipe,
    mask_labels: Sequence[int],
    slices: SliceRecipe | None = None,
) -> Inspection:
    """Read every file of a subject whole and list all that is wrong.

    Args:
        subject: as a reader found it; without a mask its scans are looked at alone.
        recipe: whose window must hold the tumour; of slices, which are cut around the brain, the
            whole scan.
        mask_labels: that a mask may have beside 0.
        slices: by which slices will be cut too, where the study takes any.
    """
    problems: list[Problem] = []

    def note(error: BadScan, path: Path, modality: str = "") -> None:
        problems.append(
            Problem(subject.id, error.kind, str(path), error.found, error.remedy, modality)
        )

    key = inspection_key(subject, recipe, mask_labels, slices)
    mask = None
    if subject.mask is not None:
        try:
            mask = _read_mask(subject.mask, recipe, mask_labels)
        except BadScan as error:
            note(error, subject.mask)
    hashes: dict[str, str] = {}
    views: list[View] = []
    for modality, path in subject.scans.items():
        try:
            scan = read_scan(path)
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
                note(error, path, modality)
            elif not any(p.where == str(error.path) for p in problems):
                note(error, error.path)  # of the mask: it would be told of every scan
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

    write_atomically(_path(folder, inspection.subject), write)


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


def _read_mask(path: Path, recipe: AnyRecipe, labels: Sequence[int]) -> Scan:
    mask = read_scan(path)
    check_mask(mask, path, labels)
    depth, height, width = mask.voxels.shape
    window, allow_clipping = ((0, depth), (0, height), (0, width)), False
    if isinstance(recipe, RecipeConfig):
        window, allow_clipping = recipe.window, recipe.allow_clipping
    check_window(mask.voxels > 0, window, allow_clipping=allow_clipping, path=path)
    return mask


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
        found = f"{outside} tumour voxels of its mask {mask_path.name} lie outside the scan"
        raise BadScan(path, "other_grid", found, VIEW_SCAN)
    depth, height, width = mask.voxels.shape
    return resample(scan, mask.grid, ((0, depth), (0, height), (0, width)))


def _check_slices(
    subject: Subject, path: Path, scan: Scan, mask: Scan | None, recipe: SliceRecipe
) -> None:
    """Raise BadScan where no slices can be cut; a predicted mask is none to them."""
    given = mask if subject.mask_kind == "given" else None
    source = SliceSource(subject.id, path, subject.mask if given else None)
    slices_of(source, scan, given, recipe)
