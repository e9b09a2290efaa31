"""Multi-frame files: each frame says where it lies, in the file's own order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from jaxtyping import Float64, Shaped

from mgmt_ray.cohort.dicom.headers import num_frames
from mgmt_ray.cohort.dicom.slice_stack import (
    ONE_SERIES,
    SAME_POSITION_MM,
    SlicePlane,
    stack_slices,
)
from mgmt_ray.cohort.problem import DOWNLOAD_AGAIN, BadScan

DIMENSIONS = {
    "StackID": "FrameContentSequence",
    "TemporalPositionIndex": "FrameContentSequence",
    "EffectiveEchoTime": "MREchoSequence",
    "DiffusionBValue": "MRDiffusionSequence",
    "ComplexImageComponent": "MRImageFrameTypeSequence",
    "FrameType": "MRImageFrameTypeSequence",
}
"""Tags by which volumes of one file may differ, and the functional group that holds each."""

ONE_VOLUME = "Export the volume that is meant as a series of its own (dcm2niix splits such files)"


@dataclass(frozen=True, slots=True)
class Frame:
    """What a frame says of itself (DICOM PS3.3, C.7.6.16).

    Attributes:
        number_in_stack: from 1; None where the file does not number its slices.
        scaling: slope and intercept from stored to real values.
        dimensions: values of :data:`DIMENSIONS`, empty where not given.
    """

    plane: SlicePlane
    number_in_stack: int | None
    scaling: tuple[float, float]
    dimensions: tuple[str, ...]


def read_frames(
    folder: Path,
    headers: Mapping[str, pydicom.Dataset],
    decode: Callable[[str], Shaped[np.ndarray, "frame row column"]],
) -> tuple[Shaped[np.ndarray, "width height depth"], Float64[np.ndarray, "4 4"]]:
    """Put the frames of a series' files in the order of their positions.

    Args:
        headers: of each file, by name.
        decode: returns the voxels of the file of a name, as GDCM decodes them.

    Returns:
        Voxels, and their affine as of :func:`stack_slices`.

    Raises:
        BadScan: frames without positions, missing, or of several volumes.
    """
    frames = {name: _list_frames(folder / name, header) for name, header in headers.items()}
    all_frames = [frame for of_file in frames.values() for frame in of_file]
    _check_one_volume(folder, all_frames)
    try:
        order, affine = stack_slices(folder, [frame.plane for frame in all_frames], "frames")
    except BadScan as error:
        raise _stacks_error(folder, all_frames) or error from None
    _check_numbers(folder, all_frames)
    scaled = [_rescaled(folder / name, decode(name), of_file) for name, of_file in frames.items()]
    return np.concatenate(scaled)[order].T, affine


def _list_frames(path: Path, header: pydicom.Dataset) -> list[Frame]:
    shared_groups = header.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()]
    of_frames = header.get("PerFrameFunctionalGroupsSequence") or []
    number = num_frames(header)
    if not of_frames and number == 1:
        found = f"{path.name} holds a single slice, other files of its series hold several"
        raise BadScan(path.parent, "wrong_format", found, ONE_SERIES)
    if not of_frames:
        found = f"{path.name} holds {number} frames without a position of each"
        remedy = "Export it as one file per slice"
        raise BadScan(path.parent, "not_3d", found, remedy)
    if len(of_frames) != number:
        found = f"{path.name} has {number} frames and describes {len(of_frames)}"
        raise BadScan(path.parent, "truncated", found, DOWNLOAD_AGAIN)
    try:
        return [_frame(header, shared_groups[0], groups) for groups in of_frames]
    except TypeError as error:  # GDCM would scale by whatever is in memory
        found = f"{path.name} has a RescaleSlope or RescaleIntercept without a value"
        raise BadScan(path.parent, "damaged", found, DOWNLOAD_AGAIN) from error


def _frame(header: pydicom.Dataset, shared: pydicom.Dataset, own: pydicom.Dataset) -> Frame:
    def group(sequence: str) -> pydicom.Dataset:
        """Return a frame's functional group, or that which all frames share."""
        items = own.get(sequence) or shared.get(sequence) or [pydicom.Dataset()]
        first: pydicom.Dataset = items[0]
        return first

    plane = SlicePlane.of(
        *map(group, ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"))
    )
    number = group("FrameContentSequence").get("InStackPositionNumber")
    scaled = group("PixelValueTransformationSequence")
    source = scaled if "RescaleSlope" in scaled else header
    scaling = float(source.get("RescaleSlope", 1)), float(source.get("RescaleIntercept", 0))
    dimensions = tuple(str(group(name).get(tag, "")) for tag, name in DIMENSIONS.items())
    return Frame(plane, None if number is None else int(number), scaling, dimensions)


def _check_one_volume(folder: Path, frames: list[Frame]) -> None:
    """Raise BadScan where several frames have one position: they are of several volumes."""
    positions = [frame.plane.position for frame in frames]
    if any(position is None for position in positions):
        return
    rounded = np.round(np.array(positions, dtype=np.float64) / SAME_POSITION_MM)
    num_positions = len(np.unique(rounded, axis=0))
    if num_positions < len(frames):
        values = zip(*(frame.dimensions for frame in frames), strict=True)
        differing = [tag for tag, v in zip(DIMENSIONS, values, strict=True) if len({*v}) > 1]
        by = f"; they differ in {', '.join(differing)}" if differing else ""
        found = f"holds several volumes: {len(frames)} frames at {num_positions} positions{by}"
        raise BadScan(folder, "not_3d", found, ONE_VOLUME)


def _stacks_error(folder: Path, frames: list[Frame]) -> BadScan | None:
    """Return the error of frames that are no volume since they are of several stacks."""
    num_stacks = len({frame.dimensions[0] for frame in frames})
    if num_stacks == 1:
        return None
    found = f"holds several volumes: its {len(frames)} frames are of {num_stacks} stacks (StackID)"
    return BadScan(folder, "not_3d", found, ONE_VOLUME)


def _check_numbers(folder: Path, frames: list[Frame]) -> None:
    """Raise BadScan where the frames' own numbers tell that one is missing at an end."""
    numbers = {frame.number_in_stack for frame in frames if frame.number_in_stack is not None}
    num_missing = max(numbers, default=0) - len(frames)
    if num_missing > 0 and len(numbers) == len(frames):
        found = f"{num_missing} of {max(numbers)} frames are missing (InStackPositionNumber)"
        raise BadScan(folder, "truncated", found, DOWNLOAD_AGAIN)


def _rescaled(
    path: Path, voxels: Shaped[np.ndarray, "frame row column"], frames: list[Frame]
) -> Shaped[np.ndarray, "frame row column"]:
    """Give each frame its own slope and intercept; GDCM applies those of the first to all."""
    if voxels.shape[:1] != (len(frames),):
        found = f"{path.name} holds {len(voxels)} frames and describes {len(frames)}"
        raise BadScan(path.parent, "damaged", found, DOWNLOAD_AGAIN)
    if len({frame.scaling for frame in frames}) == 1:
        return voxels
    slope, intercept = frames[0].scaling
    stored = np.rint((voxels.astype(np.float64) - intercept) / slope)
    slopes, intercepts = np.array([frame.scaling for frame in frames]).T[:, :, None, None]
    return stored * slopes + intercepts
