from __future__ import annotations

import locale
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.encaps import encapsulate
from pydicom.uid import HTJ2KLossless

from mgmt_ray.cohort.dicom.series import read_series
from mgmt_ray.cohort.problem import BadScan
from mgmt_ray.cohort.scan import read_scan
from tests.layouts.dicom_series import write_series

SHAPE = (12, 20, 18)


def volume(seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> SimpleITK.Image:
    voxels = np.random.default_rng(seed).integers(-100, 3000, shape).astype(np.int16)
    image = SimpleITK.GetImageFromArray(voxels)
    image.SetSpacing((0.9, 1.1, 2.5))
    image.SetOrigin((-7.25, 31.5, -40.125))
    return image


@pytest.fixture
def series(tmp_path: Path) -> Path:
    folder = tmp_path / "FLAIR"
    write_series(volume(), folder, "00002", "FLAIR")
    return folder


def write_slice(path: Path, voxels: np.ndarray, tags: dict[str, str], compressor: str = "") -> None:
    """The slice in a file again, with other voxels or tags."""
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    image = SimpleITK.GetImageFromArray(voxels)
    image.SetSpacing((0.9, 1.1))
    known = {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}
    for key, value in (known | tags).items():
        image.SetMetaData(key, value)
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    if compressor:
        writer.UseCompressionOn()
        writer.SetCompressor(compressor)
    writer.SetFileName(str(path))
    writer.Execute(image)


def slice_of(path: Path) -> np.ndarray:
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))[0]


def fault(folder: Path) -> BadScan:
    with pytest.raises(BadScan) as caught:
        read_series(folder)
    return caught.value


@pytest.mark.parametrize(
    "direction",
    [
        (1, 0, 0, 0, 1, 0, 0, 0, 1),
        (-1, 0, 0, 0, 1, 0, 0, 0, -1),
        (0, 0, 1, 1, 0, 0, 0, 1, 0),
        (1, 0, 0, 0, 0.8, -0.6, 0, 0.6, 0.8),
    ],
    ids=["axial", "turned", "sagittal", "oblique"],
)
def test_a_series_has_the_voxels_and_places_of_its_volume_as_nifti(
    tmp_path: Path, direction: tuple[float, ...]
) -> None:
    image = volume()
    image.SetDirection(direction)
    write_series(image, tmp_path / "series", "00002", "T1w")
    SimpleITK.WriteImage(image, str(tmp_path / "volume.nii.gz"))
    from_series, from_nifti = read_scan(tmp_path / "series"), read_scan(tmp_path / "volume.nii.gz")
    assert np.array_equal(from_series.voxels, from_nifti.voxels)
    assert from_series.voxels.dtype == np.int16
    # a NIfTI header keeps single precision: 1e-6 of 40 mm
    assert np.allclose(from_series.grid.affine, from_nifti.grid.affine, rtol=0, atol=1e-4)


