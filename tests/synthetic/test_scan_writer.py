from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from mgmt_ray.cohort.scan import read_scan
from mgmt_ray.synthetic.scan_writer import pack_mask, read_comment


@pytest.mark.parametrize("axes", ["LPS", "RAS", "PIR", "SLA"])
def test_a_mask_lies_on_its_scans_grid_in_its_files_own_order(axes: str, tmp_path: Path) -> None:
    """An oblique scan with unequal voxels, stored in any order of axes."""
    values = np.arange(5 * 6 * 7, dtype=np.float32).reshape(5, 6, 7)
    turned = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
    affine = np.eye(4)
    affine[:3, :3] = turned @ np.diag([1.0, 1.5, 3.0])
    affine[:3, 3] = (10.0, -20.0, 30.0)
    image = nibabel.Nifti1Image(values, affine)
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(tuple(axes)))
    image.as_reoriented(turn).to_filename(tmp_path / "scan.nii.gz")
    scan = read_scan(tmp_path / "scan.nii.gz")
    tumour = np.isin(scan.voxels, (17.0, 18.0, 120.0))
    path = tmp_path / "mask.nii.gz"
    path.write_bytes(pack_mask(tumour, tmp_path / "scan.nii.gz", "größer"))
    assert read_comment(path) == "größer"
    mask = read_scan(tmp_path / "mask.nii.gz")
    assert mask.grid.difference(scan.grid) == ""
    assert mask.voxels.dtype == np.uint8
    assert (mask.voxels == tumour).all()
    # and for programs that look at neither orientation nor place
    stored = np.asanyarray(nibabel.load(tmp_path / "mask.nii.gz").dataobj)
    of_scan = np.asanyarray(nibabel.load(tmp_path / "scan.nii.gz").dataobj)
    assert (stored == np.isin(of_scan, (17.0, 18.0, 120.0))).all()


def test_equal_masks_are_equal_files(tmp_path: Path) -> None:
    nibabel.Nifti1Image(np.ones((3, 4, 5), np.float32), np.eye(4)).to_filename(tmp_path / "s.nii")
    tumour = np.zeros((5, 4, 3), bool)
    tumour[2, 1:3, 1] = True
    first, second = (pack_mask(tumour, tmp_path / "s.nii", "a comment") for _ in range(2))
    assert first == second
