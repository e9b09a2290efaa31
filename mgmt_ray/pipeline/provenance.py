"""Provenance of a run: configuration, commit, start time, device and package versions."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mgmt_ray.base import fingerprint
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.study.study_config import StudyConfig

PACKAGES = ("mgmt-ray", "torch", "ray", "mlflow", "numpy", "simpleitk", "elasticdeform")


def provenance(study: StudyConfig, resources: Resources, started: datetime) -> dict[str, Any]:
    """Return the content of ``provenance.json``."""
    return {
        "hash": fingerprint(study.model_dump(mode="json")),
        "commit": _commit(),
        "started": started.isoformat(timespec="seconds"),
        "device": resources.device,
        "workers_per_trial": resources.workers,
        "versions": {name: _version(name) for name in PACKAGES},
    }


def differs_from(path: Path, record: Mapping[str, Any]) -> bool:
    """Return whether a record differs from the one in a file in more than its start."""
    earlier = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return bool({**earlier, "started": record["started"]} != record)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _commit() -> str | None:
    """Return the commit of the checkout that this package runs from; None outside a checkout."""
    try:
        process = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return None
    return process.stdout.strip() or None
