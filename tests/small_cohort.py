from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mgmt_ray.synthetic.generate import SyntheticConfig, synthesize

SMALL = SyntheticConfig(
    subjects=20,
    grid=(24, 28, 26),
    modalities=("PH", "PSR", "FA", "TR", "FLAIR", "T1GD"),
    signal={"PH": 2.0},
    methylated_fraction=0.4,
    without_dti=0.1,
    without_dsc=0.3,
    follow_ups=0.3,
    raw_dsc=0.5,
    corrected_masks=0.25,
    indeterminate=2,
    not_available=1,
    without_scans=3,
    seed=5,
)


@pytest.fixture(scope="session")
def small_config() -> SyntheticConfig:
    return SMALL


@pytest.fixture(scope="session")
def small_cohort(made_once: Callable[..., Path]) -> Path:
    """A small synthetic cohort that no test may change."""
    return made_once("small_cohort", lambda folder: synthesize(SMALL, folder))
