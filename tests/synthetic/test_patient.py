from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK

from mgmt_ray.cohort.scan import check_grid, read_scan
from mgmt_ray.cohort.upenn import UpennConfig, read_upenn
from mgmt_ray.synthetic.generate import SyntheticConfig, synthesize


def voxels(path: Path) -> np.ndarray:
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))


def test_all_files_have_the_public_names(tmp_path: Path) -> None:
    config = SyntheticConfig(
        subjects=1,
        grid=(16, 16, 16),
        without_dti=0.0,
        without_dsc=0.0,
        follow_ups=1.0,
        raw_dsc=1.0,
        corrected_masks=1.0,
        indeterminate=0,
        not_available=0,
        without_scans=0,
    )
    synthesize(config, tmp_path)
    name, later = "UPENN-GBM-00001_11", "UPENN-GBM-00001_21"
    structural = [f"images_structural/{i}/{i}" for i in (name, later)]
    names = [f"{path}_{scan}" for path in structural for scan in ("T1", "T1GD", "T2", "FLAIR")]
    names += [f"images_DTI/{name}/{name}_DTI_{scan}" for scan in ("AD", "FA", "RD", "TR")]
    names += [f"images_DSC/{name}/{name}_DSC_{scan}" for scan in ("ap-rCBV", "PH", "PSR")]
    names += [f"images_DSC/{name}/{name}_DSC", f"images_segm/{name}_segm"]
    names += [f"automated_segm/{name}_automated_approx_segm"]
    assert {str(f.relative_to(tmp_path)) for f in tmp_path.rglob("*") if f.is_file()} == {
        *(f"NIfTI-files/{path}.nii.gz" for path in names),
        "UPENN-GBM_clinical_info_v2.1.csv",
        "planted.json",
    }
    raw = SimpleITK.ReadImage(str(tmp_path / f"NIfTI-files/images_DSC/{name}/{name}_DSC.nii.gz"))
    assert raw.GetDimension() == 4


def test_corrected_masks_exist_with_automatic_ones_that_miss_edema(small_cohort: Path) -> None:
    images = small_cohort / "NIfTI-files"
    corrected = sorted((images / "images_segm").iterdir())
    assert len(corrected) == 5
    differing = 0
    for path in corrected:
        name = path.name.removesuffix("_segm.nii.gz")
        by_hand = voxels(path)
        automatic = voxels(images / "automated_segm" / f"{name}_automated_approx_segm.nii.gz")
        assert set(np.unique(by_hand[by_hand != automatic])) <= {2}
        differing += bool((by_hand != automatic).any())
    assert differing >= 4


def test_every_scan_is_sound_and_looks_like_a_public_one(small_cohort: Path) -> None:
    modalities = ("PH", "PSR", "FA", "TR", "FLAIR", "T1GD")
    negative = 0
    config = UpennConfig(reader="upenn", root=small_cohort, modalities=modalities)
    for subject in read_upenn(config).subjects:
        mask = read_scan(subject.mask)
        assert set(np.unique(mask.voxels)) == {0, 1, 2, 4}
        for modality, path in subject.scans.items():
            scan = read_scan(path)
            check_grid(scan, mask, path, subject.mask)
            image = SimpleITK.ReadImage(str(path))
            assert image.GetSpacing() == (1.0, 1.0, 1.0)
            assert image.GetOrigin() == (0.0, -27.0, 0.0)
            assert image.GetDirection() == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
            values = scan.voxels
            assert values.shape == (24, 28, 26)
            inside = values[mask.voxels > 0]
            match modality:
                case "FLAIR" | "T1GD":
                    assert values.dtype == np.int16
                    assert inside.min() > 0
                case "FA":
                    assert 0 <= values.min() < values.max() <= 1
                case "TR":
                    assert 0 <= values.min() < values.max() < 0.02
                case "PH":
                    assert (values == np.rint(values)).all()
                case "PSR":
                    negative += np.count_nonzero(values < 0)
    # 14 brains of about 5 000 voxels, 2 in 10 000 of them: 14 expected.
    assert 1 <= negative < 50


def test_the_table_is_of_version_2_1(small_cohort: Path) -> None:
    rows = pd.read_csv(small_cohort / "UPENN-GBM_clinical_info_v2.1.csv")
    columns = {"ID", "Gender", "Age_at_scan_years", "IDH1", "MGMT", "KPS", "GTR_over90percent"}
    assert columns <= set(rows.columns)
    assert len(rows) == 20 + 2 + 1 + 3 + 6
    assert rows["Age_at_scan_years"].between(19, 89).all()
