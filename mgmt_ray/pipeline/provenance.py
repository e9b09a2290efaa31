"""What runs: versions, commit, time and device, for the record."""

from __future__ import annotations

import subprocess
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mgmt_ray.base import fingerprint
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.study.study_config import StudyConfig

PACKAGES = ("mgmt-ray", "torch", "ray", "mlflow", "numpy", "simpleitk", "elasticdeform")


def provenance(study: StudyConfig, resources: Resources, started: datetime) -> dict[str, Any]:
    """The content of ``provenance.json``."""
    return {
        "hash": fingerprint(study.model_dump(mode="json")),
        "commit": _commit(),
        "started": started.isoformat(timespec="seconds"),
        "device": resources.device,
        "workers_per_trial": resources.workers,
        "versions": {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _commit() -> str | None:
    """The commit of the checkout that this package runs from, if it does."""
    here = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=here,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None
