from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from mgmt_ray.cohort.check import BadScan, check_pair, read_scan


def image(values: np.ndarray) -> SimpleITK.Image:
    made = SimpleITK.GetImageFromArray(values, isVector=False)
    made.SetOrigin((0.0, -239.0, *[0.0] * (values.ndim - 2)))
    return made


def write(values: np.ndarray, path: Path) -> Path:
    SimpleITK.WriteImage(image(values), str(path))
    return path


def noise(shape: tuple[int, ...] = (10, 12, 14)) -> np.ndarray:
    return np.random.default_rng(0).normal(100, 10, shape).astype(np.float32)


def a_mask() -> np.ndarray:
    mask = np.zeros((10, 12, 14), np.uint8)
    mask[4:6, 5:8, 5:9] = 2
    return mask


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return write(noise(), tmp_path / "scan.nii.gz")


def fault_of(path: Path) -> str:
    with pytest.raises(BadScan) as error:
        read_scan(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", ["scan.nii.gz", "scan.nii"])
def test_a_sound_file_is_read_as_it_is(tmp_path: Path, name: str) -> None:
    read = read_scan(write(noise(), tmp_path / name))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(read), noise())
    assert read.GetOrigin() == (0.0, -239.0, 0.0)


def test_a_truncated_gzip_file_is_found_though_simpleitk_reads_it(scan: Path) -> None:
    whole = scan.read_bytes()
    scan.write_bytes(whole[: len(whole) // 2])
    SimpleITK.ReadImage(str(scan))
    assert "the file is truncated" in fault_of(scan)
    assert "download the file again" in fault_of(scan)


def test_a_gzip_file_that_lacks_only_its_checksum_is_truncated(scan: Path) -> None:
    scan.write_bytes(scan.read_bytes()[:-8])
    assert "the file is truncated" in fault_of(scan)


def test_a_wrong_checksum_is_found(scan: Path) -> None:
    content = bytearray(scan.read_bytes())
    content[-8] ^= 0xFF
    scan.write_bytes(content)
    assert "the file is damaged (CRC check failed" in fault_of(scan)


def test_damaged_compressed_data_are_found(scan: Path) -> None:
    content = bytearray(scan.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 200] = bytes(200)
    scan.write_bytes(content)
    assert "the file is damaged" in fault_of(scan)


def test_a_short_image_in_a_whole_gzip_file_is_truncated(scan: Path) -> None:
    scan.write_bytes(gzip.compress(gzip.decompress(scan.read_bytes())[:-100]))
    # 10·12·14 numbers of 4 bytes
    assert "truncated (6620 of 6720 bytes of voxels)" in fault_of(scan)


def test_a_truncated_uncompressed_file_is_found(tmp_path: Path) -> None:
    path = write(noise(), tmp_path / "scan.nii")
    path.write_bytes(path.read_bytes()[:-1])
    assert "the file is truncated" in fault_of(path)


def test_missing_and_empty_files_are_found(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    assert "no such file" in fault_of(path)
    path.touch()
    assert "the file is empty" in fault_of(path)


@pytest.mark.parametrize("content", [b"<html>404</html>", bytes(400), b"\x5c\x01\x00\x00short"])
def test_what_is_not_nifti_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(content)
    assert "is not a NIfTI-1 file" in fault_of(path)
    path.write_bytes(gzip.compress(content))
    assert "is not a NIfTI-1 file" in fault_of(path)


def test_another_image_format_under_the_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.nrrd"
    write(noise(), path)
    assert "is not a NIfTI-1 file" in fault_of(path)
    shutil.copy(path, tmp_path / "scan.nii.gz")
    assert "is not a NIfTI-1 file" in fault_of(tmp_path / "scan.nii.gz")


def test_a_series_of_volumes_is_refused(tmp_path: Path) -> None:
    path = write(noise((3, 10, 12, 14)), tmp_path / "raw.nii.gz")
    assert "is no single 3-D volume (size 14×12×10×3" in fault_of(path)


def test_several_numbers_per_voxel_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "vectors.nii.gz"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(noise((5, 6, 7, 3)), isVector=True), str(path))
    assert "3 numbers per voxel" in fault_of(path)


@pytest.mark.parametrize("pixel", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["scan.nii.gz", "scan.nii"])
def test_values_that_are_not_finite_are_counted(
    tmp_path: Path, name: str, pixel: type[np.floating]
) -> None:
    values = noise().astype(pixel)
    values[1, 2, 3], values[4, 5, 6] = np.nan, np.inf
    path = write(values, tmp_path / name)
    assert np.isfinite(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))).all()
    assert "2 voxels are NaN or infinite" in fault_of(path)


