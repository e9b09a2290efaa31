from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from mgmt_ray.base import stream
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.preprocess.recipe import RecipeConfig

MakeSubject = Callable[..., Subject]


def write_scan(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(path))


def ball(shape: Sequence[int], centre: Sequence[float], radius: float) -> np.ndarray:
    offsets = np.ogrid[tuple(slice(n) for n in shape)]
    squares = sum((o - c) ** 2 for o, c in zip(offsets, centre, strict=True))
    return np.asarray(squares <= radius**2)


@pytest.fixture
def recipe() -> RecipeConfig:
    """For scans of 24 × 32 × 28 voxels: 20 × 24 × 24 of them, shrunk to 10 × 12 × 12."""
    return RecipeConfig(
        window=((2, 22), (4, 28), (2, 26)), shape=(10, 12, 14), deform_sigma_voxels=1.0
    )


@pytest.fixture
def make_subject(tmp_path: Path) -> MakeSubject:
    """Writes a subject's scans (by default positive noise in air) and its mask (a ball)."""

    def make(
        subject_id: str = "S1",
        modalities: Sequence[str] = ("T1",),
        mask: np.ndarray | None = None,
        scan: np.ndarray | None = None,
    ) -> Subject:
        folder = tmp_path / "scans" / subject_id
        if mask is None:
            mask = ball((24, 32, 28), (11, 15, 11), 6)
        write_scan(folder / "mask.nii.gz", mask.astype(np.uint8))
        scans = {}
        for modality in modalities:
            scans[modality] = folder / f"{modality}.nii.gz"
            draws = stream(0, "test scan", subject_id, modality)
            drawn = draws.integers(1, 2000, mask.shape).astype(np.int16)
            drawn[:, [0, -1]] = drawn[:, :, [0, -1]] = 0
            write_scan(scans[modality], drawn if scan is None else scan)
        return Subject(subject_id, 0, scans, folder / "mask.nii.gz")

    return make


@pytest.fixture
def cohort(make_subject: MakeSubject) -> Cohort:
    """Three subjects with T1 and two of them with FLAIR."""
    return Cohort(
        (
            make_subject("S1", ("T1", "FLAIR")),
            make_subject("S2", ("T1", "FLAIR")),
            make_subject("S3", ("T1",)),
        )
    )
