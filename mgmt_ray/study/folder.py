"""A study's folder: where each stage leaves its files, and who may write there."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mgmt_ray.base import MgmtError


@dataclass(frozen=True, slots=True)
class StudyFolder:
    """Paths below a study's folder."""

    root: Path

    @property
    def study_file(self) -> Path:
        """The resolved study."""
        return self.root / "study.yaml"

    @property
    def splits(self) -> Path:
        """Test set and folds."""
        return self.root / "splits.json"

    @property
    def volumes(self) -> Path:
        """The volume store."""
        return self.root / "volumes"

    @property
    def trials(self) -> Path:
        """One folder per finished trial."""
        return self.root / "trials"

    @property
    def ensembles(self) -> Path:
        """Members, predictions, metrics and comparisons."""
        return self.root / "ensembles"

    @property
    def test_openings(self) -> Path:
        """One JSON line for each time the test set was opened."""
        return self.ensembles / "test_openings.jsonl"

    @property
    def provenance(self) -> Path:
        """What ran: versions, commit, times."""
        return self.root / "provenance.json"

    def trial(self, trial_id: str) -> Path:
        """A finished trial's folder."""
        return self.trials / trial_id

    def partial_trial(self, trial_id: str) -> Path:
        """Where a trial is written until it is complete."""
        return self.trials / ".partial" / trial_id

    def failure(self, trial_id: str) -> Path:
        """Why a trial ended without a result."""
        return self.trials / ".failed" / f"{trial_id}.json"

    def is_finished(self, trial_id: str) -> bool:
        """Whether a trial is complete; its folder appears whole or not at all."""
        return (self.trial(trial_id) / "trial.json").is_file()

    def read_trial(self, trial_id: str) -> dict[str, Any]:
        """What determined a finished trial and what it chose."""
        content: dict[str, Any] = json.loads((self.trial(trial_id) / "trial.json").read_text())
        return content

    def read_failure(self, trial_id: str) -> str | None:
        """The message of a trial that ended without a result, if it did."""
        path = self.failure(trial_id)
        return json.loads(path.read_text())["message"] if path.is_file() else None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep every other process from changing this study meanwhile.

        Raises:
            MgmtError: another live process has it; a dead one of this host is ignored.
        """
        path = self.root / "study.lock"
        self.root.mkdir(parents=True, exist_ok=True)
        own = {"host": socket.gethostname(), "pid": os.getpid()}
        _take(path, own)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _take(path: Path, own: dict[str, Any]) -> None:
    # O_EXCL, because flock is unreliable on network file systems.
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        text = path.read_text() if path.exists() else ""
        owner = json.loads(text) if text.endswith("}") else {"host": "?", "pid": "?"}
        if owner["host"] == own["host"] and not _is_alive(owner["pid"]):
            path.unlink(missing_ok=True)
            _take(path, own)
            return
        raise MgmtError(
            f"{path.parent}: process {owner['pid']} on {owner['host']} is working on this study. "
            f"Wait for it; if it is gone for certain, delete {path}."
        ) from None
    with os.fdopen(descriptor, "w") as file:
        file.write(json.dumps(own))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
