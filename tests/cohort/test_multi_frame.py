from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.dataset import Dataset

from mgmt_ray.cohort.dicom.series import read_series
from mgmt_ray.cohort.problem import BadScan
from mgmt_ray.cohort.scan import read_scan
from tests.layouts.dicom_series import write_series

VOXELS = np.random.default_rng(0).integers(0, 3000, (6, 5, 4)).astype(np.int16)
"""[slice, row, column], from the feet upwards."""

UPWARDS = tuple(range(6))


def volume() -> SimpleITK.Image:
    image = SimpleITK.GetImageFromArray(VOXELS)
    image.SetSpacing((0.9, 1.1, 2.5))
    image.SetOrigin((-7.25, 31.5, -40.125))
    return image


def group(**tags: Any) -> list[Dataset]:
    item = Dataset()
    for keyword, value in tags.items():
        setattr(item, keyword, value)
    return [item]


def make_frame(number: int, **content: Any) -> Dataset:
    """What a frame says of itself, of the slice of a number."""
    return group(
        PlanePositionSequence=group(ImagePositionPatient=[-7.25, 31.5, -40.125 + 2.5 * number]),
        FrameContentSequence=group(
            **{"StackID": "1", "InStackPositionNumber": number + 1} | content
        ),
    )[0]


def write_multi_frame(
    folder: Path, order: Sequence[int] = UPWARDS, name: str = "I1.dcm", **content: Sequence[Any]
) -> pydicom.Dataset:
    """Write the slices of the given numbers, in this order, as one file.

    Args:
        content: values of tags of FrameContentSequence, one for each frame.
    """
    write_series(volume(), folder / "slices", "P1", "FLAIR")
    tags = pydicom.dcmread(folder / "slices" / "Image-1.dcm")
    for path in (folder / "slices").iterdir():
        path.unlink()
    (folder / "slices").rmdir()
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        del tags[keyword]
    tags.SOPClassUID = tags.file_meta.MediaStorageSOPClassUID = pydicom.uid.EnhancedMRImageStorage
    tags.SOPInstanceUID = tags.file_meta.MediaStorageSOPInstanceUID = f"2.25.{sum(map(ord, name))}"
    tags.NumberOfFrames = len(order)
    tags.SharedFunctionalGroupsSequence = group(
        PixelMeasuresSequence=group(PixelSpacing=[1.1, 0.9]),
        PlaneOrientationSequence=group(ImageOrientationPatient=[1, 0, 0, 0, 1, 0]),
    )
    tags.PerFrameFunctionalGroupsSequence = [
        make_frame(number, **{tag: values[i] for tag, values in content.items()})
        for i, number in enumerate(order)
    ]
    tags.PixelData = VOXELS[list(order)].tobytes()
    tags.save_as(folder / name)
    return tags


def rewrite(folder: Path, change: Callable[[pydicom.Dataset], object]) -> None:
    tags = pydicom.dcmread(folder / "I1.dcm")
    change(tags)
    tags.save_as(folder / "I1.dcm")


def fault(folder: Path) -> BadScan:
    with pytest.raises(BadScan) as caught:
        read_series(folder)
    return caught.value


def share_nothing(tags: pydicom.Dataset) -> None:
    shared = tags.SharedFunctionalGroupsSequence[0]
    del tags.SharedFunctionalGroupsSequence
    for frame in tags.PerFrameFunctionalGroupsSequence:
        frame.update(shared)


@pytest.mark.parametrize("change", [lambda tags: None, share_nothing], ids=["shared", "per frame"])
@pytest.mark.parametrize("order", [UPWARDS, UPWARDS[::-1], (0, 2, 4, 1, 3, 5)])
def test_frames_in_any_order_are_the_volume_as_nifti(
    tmp_path: Path, order: tuple[int, ...], change: Callable[..., None]
) -> None:
    (tmp_path / "FLAIR").mkdir()
    write_multi_frame(tmp_path / "FLAIR", order)
    rewrite(tmp_path / "FLAIR", change)
    SimpleITK.WriteImage(volume(), str(tmp_path / "volume.nii.gz"))
    scan, expected = read_scan(tmp_path / "FLAIR"), read_scan(tmp_path / "volume.nii.gz")
    assert np.array_equal(scan.voxels, expected.voxels) and scan.voxels.dtype == np.int16
    # a NIfTI header keeps single precision: 1e-6 of 40 mm
    assert np.allclose(scan.grid.affine, expected.grid.affine, rtol=0, atol=1e-4)


def test_frames_spread_over_files_are_one_volume(tmp_path: Path) -> None:
    write_multi_frame(tmp_path, (4, 1, 0), "I1.dcm")
    write_multi_frame(tmp_path, (3,), "I2.dcm")
    write_multi_frame(tmp_path, (2, 5), "I3.dcm")
    assert np.array_equal(read_series(tmp_path)[0], VOXELS.T)


