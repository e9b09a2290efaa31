"""Resources of trials, and how many worker groups a cluster runs at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mgmt_ray.base import MgmtError

MAX_FAILURES = 2
"""How often a task or a trial is retried after a worker died."""


# with backend "ray" these need a connection to it: see connect_ray
@dataclass(frozen=True, slots=True)
class Resources:
    """Resources of each trial; they change results by rounding only.

    Attributes:
        backend: how trials run: Ray Tune over Ray Train, or one after another in this process
        workers: worker processes per trial, which share each minibatch
        cpus: CPU cores per worker
        gpus: GPUs per worker; a fraction shares a card among trials, 0 trains on the CPU
    """

    backend: Literal["ray", "in-process"] = "ray"
    workers: int = 1
    cpus: float = 1.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        for name, minimum in (("workers", 1), ("gpus", 0)):
            if getattr(self, name) < minimum:
                raise MgmtError(f"--{name} {getattr(self, name)}: must be at least {minimum}.")
        if self.cpus <= 0:
            raise MgmtError(f"--cpus {self.cpus}: must be above 0.")

    @property
    def device(self) -> str:
        """A worker's torch device: "cuda" or "cpu"."""
        return "cuda" if self.gpus else "cpu"

    @property
    def threads(self) -> int:
        """CPU threads of a worker; results on a CPU may depend on their number by rounding."""
        return max(1, int(self.cpus))


def max_worker_groups(resources: Resources, cluster_resources: Mapping[str, float]) -> int:
    """Return how many worker groups the cluster can run at a time.

    With more, the drivers that are started first could occupy the cores that their workers need.

    Args:
        cluster_resources: ``ray.cluster_resources()``: numbers of "CPU" and "GPU".

    Raises:
        MgmtError: the cluster is too small for a single trial.

    Examples:
        >>> max_worker_groups(Resources(workers=2, cpus=4), {"CPU": 16.0})
        2
    """
    needed = {
        "CPU": resources.workers * resources.cpus,
        "GPU": resources.workers * resources.gpus,
    }
    number = min(int(cluster_resources.get(k, 0) / n + 1e-6) for k, n in needed.items() if n)
    if number < 1:
        available = ", ".join(f"{cluster_resources.get(kind, 0):g} {kind}" for kind in needed)
        raise MgmtError(
            f"one trial needs {needed['CPU']:g} CPU and {needed['GPU']:g} GPU, the cluster has "
            f"{available}. Lower --workers, --cpus or --gpus, or use a larger cluster."
        )
    return number
