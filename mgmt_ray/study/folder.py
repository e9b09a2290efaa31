"""A study's folder: where each stage leaves its files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mgmt_ray.base import CannotWrite, MgmtError, folder_lock

EXPLAIN = "explain"
"""Purpose of an opening of the test set for pictures: no result follows from it, but somebody has
seen test subjects."""

MASK_EFFECT = "mask effect"
"""Purpose of an opening in which the members of the results predict the same test subjects with
their other masks; nobody new is seen, and no other result follows from it."""


def openings_by_purpose(
    openings: Iterable[Mapping[str, Any]],
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Openings that results follow from, and those for pictures (:data:`EXPLAIN`), in order.

    Those for the effect of masks are neither.
    """
    of_results: list[Mapping[str, Any]] = []
    for_pictures: list[Mapping[str, Any]] = []
    for opening in openings:
        purpose = opening.get("purpose")
        if purpose != MASK_EFFECT:
            (for_pictures if purpose == EXPLAIN else of_results).append(opening)
    return of_results, for_pictures


WEIGHTS = "weights.safetensors"
"""In a finished trial's folder."""


OLD_BASELINES_KEY = "comparisons"
"""What study files called ``baselines`` before the first release."""


@dataclass(frozen=True, slots=True)
class StudyFolder:
    """Paths below a study's folder."""

    root: Path

    @property
    def study_file(self) -> Path:
        """The resolved study."""
        return self.root / "study.yaml"

    @property
    def problems(self) -> Path:
        """Everything that was wrong with files and tables, and what covers it."""
        return self.root / "problems.csv"

    @property
    def inspections(self) -> Path:
        """What was seen of each subject's files."""
        return self.root / "inspections"

    @property
    def masks(self) -> Path:
        """Predicted tumour masks."""
        return self.root / "masks"

    @property
    def mask_effect(self) -> StudyFolder:
        """Test subjects once more, with the other kind of mask: volumes and predictions."""
        return StudyFolder(self.root / "mask_effect")

    @property
    def mask_effect_table(self) -> Path:
        """What the other kind of mask does to the results."""
        return self.ensembles / "mask_effect.csv"

    @property
    def splits(self) -> Path:
        """Test sets and folds."""
        return self.root / "splits.json"

    @property
    def volumes(self) -> Path:
        """The volume store."""
        return self.root / "volumes"

    @property
    def slices(self) -> Path:
        """The slice store."""
        return self.root / "slices"

    @property
    def radiomics(self) -> Path:
        """Volumes and radiomic features of every tumour."""
        return self.root / "radiomics.csv"

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
    def evaluated(self) -> Path:
        """The fingerprint of what the tables of results follow from, and their checksums."""
        return self.ensembles / "evaluated.json"

    @property
    def evaluated_study(self) -> Path:
        """The resolved study that the tables of results are of."""
        return self.ensembles / "study.yaml"

    @property
    def provenance(self) -> Path:
        """What ran: versions, commit, times."""
        return self.root / "provenance.json"

    def external(self, name: str) -> StudyFolder:
        """An external cohort's folder: its tables, volumes and ensembles, in the same shape."""
        return StudyFolder(self.root / "external" / name)

    def trial(self, trial_id: str) -> Path:
        """A finished trial's folder."""
        return self.trials / trial_id

    def weights(self, trial_id: str) -> Path:
        """The tensors that a finished trial trained."""
        return self.trial(trial_id) / WEIGHTS

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
        """What determined a finished trial and what became of it."""
        content: dict[str, Any] = json.loads(
            (self.trial(trial_id) / "trial.json").read_text(encoding="utf-8")
        )
        return content

    def has_diverged(self, trial_id: str) -> bool:
        """Whether a trial is complete without weights: its loss was no longer a number."""
        return self.is_finished(trial_id) and self.read_trial(trial_id).get("status") == "diverged"

    def read_failure(self, trial_id: str) -> str | None:
        """The message of a trial that ended without a result, if it did."""
        path = self.failure(trial_id)
        return json.loads(path.read_text(encoding="utf-8"))["message"] if path.is_file() else None

    def lock(self) -> AbstractContextManager[None]:
        """Keep every other process from changing this study meanwhile (see ``folder_lock``).

        Raises:
            MgmtError: the folder cannot be written, is in use, or is of an earlier version.
        """
        self._check_version()
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CannotWrite(
                f"--out {self.root}: cannot be made or written ({error.strerror}). "
                "Choose another folder."
            ) from error
        return folder_lock(self.root / "study.lock")

    def _check_version(self) -> None:
        """Raise MgmtError where an earlier version wrote the folder, under other keys."""
        study = self.study_file.read_text(encoding="utf-8") if self.study_file.is_file() else ""
        if any(line.startswith(f"{OLD_BASELINES_KEY}:") for line in study.splitlines()):
            raise MgmtError(
                f"{self.root}: was written by an earlier version of mgmt_ray, whose files have "
                "other keys. Choose another folder with --out, or use that version."
            )
