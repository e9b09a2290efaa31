from dataclasses import replace

import pytest

from mgmt_ray.base import MgmtError
from mgmt_ray.cluster.resources import Resources, max_worker_groups


@pytest.mark.parametrize(
    ("resources", "cluster_resources", "number"),
    [
        (Resources(), {"CPU": 8}, 8),
        (Resources(workers=2), {"CPU": 7}, 3),
        (Resources(gpus=0.25), {"CPU": 64, "GPU": 4}, 16),
        (Resources(gpus=0.1, cpus=0.1), {"CPU": 64, "GPU": 1}, 10),
    ],
)
def test_as_many_groups_run_at_a_time_as_fit(
    resources: Resources, cluster_resources: dict[str, float], number: int
) -> None:
    assert max_worker_groups(resources, cluster_resources) == number


def test_a_trial_that_never_fits_is_an_error_at_once() -> None:
    with pytest.raises(MgmtError, match=r"needs 2 CPU and 2 GPU.*8 CPU, 0 GPU.*Lower --workers"):
        max_worker_groups(replace(Resources(), workers=2, gpus=1), {"CPU": 8})


@pytest.mark.parametrize("option", ["workers", "cpus"])
def test_a_resource_of_zero_is_an_error(option: str) -> None:
    with pytest.raises(MgmtError, match=option):
        replace(Resources(), **{option: 0})
