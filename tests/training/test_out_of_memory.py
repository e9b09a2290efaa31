import numpy as np
import pytest
import torch

from mgmt_ray.base import MgmtError
from mgmt_ray.training.out_of_memory import OutOfMemory, raise_oom_with_hint


@pytest.mark.parametrize(
    "allocate", [lambda: torch.empty(2**57), lambda: np.empty(2**57)], ids=["torch", "numpy"]
)
def test_a_lack_of_memory_says_what_was_too_large_and_what_to_do(allocate) -> None:
    with (
        pytest.raises(OutOfMemory, match=r"out of memory \(.*llocate.*\): a batch of 12. Take 6."),
        raise_oom_with_hint("a batch of 12", "Take 6."),
    ):
        allocate()


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), MgmtError("a file is gone")])
def test_other_faults_stay_what_they_are(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)), raise_oom_with_hint("a", "b"):
        raise error
