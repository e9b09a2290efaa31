from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from benchmarks.audit import COPIES, FILE_CODES, Image
from mgmt_ray.audit.plain_properties import nifti_facts


@pytest.mark.parametrize("code", FILE_CODES)
def test_a_coded_file_differs_in_a_property_and_keeps_its_tissue(code: str, tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(1, 99, (6, 7, 8)).astype(np.int16)
    path, plain = tmp_path / "a.nii.gz", tmp_path / "plain.nii.gz"
    for file in (path, plain):
        nibabel.Nifti1Image(voxels, np.eye(4)).to_filename(file)
    for file, change in ((path, FILE_CODES[code]), (plain, lambda image: None)):
        image = Image.read(file)
        change(image)
        image.write(file)
    assert dict(nifti_facts(path)) != dict(nifti_facts(plain))
    values = np.asanyarray(nibabel.load(path).dataobj)
    assert sorted(values[values != 0].tolist()) == sorted(voxels.ravel().tolist())


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_differs_from_its_original_and_has_a_tumour(kind: str) -> None:
    random = np.random.default_rng(0)
    scan = random.integers(1, 99, (16, 16, 16)).astype(np.float64)
    mask = np.zeros(scan.shape, np.uint8)
    mask[3:12, 4:13, 3:13] = 1
    changed = COPIES[kind]({"mask": mask, "FLAIR": scan}, random)
    assert (changed["mask"] > 0).any()
    assert not all(np.array_equal(changed[n], v) for n, v in (("mask", mask), ("FLAIR", scan)))