def test_each_frame_has_its_own_slope(tmp_path: Path) -> None:
    write_multi_frame(tmp_path)

    def scale(tags: pydicom.Dataset) -> None:
        for number, frame in enumerate(tags.PerFrameFunctionalGroupsSequence):
            frame.PixelValueTransformationSequence = group(
                RescaleSlope=1.5 + number, RescaleIntercept=number
            )

    rewrite(tmp_path, scale)
    numbers = np.arange(6.0)[:, None, None]
    assert np.array_equal(read_series(tmp_path)[0].T, VOXELS * (1.5 + numbers) + numbers)


def test_a_slope_without_a_value_is_refused(tmp_path: Path) -> None:
    write_multi_frame(tmp_path)

    def empty(tags: pydicom.Dataset) -> None:
        for frame in tags.PerFrameFunctionalGroupsSequence:
            frame.PixelValueTransformationSequence = group(RescaleSlope=None, RescaleIntercept=None)

    rewrite(tmp_path, empty)
    assert "RescaleIntercept without a value" in fault(tmp_path).found


def test_a_slice_beside_a_file_of_frames_is_refused(tmp_path: Path) -> None:
    write_multi_frame(tmp_path)
    write_series(volume(), tmp_path / "slices", "P1", "FLAIR")
    (tmp_path / "slices" / "Image-1.dcm").rename(tmp_path / "Image-1.dcm")
    error = fault(tmp_path)
    assert error.kind == "wrong_format"
    assert "Image-1.dcm holds a single slice, other files" in error.found


TWICE = UPWARDS + UPWARDS


@pytest.mark.parametrize(
    ("tags", "differing"),
    [
        ({"TemporalPositionIndex": [1] * 6 + [2] * 6}, "; they differ in TemporalPositionIndex"),
        ({"StackID": ["1"] * 6 + ["2"] * 6}, "; they differ in StackID"),
        ({}, ""),
    ],
)
def test_several_volumes_in_a_file_are_refused(
    tmp_path: Path, tags: dict[str, list[Any]], differing: str
) -> None:
    write_multi_frame(tmp_path, TWICE, **tags)
    assert fault(tmp_path).kind == "not_3d"
    found = f"holds several volumes: 12 frames at 6 positions{differing}"
    assert fault(tmp_path).found == found


def test_stacks_that_lie_apart_are_refused(tmp_path: Path) -> None:
    stacks = ["1", "1", "1", "2", "2", "2"]
    write_multi_frame(tmp_path, UPWARDS, StackID=stacks)
    assert np.array_equal(read_series(tmp_path)[0], VOXELS.T)  # together they are one
    for frame in (tags := write_multi_frame(tmp_path, UPWARDS, StackID=stacks))[
        "PerFrameFunctionalGroupsSequence"
    ][3:]:
        frame.PlanePositionSequence[0].ImagePositionPatient[2] += 100
    tags.save_as(tmp_path / "I1.dcm")
    assert fault(tmp_path).found == (
        "holds several volumes: its 6 frames are of 2 stacks (StackID)"
    )


@pytest.mark.parametrize(
    ("order", "found"),
    [
        ((0, 1, 3, 4, 5), "there is a gap of 1 slice between its 5 frames"),
        ((1, 2, 3, 4, 5), "1 of 6 frames are missing (InStackPositionNumber)"),
        ((2,), "is a single slice, not a volume"),
    ],
)
def test_missing_frames_are_counted(tmp_path: Path, order: tuple[int, ...], found: str) -> None:
    write_multi_frame(tmp_path, order)
    assert fault(tmp_path).found == found


@pytest.mark.parametrize(
    ("change", "kind", "found"),
    [
        (
            lambda tags: tags.pop("PerFrameFunctionalGroupsSequence"),
            "not_3d",
            "I1.dcm holds 6 frames without a position of each",
        ),
        (
            lambda tags: tags.PerFrameFunctionalGroupsSequence.pop(),
            "truncated",
            "I1.dcm has 6 frames and describes 5",
        ),
        (
            lambda tags: tags.PerFrameFunctionalGroupsSequence[2].pop("PlanePositionSequence"),
            "damaged",
            "has slices without a position (ImagePositionPatient)",
        ),
        (
            lambda tags: tags.pop("SharedFunctionalGroupsSequence"),
            "damaged",
            "has slices without a direction (ImageOrientationPatient)",
        ),
        (
            lambda tags: setattr(tags, "PixelData", tags.PixelData[:-40]),
            "truncated",
            "I1.dcm is truncated (200 of 240 bytes of voxels)",
        ),
        (
            lambda tags: setattr(tags, "PhotometricInterpretation", "MONOCHROME1"),
            "wrong_format",
            "I1.dcm is inverted: its low values are bright (MONOCHROME1)",
        ),
    ],
)
def test_frames_that_make_no_volume_are_said_to(
    tmp_path: Path, change: Callable[..., object], kind: str, found: str
) -> None:
    write_multi_frame(tmp_path)
    rewrite(tmp_path, change)
    assert (fault(tmp_path).kind, fault(tmp_path).found) == (kind, found)
