"""Reading a scan completely, from NIfTI or DICOM, into arrays of one axis order; its checks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Shaped
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)

from mgmt_ray.base import quantity
from mgmt_ray.cohort.csv_rows import join_first
from mgmt_ray.cohort.dicom.series import read_series
from mgmt_ray.cohort.nifti import NiftiFile, read_nifti
from mgmt_ray.cohort.problem import DOWNLOAD_AGAIN, VIEW_SCAN, BadScan, faults_of
from mgmt_ray.cohort.subject import AS_STORED, Form, ScanConventions

SPACING_TOLERANCE_MM = 1e-4
ORIGIN_TOLERANCE_MM = 0.1
DIRECTION_TOLERANCE = 1e-3
"""The tolerances add up to less than half a voxel at the far corner of 240 voxels of 1 mm
(0.02 + 0.1 + 0.24), and exceed the rounding of single precision and of quaternions in NIfTI
headers."""

AXES = axcodes2ornt(("S", "P", "L"))
"""Directions of increasing depth, height and width: the order of UPENN-GBM and BraTS."""

MIN_VOLUME_RATIO = 1e-6
"""An affine is singular whose voxels have less of the volume of a box with their sides."""

SPACINGS_MM = (0.05, 50.0)
"""Smallest and largest distance between voxels that a scanner may make."""

LABEL_TOLERANCE = 0.01
"""Largest distance of a mask's value from the whole number that it stands for: labels up to 4 that
were saved in the 256 steps of a byte are off by at most 0.008."""

MAX_LABELS = 20
"""More values than that, none of them known, are no labels."""

MAX_VALUE = float(np.finfo(np.float32).max)

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

EMPTY_HASH = "empty"
"""Voxel hash of a scan that is 0 everywhere."""


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Size and position of an array of voxels.

    Attributes:
        shape: depth, height, width in voxels.
        affine: from (depth, height, width) indices to mm, towards left, posterior, superior.

    >>> grid = Grid((155, 240, 240), np.eye(4))
    >>> grid.spacing_mm
    (1.0, 1.0, 1.0)
    >>> grid.difference(Grid((155, 240, 240), np.diag([2.0, 1.0, 1.0, 1.0])))
    'spacing (mm) 1 1 1 against 2 1 1'
    """

    shape: tuple[int, int, int]
    affine: Float64[np.ndarray, "4 4"]

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Distance between voxels along depth, height and width."""
        return tuple(np.linalg.norm(self.affine[:3, :3], axis=0).tolist())

    @property
    def origin_mm(self) -> tuple[float, ...]:
        """Position of the first voxel: left, posterior, superior."""
        return tuple(self.affine[:3, 3].tolist())

    @property
    def direction(self) -> tuple[float, ...]:
        """Unit vectors of depth, height and width, one after another."""
        return tuple((self.affine[:3, :3] / self.spacing_mm).T.ravel().tolist())

    def difference(self, other: Grid) -> str:
        """Describe the first difference; empty when voxels have the same positions."""
        if self.shape != other.shape:
            return f"size {format_extents(self.shape)} against {format_extents(other.shape)} voxels"
        for name, values, other_values, tolerance in (
            ("spacing (mm)", self.spacing_mm, other.spacing_mm, SPACING_TOLERANCE_MM),
            ("origin (mm)", self.origin_mm, other.origin_mm, ORIGIN_TOLERANCE_MM),
            ("direction", self.direction, other.direction, DIRECTION_TOLERANCE),
        ):
            if not np.allclose(values, other_values, rtol=0, atol=tolerance):
                return f"{name} {_format_numbers(values)} against {_format_numbers(other_values)}"
        return ""


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """One volume.

    Attributes:
        voxels: finite, and of the file's own type where its header scales no values. Depth grows
            towards superior, height towards posterior, width towards left, as closely as swapping
            and flipping axes allows without resampling.
    """

    voxels: Shaped[np.ndarray, "depth height width"]
    grid: Grid


def read_scan(path: Path, conventions: ScanConventions = AS_STORED) -> Scan:
    """Read a scan and check that it is complete.

    Args:
        path: a NIfTI file, ``.nii.gz`` or ``.nii``, or the folder of one DICOM series.
        conventions: what the data set's files do not say clearly themselves.

    Raises:
        BadScan: missing, empty, truncated, damaged, of another format, not 3-D with one number per
            voxel, with NaN or infinite values, of an unclear position, or with a spacing that no
            scanner makes.

    >>> import nibabel, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "flair.nii.gz")
    ...     nibabel.Nifti1Image(np.zeros((4, 3, 2), np.int16), np.eye(4)).to_filename(path)
    ...     scan = read_scan(path)
    >>> scan.voxels.shape, scan.grid.spacing_mm
    ((2, 3, 4), (1.0, 1.0, 1.0))
    """
    unit_mm = 1.0
    with faults_of(path):
        if path.is_dir() and not path.name.endswith((".nii", ".nii.gz")):
            voxels, affine = read_series(path)
        else:
            file = read_nifti(path)
            unit_mm, voxels = file.unit_mm, file.voxels
            affine = _trusted_affine(path, file, conventions.trust_form)
    if voxels.dtype.kind == "f":
        num_invalid = voxels.size - int(np.count_nonzero(np.abs(voxels) <= MAX_VALUE))
        if num_invalid:
            invalid = quantity(num_invalid, "voxel")
            found = f"has {invalid} of NaN or infinity (in single precision)"
            raise BadScan(path, "not_finite", found, VIEW_SCAN)
    if not _is_sound(affine):
        found = "the file is damaged (its affine is singular or not finite)"
        raise BadScan(path, "damaged", found, DOWNLOAD_AGAIN)
    transform = ornt_transform(io_orientation(affine), AXES)
    reoriented = apply_orientation(voxels, transform)
    affine = RAS_TO_LPS @ affine @ inv_ornt_aff(transform, voxels.shape)
    depth, height, width = reoriented.shape
    grid = Grid((depth, height, width), affine)
    _check_spacing(path, grid, unit_mm)
    if conventions.background:
        air = np.isclose(reoriented, conventions.background, rtol=1e-5, atol=0)
        reoriented = np.where(air, 0, reoriented - np.float32(conventions.background))
    return Scan(reoriented, grid)


def read_mask(path: Path, conventions: ScanConventions = AS_STORED) -> Scan:
    """Read a mask like a scan; values that are whole numbers within rounding become integers.

    >>> import nibabel, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "mask.nii.gz")
    ...     labels = np.array([[[3.9999998, 0.0]]])
    ...     nibabel.Nifti1Image(labels, np.eye(4)).to_filename(path)
    ...     read_mask(path).voxels.ravel().tolist()
    [4, 0]
    """
    mask = read_scan(path, replace(conventions, background=0.0))
    if mask.voxels.dtype.kind == "f":
        labels = np.rint(mask.voxels)
        small = np.abs(labels).max(initial=0) <= np.iinfo(np.int32).max
        if small and (np.abs(mask.voxels - labels) <= LABEL_TOLERANCE).all():
            return Scan(labels.astype(np.int32), mask.grid)
    return mask


def stored_affine(
    path: Path, conventions: ScanConventions = AS_STORED
) -> Float64[np.ndarray, "4 4"]:
    """Return the affine of a NIfTI file from its own axes to mm towards right, anterior, superior.

    Raises:
        BadScan: as :func:`read_scan`.
    """
    return _trusted_affine(path, read_nifti(path), conventions.trust_form)


def _trusted_affine(path: Path, file: NiftiFile, trust: Form | None) -> Float64[np.ndarray, "4 4"]:
    """Return the affine of a NIfTI file where its header is clear, else that of the trusted form.

    Raises:
        BadScan: the two forms disagree or none is declared, and none is trusted.
    """
    sound = {
        form: affine
        for form, affine in file.forms.items()
        if affine is not None and _is_sound(affine)
    }
    clear = [form for form in file.declared if form in sound]
    difference = ""
    if len(clear) == 2:
        width, height, depth = file.voxels.shape
        sform, qform = (
            Grid((width, height, depth), RAS_TO_LPS @ sound[form]) for form in ("sform", "qform")
        )
        difference = sform.difference(qform)
    if clear and len(clear) == len(file.declared) and not difference:
        return sound[clear[0]]
    if trust is not None and trust in sound:
        return sound[trust]
    if not sound or trust:
        found = f"the file is damaged (its {trust or 'affine'} is singular or not finite)"
        raise BadScan(path, "damaged", found, DOWNLOAD_AGAIN)
    if difference:
        found = f"its sform and qform place its voxels differently: {difference}"
    elif file.declared:
        bad = next(form for form in file.declared if form not in sound)
        other = "qform" if bad == "sform" else "sform"
        state = "is sound" if other in file.declared else "is not declared (its code is 0)"
        found = f"its {bad} is singular or not finite, and its {other} {state}"
    else:
        found = "says neither by its sform nor by its qform where it lies (both codes are 0)"
    remedy = (
        "Find out in a viewer by which of the two scan and mask lie on each other; write the files "
        "with that form alone"
    )
    setting = "set cohort.trust_form: sform or qform"
    raise BadScan(path, "unclear_position", found, remedy, setting)


def _is_sound(affine: Float64[np.ndarray, "4 4"]) -> bool:
    """Return whether an affine is finite and not singular."""
    if not np.isfinite(affine).all():
        return False
    axes = affine[:3, :3]
    box = float(np.prod(np.linalg.norm(axes, axis=0)))
    return abs(float(np.linalg.det(axes))) > MIN_VOLUME_RATIO * box


def _check_spacing(path: Path, grid: Grid, unit_mm: float) -> None:
    low, high = SPACINGS_MM
    if all(low <= spacing <= high for spacing in grid.spacing_mm):
        return
    unit = {1000.0: " (its header counts in metres)", 0.001: " (its header counts in micrometres)"}
    raise BadScan(
        path,
        "impossible_spacing",
        f"its voxels measure {'×'.join(f'{s:g}' for s in grid.spacing_mm)} mm, which no scanner "
        f"makes{unit.get(unit_mm, '')}",
        "Correct the spacing or its unit in the header",
    )


def voxel_hash(scan: Scan) -> str:
    """Return the SHA-256 (hexadecimal) of the non-zero values, as sorted float32.

    A copy keeps its hash under another name, compression, number type, margin or orientation, and
    without its header: the order of voxels does not matter, and two scans of a million values do
    not share all of them by chance.

    >>> voxels = np.arange(24.0).reshape(2, 3, 4)
    >>> grid = Grid((2, 3, 4), np.eye(4))
    >>> voxel_hash(Scan(voxels, grid)) == voxel_hash(Scan(np.flip(voxels), grid))
    True
    """
    values = np.asarray(scan.voxels, dtype=np.float32).ravel()
    values = np.sort(values[values != 0])
    return hashlib.sha256(values.tobytes()).hexdigest() if values.size else EMPTY_HASH


def mask_hash(mask: Scan) -> str:
    """Return the SHA-256 (hexadecimal) of a mask's labels at their positions."""
    labels = np.ascontiguousarray(mask.voxels, dtype=np.int16)
    return hashlib.sha256(repr(labels.shape).encode() + labels.tobytes()).hexdigest()


