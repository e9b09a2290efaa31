from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from mgmt_ray.cohort.problem import BadScan
from mgmt_ray.cohort.scan import EMPTY_HASH, Grid, Scan, mask_hash, read_scan, voxel_hash


def image(values: np.ndarray) -> SimpleITK.Image:
    made = SimpleITK.GetImageFromArray(values, isVector=False)
    made.SetOrigin((0.0, -239.0, *[0.0] * (values.ndim - 2)))
    return made


def write(values: np.ndarray, path: Path) -> Path:
    SimpleITK.WriteImage(image(values), str(path))
    return path


def noise(shape: tuple[int, ...] = (10, 12, 14)) -> np.ndarray:
    return np.random.default_rng(0).normal(100, 10, shape).astype(np.float32)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return write(noise(), tmp_path / "scan.nii.gz")


def fault_of(path: Path, kind: str) -> str:
    with pytest.raises(BadScan) as error:
        read_scan(path)
    assert error.value.kind == kind
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", ["scan.nii.gz", "scan.nii"])
def test_a_sound_file_is_read_as_it_is(tmp_path: Path, name: str) -> None:
    read = read_scan(write(noise(), tmp_path / name))
    np.testing.assert_array_equal(read.voxels, noise())
    assert read.grid.shape == (10, 12, 14)
    assert read.grid.spacing_mm == (1, 1, 1)
    assert read.grid.origin_mm == (0, -239, 0)
    # depth to superior, height to posterior, width to left
    assert read.grid.direction == (0, 0, 1, 0, 1, 0, 1, 0, 0)


