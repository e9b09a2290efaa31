from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from pydantic import ValidationError
from scipy import stats

from mgmt_ray.base import MgmtError, file_checksum
from mgmt_ray.cohort.cohort import Cohort, exclusion_flow
from mgmt_ray.cohort.upenn import UpennConfig, read_upenn
from mgmt_ray.synthetic.generate import SyntheticConfig, synthesize

TABLE = "UPENN-GBM_clinical_info_v2.1.csv"


def checksums(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): file_checksum(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def voxels(path: Path) -> np.ndarray:
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))


def only(config: SyntheticConfig, **changes: object) -> SyntheticConfig:
    """Only labelled subjects with all scans, with further changes."""
    plain = {
        "without_dti": 0,
        "without_dsc": 0,
        "follow_ups": 0,
        "raw_dsc": 0,
        "corrected_masks": 0,
        "indeterminate": 0,
        "not_available": 0,
        "without_scans": 0,
    }
    return SyntheticConfig.model_validate(config.model_dump() | plain | changes)


def cohort_of(root: Path, modalities: tuple[str, ...] = ()) -> Cohort:
    found = read_upenn(UpennConfig(reader="upenn", root=root, modalities=modalities))
    assert found.problems == ()
    return Cohort(found.subjects, found.exclusions)


def test_the_reader_selects_exactly_the_labelled_subjects(
    small_cohort: Path, small_config: SyntheticConfig
) -> None:
    modalities = small_config.modalities
    cohort = cohort_of(small_cohort, modalities)
    assert exclusion_flow(cohort, modalities) == [
        ("found", 32),
        ("excluded: MGMT Indeterminate", 2),
        ("excluded: MGMT Not Available", 1),
        ("excluded: follow-up scan", 6),
        ("excluded: no baseline scans", 3),
        ("in the cohort", 20),
        ("  methylated", 8),
        ("  unmethylated", 12),
        ("  with DSC", 14),
        ("  with DTI", 18),
        ("  with Struct", 20),
    ]
    by_group = Counter((e.scope, e.reason) for e in cohort.exclusions if e.scope != "cohort")
    assert by_group == {("DTI", "no DTI"): 2, ("DSC", "no DSC"): 6}
    assert all("FA" in s.scans for s in cohort.subjects if "PH" in s.scans)
    kinds = Counter(s.covariates["mask_kind"] for s in cohort.subjects)
    assert kinds == {"corrected": 5, "automatic": 15}


def test_what_was_planted_is_noted(small_cohort: Path) -> None:
    planted = json.loads((small_cohort / "planted.json").read_text(encoding="utf-8"))
    assert planted.pop("settings")
    assert planted == {"signal": {"PH": 2.0}, "subjects": 20, "seed": 5, "grid": [24, 28, 26]}


def test_the_same_settings_give_the_same_files_to_the_byte(
    small_cohort: Path, small_config: SyntheticConfig, tmp_path: Path
) -> None:
    synthesize(small_config, tmp_path)
    assert checksums(tmp_path) == checksums(small_cohort)


def test_another_seed_gives_other_tumours_and_textures(
    small_cohort: Path, small_config: SyntheticConfig, tmp_path: Path
) -> None:
    synthesize(only(small_config, subjects=3, seed=6), tmp_path)
    mine, other = checksums(small_cohort), checksums(tmp_path)
    scans = [name for name in other if name in mine and name.endswith(".nii.gz")]
    assert len(scans) >= 6
    assert not [name for name in scans if mine[name] == other[name]]


def test_a_scan_does_not_depend_on_what_else_is_written(
    small_cohort: Path, small_config: SyntheticConfig, tmp_path: Path
) -> None:
    changed = small_config.model_copy(update={"modalities": ("PH", "FLAIR"), "follow_ups": 0.0})
    synthesize(changed, tmp_path)
    mine, all_of_them = checksums(tmp_path), checksums(small_cohort)
    scans = [name for name in mine if name.endswith(("_PH.nii.gz", "_FLAIR.nii.gz"))]
    assert len(scans) > 30
    assert {name: mine[name] for name in scans} == {name: all_of_them[name] for name in scans}


def test_without_signal_no_voxel_depends_on_the_label(
    small_config: SyntheticConfig, tmp_path: Path
) -> None:
    for fraction in (0.0, 1.0):
        config = small_config.model_copy(
            update={"subjects": 8, "methylated_fraction": fraction, "without_scans": 0}
        )
        synthesize(config, tmp_path / f"{fraction:g}")
    none, all_methylated = checksums(tmp_path / "0"), checksums(tmp_path / "1")
    assert none.keys() == all_methylated.keys()
    differing = {name for name in none if none[name] != all_methylated[name]}
    with_signal = {name for name in none if name.endswith("_PH.nii.gz")}
    assert differing == with_signal | {TABLE, "planted.json"}
    assert len(with_signal) >= 6


