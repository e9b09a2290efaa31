from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path

import nibabel
import numpy as np
import pytest

from mgmt_ray.cohort.problem import BadScan
from mgmt_ray.cohort.scan import read_mask, read_scan
from mgmt_ray.cohort.subject import AS_STORED, ScanConventions

SHAPE = (14, 12, 10)
AFFINE = np.array([[-1.0, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])
VALUES = np.random.default_rng(0).integers(1, 200, SHAPE).astype(np.int16)
READ = VALUES.T
MOVED = [-1.0, 0, 0, 5]


def write(
    path: Path,
    change: Mapping[str, object] = {},
    kind: type[nibabel.Nifti1Image] = nibabel.Nifti1Image,
    cut: int = 0,
    affine: np.ndarray = AFFINE,
) -> Path:
    """Write a sound file, then change fields of its header; ``cut`` bytes before the voxels go."""
    content = kind(VALUES, affine).to_bytes()
    size = kind.header_class.sizeof_hdr
    header = kind.header_class(content[:size])
    header.set_qform(affine, 1)
    for name, value in change.items():
        header[name] = value
    content = header.binaryblock + content[size : size + 4 - cut] + content[size + 4 :]
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def fault_of(path: Path, conventions: ScanConventions = AS_STORED) -> BadScan:
    with pytest.raises(BadScan) as error:
        read_scan(path, conventions)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)
    return error.value


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("cut", [0, 4])
@pytest.mark.parametrize("offset", [0, 16, 348])
def test_voxels_that_begin_within_the_header_are_read_where_the_header_ends(
    tmp_path: Path, offset: int, cut: int, kind: type[nibabel.Nifti1Image]
) -> None:
    path = write(tmp_path / "scan.nii.gz", {"vox_offset": offset}, kind, cut)
    np.testing.assert_array_equal(read_scan(path).voxels, READ)


@pytest.mark.parametrize(
    ("offset", "kind", "says"),
    [
        (np.nan, "damaged", "its header is invalid"),
        (np.inf, "damaged", "its header is invalid"),
        (360.5, "damaged", "its voxels begin at byte 360.5"),
        (-352, None, ""),
        (99_999, "truncated", "0 of 3360 bytes"),
        (400, "truncated", "3312 of 3360 bytes"),
    ],
)
def test_other_offsets_are_refused_unless_the_length_tells(
    tmp_path: Path, offset: float, kind: str | None, says: str
) -> None:
    path = write(tmp_path / "scan.nii", {"vox_offset": offset})
    if kind is None:
        np.testing.assert_array_equal(read_scan(path).voxels, READ)
        return
    fault = fault_of(path)
    assert fault.kind == kind and says in fault.found


def test_an_offset_within_the_header_of_a_longer_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "scan.nii", {"vox_offset": 16})
    path.write_bytes(path.read_bytes() + bytes(3))
    fault = fault_of(path)
    assert fault.kind == "damaged" and "begin at byte 16, which is within the header" in fault.found


@pytest.mark.parametrize(("unit", "factor"), [(0, 1), (2, 1), (1, 1000), (3, 0.001), (10, 1)])
def test_millimetres_follow_from_the_headers_unit(tmp_path: Path, unit: int, factor: float) -> None:
    affine = AFFINE.copy()
    affine[:3] /= factor
    path = write(tmp_path / "scan.nii.gz", {"xyzt_units": unit}, affine=affine)
    grid = read_scan(path).grid
    assert grid.spacing_mm == pytest.approx((1, 1, 1))
    assert grid.origin_mm == pytest.approx((0, -239, 0))


@pytest.mark.parametrize(
    ("scale", "unit", "says"),
    [
        (0.0001, 2, "0.0001×0.0001×0.0001 mm, which no scanner makes"),
        (500, 0, "500×500×500 mm, which no scanner makes"),
        (1, 1, "1000×1000×1000 mm, which no scanner makes (its header counts in metres)"),
        (1, 3, "0.001×0.001×0.001 mm, which no scanner makes (its header counts in micrometres)"),
    ],
)
def test_spacings_that_no_scanner_makes_are_refused(
    tmp_path: Path, scale: float, unit: int, says: str
) -> None:
    affine = np.diag([-scale, -scale, scale, 1.0])
    fault = fault_of(write(tmp_path / "scan.nii.gz", {"xyzt_units": unit}, affine=affine))
    assert fault.kind == "impossible_spacing" and fault.found == f"its voxels measure {says}"