def check_mask(mask: Scan, path: Path, labels: Sequence[int]) -> None:
    """Check that a mask marks a tumour, with known labels only.

    Args:
        labels: accepted in addition to 0 (background).

    Raises:
        BadScan: it marks no tumour, or has other labels.

    >>> mask = Scan(np.full((2, 2, 2), 3), Grid((2, 2, 2), np.eye(4)))
    >>> check_mask(mask, Path("mask.nii.gz"), (1, 2, 3, 4))
    >>> try:
    ...     check_mask(mask, Path("mask.nii.gz"), (1, 2, 4))
    ... except BadScan as error:
    ...     print(error.found)
    the mask has labels 3; known are 0, 1, 2, 4
    """
    present = np.unique(mask.voxels)
    unknown = [_exact(value) for value in present if value not in (0, *labels)]
    if unknown:
        known = ", ".join(map(str, (0, *labels)))
        # 3 is the enhancing tumour of BraTS from 2023, 4 that of the years before
        preset = {"3": "brats2023", "4": "brats2021"}.get(",".join(unknown))
        remedy, setting = f"Give its labels the numbers {known}", ""
        if len(unknown) > MAX_LABELS:
            remedy = "Give the mask of the tumour; this looks like a scan or a map"
        elif any(value % 1 for value in present):
            remedy = "Resample it by nearest neighbour: labels are whole numbers"
        elif present.min() < 0:
            remedy = "Set what is below 0 to 0, the background"
        elif preset:
            setting = f"set cohort.mask_labels: {preset} if {unknown[0]} is the enhancing tumour"
        else:
            setting = "name all its labels in cohort.mask_labels"
        found = f"the mask has labels {join_first(unknown, 5)}; known are {known}"
        raise BadScan(path, "unknown_mask_label", found, remedy, setting)
    if not (present > 0).any():
        found = "the mask marks no tumour (no label above 0)"
        raise BadScan(path, "empty_mask", found, VIEW_SCAN)