def test_the_labels_texture_survives_halving_and_the_mean_does_not_depend_on_it(
    tmp_path: Path,
) -> None:
    config = SyntheticConfig(
        subjects=40,
        grid=(44, 52, 52),
        modalities=("PH", "FLAIR"),
        signal={"PH": 2.0},
        methylated_fraction=0.5,
        seed=1,
    )
    synthesize(only(config), tmp_path)
    cohort = cohort_of(tmp_path, config.modalities)
    labels = np.array([s.label for s in cohort.subjects])
    auc = {}
    for modality in config.modalities:
        grain, mean = zip(
            *(grain_and_mean(s.scans[modality], s.mask) for s in cohort.subjects), strict=True
        )
        auc[modality] = (area_under_curve(labels, grain), area_under_curve(labels, mean))
    assert auc["PH"][0] > 0.95
    # Under chance an AUC of 20 against 20 scatters by 0.092; 2.5 of that.
    for chance in (auc["PH"][1], *auc["FLAIR"]):
        assert chance == pytest.approx(0.5, abs=0.23)


def grain_and_mean(scan: Path, mask: Path) -> tuple[float, float]:
    """Lag-1 autocorrelation inside the tumour after 2×2×2 averaging, and the mean before."""
    values, tumour = voxels(scan).astype(float), voxels(mask) > 0
    depth, height, width = (n // 2 for n in values.shape)
    blocks = (depth, 2, height, 2, width, 2)
    coarse = values.reshape(blocks).mean(axis=(1, 3, 5))
    inside = tumour.reshape(blocks).all(axis=(1, 3, 5))
    squares: list[float] = []
    for axis in range(3):
        c, i = np.moveaxis(coarse, axis, 0), np.moveaxis(inside, axis, 0)
        squares += ((c[1:] - c[:-1])[i[1:] & i[:-1]] ** 2).tolist()
    return 1 - float(np.mean(squares)) / (2 * coarse[inside].var()), float(values[tumour].mean())


def area_under_curve(labels: np.ndarray, values: tuple[float, ...]) -> float:
    scores = np.array(values)
    statistic = stats.mannwhitneyu(scores[labels == 1], scores[labels == 0]).statistic
    return float(statistic) / (np.sum(labels == 1) * np.sum(labels == 0))


def test_an_interrupted_cohort_is_completed_to_the_same_bytes(
    small_cohort: Path, small_config: SyntheticConfig, tmp_path: Path
) -> None:
    class Interruption(Exception):
        pass

    def interrupt(done: int, total: int) -> None:
        if done == total // 2:
            raise Interruption

    with pytest.raises(Interruption):
        synthesize(small_config, tmp_path, interrupt)
    with pytest.raises(MgmtError, match="no clinical table"):
        cohort_of(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nii.gz")}
    synthesize(small_config, tmp_path)
    assert checksums(tmp_path) == checksums(small_cohort)
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_progress_counts_the_subjects_that_have_scans(
    small_config: SyntheticConfig, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    config = only(small_config, subjects=2, modalities=("PH",), without_scans=1, indeterminate=1)
    synthesize(config, tmp_path, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_folder_with_another_cohort_is_left_alone(
    small_config: SyntheticConfig, tmp_path: Path
) -> None:
    config = only(small_config, subjects=1, modalities=("PH",))
    synthesize(config, tmp_path)
    before = checksums(tmp_path)
    with pytest.raises(MgmtError, match="holds a cohort of other settings"):
        synthesize(config.model_copy(update={"signal": {}}), tmp_path)
    (tmp_path / "planted.json").unlink()
    with pytest.raises(MgmtError, match="Choose another folder"):
        synthesize(config, tmp_path)
    before.pop("planted.json")
    assert checksums(tmp_path) == before


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"signal": {"T1c": 1.0}}, "signal in T1c, which is not among the modalities"),
        ({"signal": {"PH": -1.0}}, "at least 0"),
        ({"modalities": ("PHH",)}, "no modality PHH; available: ap-rCBV"),
        ({"grid": (10, 20, 20)}, "must be at least 16 voxels"),
        ({"without_dti": 0.5, "without_dsc": 0.4}, "subjects with DSC have DTI too"),
        ({"subject": 3}, "Extra inputs are not permitted"),
    ],
)
def test_impossible_cohorts_are_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        SyntheticConfig.model_validate(changes)