TURNED = {"quatern_b": 0.0, "quatern_c": np.sin(np.pi / 8), "quatern_d": 0.0}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"srow_x": MOVED}, "differently: origin (mm) -5 -239 0 against 0 -239 0"),
        ({"qoffset_z": 1.0}, "differently: origin (mm) 0 -239 0 against 0 -239 1"),
        ({"pixdim": [1, 1, 1, 2, 1, 1, 1, 1]}, "differently: spacing (mm) 1 1 1 against 1 1 2"),
        ({"pixdim": [-1, 1, 1, 1, 1, 1, 1, 1]}, "differently: direction"),  # the handedness
        (TURNED, "differently: direction"),
        ({"srow_x": 0, "srow_y": 0, "srow_z": 0}, "sform is singular or not finite, and its qform"),
        ({"srow_z": 0}, "sform is singular or not finite, and its qform is sound"),
        (
            {"srow_x": np.nan, "qform_code": 0},
            "sform is singular or not finite, and its qform is not declared (its code is 0)",
        ),
        ({"quatern_b": 2.0}, "its qform is singular or not finite, and its sform is sound"),
        ({"sform_code": 0, "qform_code": 0}, "says neither by its sform nor by its qform"),
    ],
)
def test_an_unclear_position_is_a_problem_until_a_form_is_trusted(
    tmp_path: Path, change: dict[str, object], says: str
) -> None:
    path = write(tmp_path / "scan.nii.gz", change)
    fault = fault_of(path)
    assert fault.kind == "unclear_position" and says in fault.found
    assert "cohort.trust_form: sform or qform" in fault.setting
    header = nibabel.Nifti1Header(gzip.decompress(path.read_bytes())[:348], check=False)
    for form, affine in (("sform", header.get_sform()), ("qform", None)):
        conventions = ScanConventions(trust_form=form)  # type: ignore[arg-type]
        if f"{form} is singular" in says:
            assert fault_of(path, conventions).kind == "damaged"
            continue
        affine = header.get_qform() if affine is None else affine
        nibabel.Nifti1Image(VALUES, affine).to_filename(tmp_path / "clear.nii.gz")
        trusted, clear = read_scan(path, conventions), read_scan(tmp_path / "clear.nii.gz")
        assert not trusted.grid.difference(clear.grid)
        np.testing.assert_array_equal(trusted.voxels, clear.voxels)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"qform_code": 0, "quatern_c": 0.5, "qoffset_x": 40.0},  # not declared, so not meant
        {"sform_code": 0, "srow_x": 0},
        {"qoffset_x": 0.05},  # less than headers are rounded by
    ],
)
@pytest.mark.parametrize("trust", [None, "sform", "qform"])
def test_a_clear_position_needs_no_trust(
    tmp_path: Path, change: dict[str, object], trust: str | None
) -> None:
    path = write(tmp_path / "scan.nii.gz", change)
    conventions = ScanConventions(trust_form=trust)  # type: ignore[arg-type]
    assert read_scan(path, conventions).grid.origin_mm == pytest.approx((0, -239, 0), abs=0.06)


def test_labels_are_whole_numbers_within_rounding(tmp_path: Path) -> None:
    labels = np.zeros(SHAPE)
    labels[2:5, 2, 2] = (1, 2, 4)
    for dtype in (np.uint8, np.int16, np.float32):
        image = nibabel.Nifti1Image(labels, AFFINE)
        image.set_data_dtype(dtype)  # integers get a slope
        image.to_filename(tmp_path / "mask.nii.gz")
        mask = read_mask(tmp_path / "mask.nii.gz")
        assert mask.voxels.dtype.kind == "i"
        np.testing.assert_array_equal(mask.voxels, labels.T)
    for wrong in (0.5, 3.98, 1e12):
        labels[3, 3, 3] = wrong
        nibabel.Nifti1Image(labels, AFFINE).to_filename(tmp_path / "mask.nii.gz")
        assert read_mask(tmp_path / "mask.nii.gz").voxels.max() == max(wrong, 4)


def test_the_value_of_background_is_read_as_0(tmp_path: Path) -> None:
    values = VALUES.astype(np.float32)
    values[:4] = -1024.1
    nibabel.Nifti1Image(values, AFFINE).to_filename(tmp_path / "scan.nii.gz")
    voxels = read_scan(tmp_path / "scan.nii.gz", ScanConventions(background=-1024.1)).voxels
    np.testing.assert_allclose(voxels, np.where(values.T < 0, 0, values.T + 1024.1), rtol=1e-6)
    assert not voxels[..., :4].any()


@pytest.mark.parametrize(
    ("content", "says", "remedy"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7\n", "Git LFS", "git lfs"),
        (b"/annex/objects/SHA256E-s1--ab.nii.gz\n", "git-annex", "git annex get"),
        (b"\n<!DOCTYPE html><title>Log in</title>", "web page", "Download the file again"),
        (b"<?xml version='1.0'?><html>", "web page", "Download the file again"),
        (b"<Error><Code>AccessDenied</Code>", "begins with the text '<Error><Code>", "Write it"),
        (b"PK\x03\x04" + bytes(40), "zip archive", "Unpack"),
        (gzip.compress(b"x", mtime=0), "compressed twice", "once"),
        (bytes(128) + b"DICM", "a single DICOM file", "folder of its series"),
        (b"\x5c\x01\0\0" + bytes(340) + b"ni1\0", "header of a NIfTI pair", "one .nii.gz"),
        (b"\x5c\x01\0\0" + bytes(344), "header of an Analyze pair", "one .nii.gz"),
        (bytes(range(256)) * 4, "is not a NIfTI file", "Write it as .nii.gz"),
    ],
)
def test_what_a_file_really_is_is_said(
    tmp_path: Path, content: bytes, says: str, remedy: str
) -> None:
    path = tmp_path / "scan.nii.gz"
    for packed in (gzip.compress(content), content):
        path.write_bytes(packed)
        if packed is content and content[:2] == b"\x1f\x8b":
            continue  # compressed once
        fault = fault_of(path)
        assert fault.kind == "wrong_format"
        assert says in fault.found and "is not a NIfTI file" in fault.found
        assert remedy in fault.remedy


def test_pairs_folders_and_broken_links_are_named(tmp_path: Path) -> None:
    nibabel.Nifti1Pair(VALUES, AFFINE).to_filename(tmp_path / "scan.hdr")
    assert "header of a NIfTI pair" in fault_of(tmp_path / "scan.hdr").found
    assert "the image of a pair" in fault_of(tmp_path / "scan.img").found
    folder = tmp_path / "scan.nii.gz"
    folder.mkdir()
    assert "is a folder" in fault_of(folder).found
    write(folder / "real.nii")
    assert fault_of(folder).remedy == "Give the file real.nii in it"
    link = tmp_path / "link.nii.gz"
    link.symlink_to(".git/annex/objects/nothing.nii.gz")
    fault = fault_of(link)
    assert (fault.kind, fault.found) == ("no_file", "the link is broken")
    assert "git annex get" in fault.remedy