def test_a_header_that_makes_no_sense_is_damage(tmp_path: Path) -> None:
    path = write(noise(), tmp_path / "scan.nii")
    sound = path.read_bytes()
    for place, content in ((40, b"\x09\x00"), (42, b"\xff\xff"), (108, b"\x00\x00\xc0\x7f")):
        path.write_bytes(sound[:place] + content + sound[place + len(content) :])
        assert "its header makes no sense" in fault_of(path)


def test_files_of_the_other_byte_order_are_read(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(np.float32)
    values = noise().T
    nibabel.Nifti1Image(values, np.eye(4), header).to_filename(path)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(read_scan(path)), noise())
    values[0, 0, 0] = np.nan
    nibabel.Nifti1Image(values, np.eye(4), header).to_filename(path)
    assert "1 voxels are NaN" in fault_of(path)


def pair_fault(of_image: SimpleITK.Image, of_mask: SimpleITK.Image) -> str:
    with pytest.raises(BadScan) as error:
        check_pair(of_image, of_mask, Path("scan.nii.gz"), Path("mask.nii.gz"))
    return str(error.value)


def test_an_image_and_its_mask_pass() -> None:
    check_pair(image(noise()), image(a_mask()), Path("scan.nii.gz"), Path("mask.nii.gz"))


def test_a_constant_image_is_refused() -> None:
    found = pair_fault(image(np.full((10, 12, 14), 7, np.int16)), image(a_mask()))
    assert found.startswith("scan.nii.gz: every voxel is 7.")


def test_an_empty_mask_is_refused() -> None:
    found = pair_fault(image(noise()), image(np.zeros((10, 12, 14), np.uint8)))
    assert found.startswith("mask.nii.gz: the mask marks no tumour")


def test_another_size_is_refused() -> None:
    found = pair_fault(image(noise((10, 12, 13))), image(a_mask()))
    assert "is not on the grid of its mask mask.nii.gz: size 13×12×10 against 14×12×10" in found


def test_another_spacing_is_refused() -> None:
    moved = image(noise())
    moved.SetSpacing((1.0, 1.0, 1.001))
    assert "spacing (mm) 1 1 1.001 against 1 1 1" in pair_fault(moved, image(a_mask()))


def test_another_origin_is_refused() -> None:
    moved = image(noise())
    moved.SetOrigin((0.0, -238.8, 0.0))
    assert "origin (mm) 0 -238.8 0 against 0 -239 0" in pair_fault(moved, image(a_mask()))


def test_another_direction_is_refused() -> None:
    moved = image(noise())
    moved.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    assert "direction -1 0 0 0 -1 0 0 0 1 against" in pair_fault(moved, image(a_mask()))


def test_the_rounding_of_a_header_is_forgiven() -> None:
    moved = image(noise())
    # float32 keeps 239 to 1.5e-5; a quaternion's fourth component loses up to 3e-4.
    moved.SetOrigin((0.0, -239.00002, 0.0))
    moved.SetSpacing((1.0, 1.0, 1.0000001))
    moved.SetDirection((1, 3e-4, 0, -3e-4, 1, 0, 0, 0, 1))
    check_pair(moved, image(a_mask()), Path("scan.nii.gz"), Path("mask.nii.gz"))