def check_values(scan: Scan, path: Path) -> None:
    """Check that an image is not constant.

    Raises:
        BadScan: all its voxels have one value.
    """
    low = scan.voxels.min()
    if low == scan.voxels.max():
        raise BadScan(path, "constant", f"every voxel is {low:g}", VIEW_SCAN)


def check_grid(
    scan: Scan, mask: Scan, path: Path, mask_path: Path, reference: str = "its mask"
) -> None:
    """Check that an image and its mask, or another ``reference``, are on the same grid.

    Raises:
        BadScan: size, spacing, origin or direction differ.

    >>> scan, mask = (Scan(np.ones((2, 2, 2)), Grid((2, 2, 2), np.eye(4) * s)) for s in (1, 2))
    >>> check_grid(scan, scan, Path("flair.nii.gz"), Path("mask.nii.gz"))
    >>> try:
    ...     check_grid(scan, mask, Path("flair.nii.gz"), Path("mask.nii.gz"))
    ... except BadScan as error:
    ...     print(error.found)
    is not on the grid of its mask mask.nii.gz: spacing (mm) 1 1 1 against 2 2 2
    """
    difference = scan.grid.difference(mask.grid)
    if difference:
        found = f"is not on the grid of {reference} {mask_path.name}: {difference}"
        remedy = "Resample one to the other"
        setting = "set recipe.resample: true (for slices slices.resample: true)"
        raise BadScan(path, "other_grid", found, remedy, setting)


def format_extents(extents: tuple[int, ...]) -> str:
    """Join sizes for a message.

    >>> format_extents((155, 240, 240))
    '155×240×240'
    """
    return "×".join(map(str, extents))


def _exact(value: np.generic) -> str:
    """Format a number with as few digits as tell it from any other of its type."""
    short = f"{value:g}"
    return short if float(short) == value else str(value)


def _format_numbers(numbers: tuple[float, ...]) -> str:
    return " ".join(f"{number:g}" for number in numbers)