@pytest.mark.parametrize(
    ("damage", "kind", "says"),
    [
        (lambda b: b[: len(b) // 2], "truncated", "the file is truncated"),
        (lambda b: b[:-8], "truncated", "the file is truncated"),  # the checksum
        (lambda b: b[:-8] + bytes([b[-8] ^ 0xFF]) + b[-7:], "wrong_checksum", "CRC check failed"),
        # 10·12·14 numbers of 4 bytes
        (
            lambda b: gzip.compress(gzip.decompress(b)[:-100]),
            "truncated",
            "truncated (6620 of 6720 bytes of voxels)",
        ),
        (lambda b: gzip.decompress(b)[:-1], "truncated", "the file is truncated"),
    ],
)
def test_a_file_that_is_cut_or_altered_is_found(
    scan: Path, damage: Callable[[bytes], bytes], kind: str, says: str
) -> None:
    scan.write_bytes(damage(scan.read_bytes()))
    message = fault_of(scan, kind)
    assert says in message and "download the file again" in message


def test_damaged_compressed_data_are_found(scan: Path) -> None:
    content = bytearray(scan.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 200] = bytes(200)
    scan.write_bytes(content)
    with pytest.raises(BadScan, match=r"the file is (damaged|truncated)"):
        read_scan(scan)


def test_missing_and_empty_files_are_found(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    assert "no such file" in fault_of(path, "no_file")
    path.touch()
    assert "the file is empty" in fault_of(path, "empty_file")


@pytest.mark.parametrize("content", [b"<html>404</html>", bytes(400), b"\x5c\x01\x00\x00short"])
def test_what_is_not_nifti_is_rejected(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(content)
    assert "is not a NIfTI file" in fault_of(path, "wrong_format")
    path.write_bytes(gzip.compress(content))
    assert "is not a NIfTI file" in fault_of(path, "wrong_format")


def test_another_image_format_under_the_name_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "scan.nrrd"
    write(noise(), path)
    assert "is not a NIfTI file" in fault_of(path, "wrong_format")
    shutil.copy(path, tmp_path / "scan.nii.gz")
    assert "is not a NIfTI file" in fault_of(tmp_path / "scan.nii.gz", "wrong_format")


def test_a_series_of_volumes_is_rejected(tmp_path: Path) -> None:
    path = write(noise((3, 10, 12, 14)), tmp_path / "raw.nii.gz")
    assert "is not a single 3-D volume (size 14×12×10×3" in fault_of(path, "not_3d")


def test_several_numbers_per_voxel_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "vectors.nii.gz"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(noise((5, 6, 7, 3)), isVector=True), str(path))
    assert "is not a single 3-D volume (size 7×6×5" in fault_of(path, "not_3d")


@pytest.mark.parametrize("pixel", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["scan.nii.gz", "scan.nii"])
def test_values_that_are_not_finite_are_counted(
    tmp_path: Path, name: str, pixel: type[np.floating]
) -> None:
    values = noise().astype(pixel)
    values[1, 2, 3], values[4, 5, 6] = np.nan, np.inf
    path = write(values, tmp_path / name)
    assert np.isfinite(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))).all()
    assert "has 2 voxels of NaN or infinity" in fault_of(path, "not_finite")


def test_an_invalid_header_is_damage(tmp_path: Path) -> None:
    path = write(noise(), tmp_path / "scan.nii")
    sound = path.read_bytes()
    for place, content in ((40, b"\x09\x00"), (42, b"\xff\xff"), (108, b"\x00\x00\xc0\x7f")):
        path.write_bytes(sound[:place] + content + sound[place + len(content) :])
        assert "its header is invalid" in fault_of(path, "damaged")


def test_files_of_the_other_byte_order_are_read(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(np.float32)
    values = noise().T
    nibabel.Nifti1Image(values, np.diag([-1.0, -1.0, 1.0, 1.0]), header).to_filename(path)
    np.testing.assert_array_equal(read_scan(path).voxels, noise())
    values[0, 0, 0] = np.nan
    nibabel.Nifti1Image(values, np.diag([-1.0, -1.0, 1.0, 1.0]), header).to_filename(path)
    assert "has 1 voxel of NaN" in fault_of(path, "not_finite")


def test_the_second_version_and_a_series_of_one_volume_are_read_too(tmp_path: Path) -> None:
    path, affine = tmp_path / "scan.nii.gz", np.diag([-1.0, -1.0, 1.0, 1.0])
    for image in (
        nibabel.Nifti2Image(noise().T, affine),
        nibabel.Nifti1Image(noise().T[..., None], affine),
    ):
        image.to_filename(path)
        np.testing.assert_array_equal(read_scan(path).voxels, noise())


def test_scaled_numbers_are_read_as_simpleitk_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    made = nibabel.Nifti1Image(noise().T, np.diag([-1.0, -1.0, 1.0, 1.0]))
    made.header.set_data_dtype(np.int16)  # nibabel then writes a slope and an intercept
    made.to_filename(path)
    by_itk = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    # float32 against float64 arithmetic on values around 100
    np.testing.assert_allclose(read_scan(path).voxels, by_itk, rtol=1e-6)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR", "SAL", "ARI"])
def test_array_axes_mean_the_same_however_a_file_is_stored(tmp_path: Path, axes: str) -> None:
    as_public = nibabel.Nifti1Image(noise().T, np.diag([-1.0, -2.0, 3.0, 1.0]))
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(as_public.affine), nibabel.orientations.axcodes2ornt(tuple(axes))
    )
    path = tmp_path / "scan.nii.gz"
    as_public.as_reoriented(turn).to_filename(path)
    scan = read_scan(path)
    np.testing.assert_array_equal(scan.voxels, noise())
    assert scan.grid.spacing_mm == pytest.approx((3, 2, 1))
    assert scan.grid.direction == pytest.approx((0, 0, 1, 0, 1, 0, 1, 0, 0))


def test_a_copy_keeps_its_hash_under_another_type_margin_orientation_and_header(
    tmp_path: Path,
) -> None:
    values = np.pad(np.round(noise()), 2).astype(np.int16)
    first = tmp_path / "first.nii.gz"
    nibabel.Nifti1Image(values.T, np.diag([-1.0, -1.0, 1.0, 1.0])).to_filename(first)
    second = tmp_path / "second.nii"
    inner = values[1:-1, 2:, :-1].astype(np.float64)
    for affine in (np.diag([1.0, -1.0, 1.0, 1.0]), np.eye(4)):
        nibabel.Nifti1Image(inner.T[::-1], affine).to_filename(second)
        assert voxel_hash(read_scan(first)) == voxel_hash(read_scan(second))
    inner[5, 5, 5] += 1
    nibabel.Nifti1Image(inner.T[::-1], np.eye(4)).to_filename(second)
    assert voxel_hash(read_scan(first)) != voxel_hash(read_scan(second))


def test_the_place_of_a_mask_counts_in_its_hash() -> None:
    voxels = np.zeros((4, 4, 4), np.uint8)
    voxels[1, 1, 1] = 2
    grid = Grid((4, 4, 4), np.eye(4))
    same, moved = Scan(voxels.astype(np.float64), grid), Scan(np.roll(voxels, 1), grid)
    assert mask_hash(Scan(voxels, grid)) == mask_hash(same) != mask_hash(moved)


def test_complex_numbers_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    nibabel.Nifti1Image(noise().T.astype(np.complex64), np.eye(4)).to_filename(path)
    assert "complex64" in fault_of(path, "not_3d")


def test_numbers_beyond_single_precision_are_not_finite(tmp_path: Path) -> None:
    values = noise().astype(np.float64)
    values[0, 0, 0] = -1e39
    assert "has 1 voxel of NaN" in fault_of(write(values, tmp_path / "scan.nii.gz"), "not_finite")


def test_an_empty_scan_has_no_hash_of_its_own() -> None:
    grid = Grid((2, 2, 2), np.eye(4))
    assert voxel_hash(Scan(np.zeros((2, 2, 2)), grid)) == EMPTY_HASH
