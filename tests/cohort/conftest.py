"""What the tests of several readers share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mgmt_ray.cohort.reader import ReaderResult
from mgmt_ray.cohort.subject import STRUCTURAL, Subject
from mgmt_ray.synthetic.scan_writer import write_scan


def touch(*paths: Path) -> Path:
    """Empty files: readers do not open scans; the last of them."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return paths[-1]


def reasons(result: ReaderResult) -> dict[str, str]:
    return {e.subject: e.reason for e in result.exclusions if e.scope == "cohort"}


def kinds(result: ReaderResult) -> dict[str, str]:
    return {problem.subject: problem.kind for problem in result.problems}


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Subject, ...]:
    """Ten subjects of nine persons, every second methylated, every third without age."""
    folder = tmp_path_factory.mktemp("source")
    random = np.random.default_rng(0)
    subjects = []
    for number in range(10):
        scans = {m: folder / f"{number}_{m}.nii.gz" for m in STRUCTURAL}
        mask = folder / f"{number}_mask.nii.gz"
        for path in scans.values():
            write_scan(random.integers(1, 999, (4, 5, 6)).astype(np.int16), path)
        write_scan(random.integers(0, 2, (4, 5, 6)).astype(np.uint8), mask)
        covariates = {"sex": "F"} if number % 3 == 0 else {"sex": "M", "age": f"{40 + number}"}
        person = f"Q{min(number, 8)}"
        subjects.append(Subject(f"S{number}", number % 2, scans, mask, covariates, person))
    return tuple(subjects)
