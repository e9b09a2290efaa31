"""Where trials run: decisions as plain values, taken without a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mgmt_ray.base import MgmtError

if TYPE_CHECKING:  # the command line shows these options without loading what runs them
    from mgmt_ray.study.trial import Trial


@dataclass(frozen=True, slots=True)
class Resources:
    """Resources of each trial; none of it changes a result but by rounding.

    Attributes:
        backend: how trials run: Ray Tune over Ray Train, or one after another in this process
        workers: worker processes per trial, which share each of its batches
        cpus: CPU cores per worker
        gpus: GPUs per worker; a fraction shares a card among trials, 0 trains on the CPU
        max_concurrent: launches at a time; 0 for as many as the cluster holds
        trials_per_batch: trials that one launch runs in turn; more than one saves start-up time
            when trials take seconds
        max_failures: how often a launch is repeated after a dead worker or driver
    """

    backend: Literal["ray", "in-process"] = "ray"
    workers: int = 1
    cpus: float = 1.0
    gpus: float = 0.0
    max_concurrent: int = 0
    trials_per_batch: int = 1
    max_failures: int = 2

    def __post_init__(self) -> None:
        least = {
            "workers": 1,
            "max_concurrent": 0,
            "trials_per_batch": 1,
            "max_failures": 0,
            "gpus": 0,
        }
        for name, value in least.items():
            if getattr(self, name) < value:
                flag = name.replace("_", "-")
                raise MgmtError(f"--{flag} {getattr(self, name)}: must be at least {value}.")
        if self.cpus <= 0:
            raise MgmtError(f"--cpus {self.cpus}: must be above 0.")

    @property
    def device(self) -> str:
        """The device of a worker, as torch names it."""
        return "cuda" if self.gpus else "cpu"

    @property
    def threads(self) -> int:
        """Threads of a worker; results on a CPU may depend on their number by rounding."""
        return max(1, int(self.cpus))


def group_into_batches(trials: Sequence[Trial], trials_per_batch: int) -> dict[str, list[Trial]]:
    """Trials cut into launches, in their order, by the id of each launch's first."""
    starts = range(0, len(trials), trials_per_batch)
    return {trials[i].id: list(trials[i : i + trials_per_batch]) for i in starts}


def max_concurrent_batches(resources: Resources, cluster_resources: Mapping[str, float]) -> int:
    """How many launches the cluster holds at a time.

    More would start drivers that wait for workers which wait for drivers.

    Args:
        resources: of one launch.
        cluster_resources: the cluster's, as Ray counts them ("CPU", "GPU").

    Raises:
        MgmtError: not even one launch fits.
    """
    wanted = {
        "CPU": resources.workers * resources.cpus,
        "GPU": resources.workers * resources.gpus,
    }
    fits = [int(cluster_resources.get(k, 0) / n + 1e-6) for k, n in wanted.items() if n]
    number = min(fits)
    if number < 1:
        have = ", ".join(f"{cluster_resources.get(kind, 0):g} {kind}" for kind in wanted)
        raise MgmtError(
            f"one trial wants {wanted['CPU']:g} CPU and {wanted['GPU']:g} GPU, the cluster has "
            f"{have}. Lower --workers, --cpus or --gpus, or use a larger cluster."
        )
    return min(number, resources.max_concurrent) if resources.max_concurrent else number
