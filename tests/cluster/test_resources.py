from dataclasses import replace
from pathlib import Path

import pytest

from mgmt_ray.base import MgmtError
from mgmt_ray.cluster.resources import Resources, group_into_batches, max_concurrent_batches
from mgmt_ray.splits.split import Split
from mgmt_ray.study.plan import make_plan
from mgmt_ray.study.study_config import load_study
from mgmt_ray.study.trial import Trial

STUDY = Path(__file__).parents[2] / "jobs" / "studies" / "schmitz2024.yaml"


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> list[Trial]:
    folds = tuple((name,) for name in "bcdef")
    split = Split(test=("a",), folds=folds, left_out=(), seed=0, cohort="x")
    return make_plan(load_study(STUDY, data=tmp_path_factory.mktemp("data")), (split,))


@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_batches_hold_every_trial_once(trials: list[Trial], size: int) -> None:
    plan = group_into_batches(trials, size)
    assert [t.id for batch in plan.values() for t in batch] == [t.id for t in trials]
    assert all(len(batch) <= size for batch in plan.values())
    assert len(plan) == -(-165 // size)


@pytest.mark.parametrize(
    ("resources", "cluster_resources", "number"),
    [
        (Resources(), {"CPU": 8}, 8),
        (Resources(workers=2), {"CPU": 7}, 3),
        (Resources(gpus=0.25), {"CPU": 64, "GPU": 4}, 16),
        (Resources(gpus=0.1, cpus=0.1), {"CPU": 64, "GPU": 1}, 10),
    ],
)
def test_as_many_batches_run_at_a_time_as_fit(
    resources: Resources, cluster_resources: dict[str, float], number: int
) -> None:
    assert max_concurrent_batches(resources, cluster_resources) == number


def test_a_trial_that_never_fits_is_an_error_at_once() -> None:
    with pytest.raises(MgmtError, match=r"needs 2 CPU and 2 GPU.*8 CPU, 0 GPU.*Lower --workers"):
        max_concurrent_batches(replace(Resources(), workers=2, gpus=1), {"CPU": 8})


@pytest.mark.parametrize("option", ["workers", "cpus", "trials_per_batch"])
def test_a_resource_of_zero_is_an_error(option: str) -> None:
    with pytest.raises(MgmtError, match=option.replace("_", "-")):
        replace(Resources(), **{option: 0})
