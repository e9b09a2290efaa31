"""Check what a study needs of this machine: packages, GPU, Ray, MLflow, memory and disk."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import psutil

from mgmt_ray.base import MgmtError
from mgmt_ray.cluster.connection import cluster_resources
from mgmt_ray.cluster.progress import log
from mgmt_ray.cluster.resources import Resources, max_worker_groups

MIN_DISK_GB = 20.0
MIN_MEMORY_GB = 8.0


def check_machine() -> None:
    """Check each part and print a line about it.

    Raises:
        MgmtError: a part that every study needs does not work.
    """
    parts: dict[str, Callable[[], str]] = {
        "Python": _python,
        "torch": _torch,
        "GPU": _gpu,
        "Ray": _ray,
        "MLflow": _mlflow,
        "scans": _scans,
        "memory": _memory,
        "disk": _disk,
    }
    broken = []
    for name, check in parts.items():
        try:
            log(f"{name:<8} {check()}")
        except (MgmtError, ImportError, OSError, RuntimeError) as error:
            broken.append(name)
            log(f"{name:<8} DOES NOT WORK: {' '.join(str(error).split())}")
    if broken:
        raise MgmtError(f"{', '.join(broken)}: see above for what to do, then rerun the command.")
    log("Everything that a study needs works.")


def check_gpus(resources: Resources) -> None:
    """Check that there are the GPUs that trials ask for; without any, nothing is looked at.

    Raises:
        MgmtError: this machine, or the connected cluster, has too few.
    """
    if not resources.gpus:
        return
    if resources.backend == "ray":
        max_worker_groups(resources, cluster_resources())
        return
    import torch

    if torch.cuda.device_count() < resources.gpus:
        raise MgmtError(
            f"--gpus {resources.gpus:g}: torch finds {torch.cuda.device_count()} GPUs here. Omit "
            "--gpus to train on the CPU, or see what `mgmt-ray doctor` says."
        )


def _python() -> str:
    return f"{sys.version.split()[0]} in {sys.prefix}"


def _torch() -> str:
    import torch

    total = float(torch.ones(8, 8).matmul(torch.ones(8, 8)).sum())
    if total != 512:
        raise MgmtError("computes wrong results. Reinstall with `make setup`.")
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU build"
    return f"{torch.__version__}, {build}, {torch.get_num_threads()} threads"


def _gpu() -> str:
    import torch

    if not torch.cuda.is_available():
        return "none found: trials run on the CPU (fine for the demo, slow at the paper's size)"
    names = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return ", ".join(f"{p.name} {p.total_memory / 2**30:.0f} GiB" for p in names) + "; use --gpus 1"


def _ray() -> str:
    from mgmt_ray.cluster.connection import check_local_ray

    return check_local_ray()


def _mlflow() -> str:
    from mgmt_ray.tracking.mlflow_tracker import check_store

    with tempfile.TemporaryDirectory() as folder:
        return f"{check_store(Path(folder))}, a local store can be written"


def _scans() -> str:
    import elasticdeform
    import numpy as np
    import SimpleITK

    elasticdeform.deform_random_grid(np.zeros((4, 4, 4)), sigma=1, points=2)
    return f"SimpleITK {SimpleITK.Version.VersionString()}, elasticdeform works"


def _memory() -> str:
    total = psutil.virtual_memory().total / 2**30
    free = psutil.virtual_memory().available / 2**30
    advice = "" if free >= MIN_MEMORY_GB else f"; under {MIN_MEMORY_GB:g} GiB: close programs"
    return f"{free:.0f} GiB free of {total:.0f} GiB, {psutil.cpu_count()} cores{advice}"


def _disk() -> str:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    advice = "" if free >= MIN_DISK_GB else f"; the paper's study needs at least {MIN_DISK_GB:g} GB"
    return f"{free:.0f} GB free in {Path.cwd()}{advice}"
