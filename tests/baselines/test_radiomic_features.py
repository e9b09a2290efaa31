from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import ndimage, stats

from mgmt_ray.baselines.radiomic_features import (
    BIN_WIDTH,
    DIRECTIONS,
    EMPTY_VALUE,
    FEATURES,
    empty_regions,
    energy,
    glcm_contrast,
    glszm_level_variance,
    glszm_low_level_emphasis,
    grey_levels,
    measure_features,
    measure_volumes,
    ngtdm_busyness,
    skewness,
    zone_levels,
)
from mgmt_ray.study.baseline_config import REGIONS
from tests.reference.six_features import VALUES, checksum, reference_volumes

LIBRARY = json.loads(VALUES.read_text(encoding="utf-8"))
VOLUMES = reference_volumes()


def levels_of(scan: np.ndarray, region: np.ndarray) -> np.ndarray:
    levels = np.zeros(scan.shape, np.int64)
    levels[region] = grey_levels(scan[region])
    return levels


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("name", VOLUMES)
def test_every_measure_of_every_region_is_pyradiomics(name: str, region: str) -> None:
    scan, labels = VOLUMES[name]
    assert checksum(scan, labels) == LIBRARY[name]["checksum"]
    inside = np.isin(labels, REGIONS[region])
    values, levels = scan[inside].astype(np.float64), levels_of(scan, inside)
    measured = {
        "skewness": skewness(values),
        "energy": energy(values),
        "glcm_contrast": glcm_contrast(levels),
        "glszm_level_variance": glszm_level_variance(levels),
        "glszm_low_level_emphasis": glszm_low_level_emphasis(levels),
        "ngtdm_busyness": ngtdm_busyness(levels),
    }
    for measure, value in measured.items():
        # both are double precision; the sums are over some thousand terms in another order
        assert value == pytest.approx(LIBRARY[name][region][measure], rel=1e-9, abs=1e-12), measure


def test_the_reference_regions_include_hard_cases() -> None:
    noise = VOLUMES["noise"][1] == 1
    alone = noise & (ndimage.convolve(noise.astype(int), np.ones((3, 3, 3), int)) == 1)
    assert alone.any()
    assert VOLUMES["negative"][0].min() < 0
    assert len(np.unique(VOLUMES["flat"][0])) == 1


def test_each_feature_is_of_its_own_scan_and_region() -> None:
    names = ("noise", "blob", "smooth", "negative")
    modalities = ("T1", "T1GD", "T2", "FLAIR")
    labels = VOLUMES["blob"][1]
    scans = {m: VOLUMES[name][0] for m, name in zip(modalities, names, strict=True)}
    features = measure_features(scans, labels)
    assert list(features) == [f.name for f in FEATURES]
    wanted = {
        "skewness_T1_core": stats.skew(scans["T1"][np.isin(labels, (1, 4))].astype(float)),
        "energy_T1_edema": (scans["T1"][labels == 2].astype(float) ** 2).sum(),
        "glcm_contrast_FLAIR_necrosis": LIBRARY["negative"]["necrosis"]["glcm_contrast"],
        "glszm_level_variance_T1GD_enhancing": (
            LIBRARY["blob"]["enhancing"]["glszm_level_variance"]
        ),
        "glszm_low_level_emphasis_T2_edema": LIBRARY["smooth"]["edema"]["glszm_low_level_emphasis"],
        "ngtdm_busyness_T2_core": LIBRARY["smooth"]["core"]["ngtdm_busyness"],
    }
    assert features == pytest.approx(wanted, rel=1e-9)


def test_zones_are_those_of_labelling_level_by_level() -> None:
    scan, labels = VOLUMES["smooth"]
    levels = levels_of(scan, labels > 0)
    cube = np.ones((3, 3, 3), int)
    slow = [
        level
        for level in np.unique(levels[levels > 0])
        for _ in range(ndimage.label(levels == level, cube)[1])
    ]
    assert sorted(zone_levels(levels)) == slow
    assert len(slow) > len(set(slow))


def test_levels_begin_at_1_on_multiples_of_the_width() -> None:
    values = np.array([-26.0, -25.0, -0.1, 0.0, 24.9, 25.0])
    assert grey_levels(values).tolist() == [1, 2, 2, 3, 3, 4]
    assert BIN_WIDTH == 25.0
    assert len(DIRECTIONS) == 13
    assert not {tuple(-n for n in d) for d in DIRECTIONS} & set(DIRECTIONS)


def test_an_empty_region_has_the_documented_value_and_is_named() -> None:
    scan, labels = VOLUMES["blob"]
    mask = np.where(labels == 2, 2, 0)
    features = measure_features(dict.fromkeys(("T1", "T2", "T1GD", "FLAIR"), scan), mask)
    empty = {f.name for f in FEATURES if f.region != "edema"}
    assert {name for name, value in features.items() if value == EMPTY_VALUE} == empty
    assert empty_regions(mask) == ("necrosis", "enhancing", "core")
    assert empty_regions(labels) == ()


def test_a_single_voxel_has_no_texture() -> None:
    levels = np.zeros((3, 3, 3), np.int64)
    levels[1, 1, 1] = 1
    assert glcm_contrast(levels) == ngtdm_busyness(levels) == glszm_level_variance(levels) == 0.0
    assert glszm_low_level_emphasis(levels) == 1.0
    assert skewness(np.array([0.1])) == 0.0


def test_volumes_are_in_ml() -> None:
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[0], labels[1], labels[2, 0, 0], labels[3, 0] = 1, 2, 4, 3
    assert measure_volumes(labels, 0.002) == pytest.approx(
        {"necrosis_ml": 0.032, "edema_ml": 0.032, "enhancing_ml": 0.002, "tumour_ml": 0.074}
    )