def test_files_that_are_no_dicom_are_left_alone(series: Path) -> None:
    voxels, affine = read_series(series)
    (series / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (series / "._Image-1.dcm").write_bytes(b"\0\5\x16\7")
    (series / "notes.txt").write_text("looked at")
    (series / "more").mkdir()
    again, affine_again = read_series(series)
    assert np.array_equal(again, voxels) and np.array_equal(affine_again, affine)


@pytest.mark.parametrize("compressor", ["", "JPEG", "JPEG2000"])
@pytest.mark.parametrize("name", ["Image-1.dcm", "Image-5.dcm", "Image-12.dcm"])
def test_a_truncated_file_is_named_wherever_it_is(series: Path, name: str, compressor: str) -> None:
    path = series / name
    write_slice(path, slice_of(path), {}, compressor)
    read_series(series)
    # 9 bytes: with less an encapsulated stream only lacks its end mark, and no voxel
    path.write_bytes(path.read_bytes()[:-9])
    error = fault(series)
    assert error.kind == "truncated"
    assert f"{name} of 12 files: truncated" in error.found


def test_an_empty_file_is_named(series: Path) -> None:
    (series / "Image-3.dcm").write_bytes(b"")
    assert (fault(series).kind, fault(series).found) == (
        "empty_file",
        "Image-3.dcm of 12 files: empty",
    )


def test_a_file_that_is_no_dicom_inside_is_named(series: Path) -> None:
    for number in (3, 4):
        (series / f"Image-{number}.dcm").write_bytes(b"<html>not found</html>" * 50)
    error = fault(series)
    assert error.kind == "wrong_format"
    assert "Image-3.dcm and 1 more of 12 files: a web page" in error.found
    for number in (3, 4):
        (series / f"Image-{number}.dcm").write_bytes(b"not found" * 50)
    assert (fault(series).kind, fault(series).found) == (
        "damaged",
        "Image-3.dcm and 1 more of 12 files: damaged, does not start like a DICOM file",
    )


def test_a_series_of_truncated_files_alone_is_truncated(series: Path) -> None:
    for path in series.iterdir():
        path.write_bytes(path.read_bytes()[:-100])
    assert fault(series).kind == "truncated"


def test_a_folder_without_dicom_says_so(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("empty")
    assert (fault(tmp_path).kind, fault(tmp_path).found) == ("wrong_format", "holds no DICOM files")
    (tmp_path / "series 4").mkdir()
    assert "like series 4 in it" in fault(tmp_path).remedy


def test_two_series_in_a_folder_are_rejected(series: Path, tmp_path: Path) -> None:
    write_series(volume(1), tmp_path / "other", "00002", "T2w")
    for path in (tmp_path / "other").iterdir():
        shutil.move(path, series / f"other-{path.name}")
    error = fault(series)
    assert error.kind == "wrong_format"
    assert "holds 2 DICOM series instead of one" in error.found


@pytest.mark.parametrize("missing", [(2,), (6,), (11,), (4, 5, 9)])
def test_slices_missing_in_between_are_counted(series: Path, missing: tuple[int, ...]) -> None:
    for number in missing:
        (series / f"Image-{number}.dcm").unlink()
    error = fault(series)
    assert error.kind == "truncated"
    gap = "1 slice" if len(missing) == 1 else f"{len(missing)} slices"
    assert error.found.startswith(f"there is a gap of {gap} between its {12 - len(missing)}")


def test_slices_of_different_size_are_rejected(series: Path) -> None:
    for number, height in ((4, 16), (4, 26), (1, 26), (12, 16)):
        path = series / f"Image-{number}.dcm"
        before = path.read_bytes()
        write_slice(path, np.zeros((height, 18), np.int16), {})
        error = fault(series)
        assert error.kind == "wrong_format"
        assert "slices of different sizes" in error.found and f"{height}×18" in error.found
        path.write_bytes(before)


@pytest.mark.parametrize("copy", ["Image-4 (1).dcm", "Image-99.dcm", "A.dcm"])
def test_two_slices_at_one_position_are_rejected_wherever_the_copy_sorts(
    series: Path, copy: str
) -> None:
    shutil.copy(series / "Image-4.dcm", series / copy)
    error = fault(series)
    assert error.kind == "not_3d"
    assert error.found == "has several slices at one position (1 of its 13 files)"
    assert "one file per slice" in error.remedy


def test_a_file_whose_link_points_nowhere_is_named(series: Path) -> None:
    (series / "Image-12.dcm").unlink()
    (series / "Image-12.dcm").symlink_to("../.git/annex/objects/12")
    error = fault(series)
    assert (error.kind, error.found) == ("no_file", "Image-12.dcm: the link is broken")


def test_slices_of_different_directions_are_rejected(series: Path) -> None:
    path = series / "Image-7.dcm"
    write_slice(path, slice_of(path), {"0020|0037": "0\\1\\0\\0\\0\\1"})
    assert "different directions" in fault(series).found


def test_uneven_and_shifted_slices_are_rejected(series: Path) -> None:
    path = series / "Image-7.dcm"
    before = path.read_bytes()
    for place in ("-7.25\\31.5\\-24.2", "-6\\31.5\\-25.125"):
        write_slice(path, slice_of(path), {"0020|0032": place})
        error = fault(series)
        assert error.kind == "wrong_format"
        assert "not evenly spaced" in error.found
        path.write_bytes(before)


def test_positions_rounded_in_their_tags_are_accepted(series: Path) -> None:
    path = series / "Image-7.dcm"
    write_slice(path, slice_of(path), {"0020|0032": "-7.25\\31.5\\-25.1"})
    assert read_series(series)[0].shape == SHAPE[::-1]


def test_slices_with_slopes_of_their_own_keep_their_values(series: Path) -> None:
    path = series / "Image-3.dcm"
    halves = slice_of(path).astype(np.float64) + 0.5
    write_slice(path, halves, {"0028|1052": "0.5", "0028|1053": "1"})
    expected = SimpleITK.GetArrayFromImage(volume()).astype(np.float64)
    expected[2] += 0.5
    assert np.array_equal(slice_of(path), halves)
    assert np.array_equal(read_series(series)[0].T, expected)


def edit(folder: Path, change: Callable[[pydicom.Dataset], object], *names: str) -> None:
    for path in [folder / name for name in names] or [*folder.iterdir()]:
        tags = pydicom.dcmread(path)
        change(tags)
        tags.save_as(path)


def setting(keyword: str, value: object) -> Callable[[pydicom.Dataset], object]:
    return lambda tags: setattr(tags, keyword, value)


def compress(tags: pydicom.Dataset, syntax: str) -> None:
    """Declare the voxels to be compressed, as they are."""
    tags.file_meta.TransferSyntaxUID = syntax
    tags.PixelData = encapsulate([tags.PixelData])
    tags["PixelData"].is_undefined_length = True


@pytest.mark.parametrize(
    ("change", "names", "kind", "found"),
    [
        (lambda t: t.pop("PixelSpacing"), (), "damaged", "slices without a pixel spacing"),
        (lambda t: t.pop("PixelSpacing"), ("Image-3.dcm",), "damaged", "without a pixel spacing"),
        (setting("PixelSpacing", [0, 0]), (), "damaged", "not above 0"),
        (
            setting("PixelSpacing", [0.5, 0.5]),
            ("Image-6.dcm", "Image-7.dcm"),
            "wrong_format",
            "different pixel spacing (0.5×0.5, 1.1×0.9 mm)",
        ),
        (lambda t: t.pop("ImageOrientationPatient"), (), "damaged", "without a direction"),
        (setting("ImageOrientationPatient", [0] * 6), (), "damaged", "not perpendicular unit"),
        (
            lambda t: t.pop("ImagePositionPatient"),
            ("Image-3.dcm",),
            "damaged",
            "without a position",
        ),
        (
            setting("PhotometricInterpretation", "MONOCHROME1"),
            ("Image-3.dcm",),
            "wrong_format",
            "Image-3.dcm is inverted",
        ),
        (setting("ImageType", ["ORIGINAL", "MOSAIC"]), (), "not_3d", "Image-1.dcm is a mosaic"),
        (
            lambda t: setattr(t, "PixelData", t.PixelData[:100]),
            ("Image-6.dcm",),
            "truncated",
            "Image-6.dcm is truncated (100 of 720 bytes of voxels)",
        ),
        (
            lambda t: compress(t, HTJ2KLossless),
            (),
            "wrong_format",
            "Image-1.dcm: its compression cannot be read (High-Throughput JPEG 2000",
        ),
    ],
)
def test_slices_that_make_no_volume_are_said_to(
    series: Path, change: Callable[..., object], names: tuple[str, ...], kind: str, found: str
) -> None:
    edit(series, change, *names)
    error = fault(series)
    assert error.kind == kind
    assert found in error.found


def test_a_missing_tag_is_not_mended_by_another_copy(series: Path) -> None:
    edit(series, lambda tags: tags.pop("PixelSpacing"))
    assert fault(series).remedy.startswith("Export the series again")


def test_a_single_slice_is_no_volume(series: Path) -> None:
    for path in series.iterdir():
        if path.name != "Image-4.dcm":
            path.unlink()
    assert (fault(series).kind, fault(series).found) == (
        "not_3d",
        "is a single slice, not a volume",
    )


def test_a_sheared_stack_is_named_and_rounded_positions_are_not(series: Path) -> None:
    def shift(mm: float) -> Callable[[pydicom.Dataset], object]:
        def change(tags: pydicom.Dataset) -> None:
            x, y, z = tags.ImagePositionPatient
            tags.ImagePositionPatient = [x, y + mm * int(tags.InstanceNumber), z]

        return change

    edit(series, shift(0.01))
    assert read_series(series)[0].shape == SHAPE[::-1]
    edit(series, shift(0.39))
    assert fault(series).kind == "wrong_format"
    assert (
        fault(series).found == "each slice is shifted sideways against the one before (by 0.4 mm)"
    )


@pytest.mark.parametrize(
    "sop_class",
    [
        "1.2.840.10008.5.1.4.1.1.11.1",  # presentation state
        "1.2.840.10008.5.1.4.1.1.66.4",  # segmentation
        "1.2.840.10008.5.1.4.1.1.88.33",  # report
        "1.3.46.670589.11.0.0.12.1",  # a vendor's spectrum
    ],
)
@pytest.mark.parametrize("series_uid", ["own", "the scan's"])
def test_objects_beside_the_slices_are_left_alone(
    series: Path, sop_class: str, series_uid: str
) -> None:
    expected, affine = read_series(series)
    tags = pydicom.dcmread(series / "Image-1.dcm")
    for keyword in ("Rows", "Columns", "PixelData"):
        del tags[keyword]
    tags.SOPClassUID = tags.file_meta.MediaStorageSOPClassUID = sop_class
    if series_uid == "own":
        tags.SeriesInstanceUID = "2.25.1"
    tags.save_as(series / "beside.dcm")
    voxels, affine_again = read_series(series)
    assert np.array_equal(voxels, expected) and np.array_equal(affine_again, affine)
    for path in series.glob("Image*"):
        path.unlink()
    assert fault(series).found.startswith("holds no slices: its 1 DICOM files are")


def test_an_image_cut_before_its_size_is_not_left_out(series: Path) -> None:
    path = series / "Image-12.dcm"
    path.write_bytes(path.read_bytes()[:500])
    assert fault(series).found.startswith("Image-12.dcm of 12 files: truncated")


def test_what_no_reader_foresees_is_the_files_fault(series: Path) -> None:
    edit(series, lambda tags: tags.add_new("NumberOfFrames", "SH", "many"))
    with pytest.raises(BadScan, match="cannot be used") as caught:
        read_scan(series)
    assert caught.value.kind == "damaged"


def test_writing_a_series_leaves_the_locale_as_it_was(tmp_path: Path) -> None:
    volume = SimpleITK.GetImageFromArray(np.arange(60, dtype=np.int16).reshape(3, 4, 5))
    before = locale.setlocale(locale.LC_ALL)
    write_series(volume, tmp_path / "series", "P1", "FLAIR")
    read_series(tmp_path / "series")
    assert locale.setlocale(locale.LC_ALL) == before
