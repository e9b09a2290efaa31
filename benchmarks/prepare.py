"""Speed of preparing volumes: ``python -m benchmarks.prepare`` (see README.md)."""

from __future__ import annotations

import json
import os
import resource
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from mgmt_ray.base import MgmtError
from mgmt_ray.cluster.connection import connect_ray
from mgmt_ray.cluster.parallel_map import parallel_map
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.subject import MODALITIES, Subject
from mgmt_ray.cohort.upenn import UpennConfig, read_upenn
from mgmt_ray.data.prepare_stores import prepare_volumes
from mgmt_ray.preprocess.recipe import RecipeConfig, versions
from mgmt_ray.preprocess.volumes import make_volumes
from mgmt_ray.synthetic.anatomy import UPENN_GRID
from mgmt_ray.synthetic.generate import SyntheticConfig, synthesize
from tests.reference.plain_volumes import plain_version

PAPER_SUBJECTS = 240
CORES = 2


@dataclass(frozen=True)
class Options:
    """Measure the preparation of volumes.

    Attributes:
        subjects: how many are measured
        grid: depth, height, width of the synthetic scans; smaller for a quick look
        data: a copy of UPENN-GBM to measure on; none: a synthetic cohort that is deleted afterwards
    """

    subjects: int = 10
    grid: tuple[int, int, int] = UPENN_GRID
    data: Path | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Seconds of both implementations for one subject, and the largest difference of a voxel."""

    ours_s: float
    plain_s: float
    difference: float


@dataclass(frozen=True, slots=True)
class ThroughRay:
    """Preparation of all subjects through Ray and the store: seconds, peak memory of a worker."""

    seconds: float
    worker_peak_mb: float


def main(options: Options) -> None:
    """Measure, and print a line per subject and the summary as one line of JSON.

    Raises:
        MgmtError: no subject has all modalities.
    """
    with tempfile.TemporaryDirectory(prefix="mgmt-ray-benchmark-") as scratch:
        subjects = find_subjects(options, Path(scratch))
        recipe = recipe_for(UPENN_GRID if options.data else options.grid)
        comparisons = []
        for subject in subjects:
            comparisons.append(compare(subject, recipe))
            print(subject.id, comparisons[-1], flush=True)
        through_ray = prepare_on_ray(Cohort(tuple(subjects)), recipe, Path(scratch))
        print(json.dumps(summary(options, comparisons, through_ray)))


def find_subjects(options: Options, scratch: Path) -> list[Subject]:
    """Return the first subjects that have all modalities, from a copy or synthesised."""
    root = options.data or scratch / "cohort"
    if options.data is None:
        started = time.perf_counter()
        whole = SyntheticConfig(
            subjects=options.subjects, grid=options.grid, without_dti=0, without_dsc=0
        )
        synthesize(whole, root)
        print(f"synthesised {options.subjects} subjects in {time.perf_counter() - started:.0f} s")
    found = read_upenn(UpennConfig(reader="upenn", root=root)).subjects
    complete = [subject for subject in found if subject.has_all(MODALITIES)][: options.subjects]
    if not complete:
        raise MgmtError(f"{root}: no subject has all modalities. Give another copy with --data.")
    return complete


def recipe_for(grid: tuple[int, int, int]) -> RecipeConfig:
    """Return the paper's recipe, or for a smaller grid one that keeps all of it.

    A real tumour that the paper's window clips takes as long to prepare.
    """
    if grid == UPENN_GRID:
        return RecipeConfig(allow_clipping=True)
    depth, height, width = (size // 2 for size in grid)
    return RecipeConfig(
        window=((0, 2 * depth), (0, 2 * height), (0, 2 * width)),
        shape=(depth, max(height, width), max(height, width)),
    )


def compare(subject: Subject, recipe: RecipeConfig) -> Comparison:
    """Prepare all modalities and versions of a subject with the package, then plainly."""
    names = versions(recipe)
    started = time.perf_counter()
    made = make_volumes(subject, dict.fromkeys(MODALITIES, names), recipe)
    ours_s = time.perf_counter() - started
    plain_s = difference = 0.0
    for modality in MODALITIES:
        for i, name in enumerate(names):
            started = time.perf_counter()
            plain, _ = plain_version(subject, modality, name, recipe)
            plain_s += time.perf_counter() - started
            difference = max(difference, float(np.abs(made[modality][0][i] - plain).max()))
    return Comparison(ours_s, plain_s, difference)


def prepare_on_ray(cohort: Cohort, recipe: RecipeConfig, scratch: Path) -> ThroughRay:
    """Prepare as ``mgmt-ray prepare`` does; includes the start of workers, but not of Ray."""
    resources = Resources()
    with connect_ray("local", cpus=CORES):
        started = time.perf_counter()
        prepare_volumes(
            cohort, MODALITIES, recipe, scratch / "volumes", resources, lambda done, total: None
        )
        seconds = time.perf_counter() - started
        # Ray runs these tasks on the existing workers
        peaks = dict(
            peak for _, peak in parallel_map(worker_peak, range(2 * CORES), None, resources)
        )
    return ThroughRay(seconds, max(peaks.values()))


def worker_peak(_task: int, _shared: None) -> tuple[int, float]:
    """Return this worker's process id and its peak resident memory in MB."""
    time.sleep(0.2)
    return os.getpid(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def summary(
    options: Options, comparisons: list[Comparison], through_ray: ThroughRay
) -> dict[str, object]:
    """Return what is printed at the end.

    Returns:
        ``ratio``: median of plain over ours; ``ours_s`` and ``plain_s``: median seconds of a
        subject on one core; the rest is of all subjects through Ray on ``CORES`` cores.
    """
    number = len(comparisons)
    seconds_each = through_ray.seconds / number
    return {
        "name": "prepare",
        "ratio": round(statistics.median(c.plain_s / c.ours_s for c in comparisons), 2),
        "difference": max(c.difference for c in comparisons),
        "subjects_per_minute_per_core": round(60 / seconds_each / CORES, 1),
        "worker_peak_mb": round(through_ray.worker_peak_mb),
        "paper_cohort_minutes_on_2_cores": round(seconds_each * PAPER_SUBJECTS / 60, 2),
        "num_subjects": number,
        "grid": None if options.data else list(options.grid),
        "ours_s": round(statistics.median(c.ours_s for c in comparisons), 3),
        "plain_s": round(statistics.median(c.plain_s for c in comparisons), 3),
    }


if __name__ == "__main__":
    main(tyro.cli(Options))
