"""A study's folder: the paths of all files, the state of trials, and the test-set access log."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mgmt_ray.base import (
    CannotWrite,
    MgmtError,
    file_checksum,
    fingerprint,
    first_line,
    folder_lock,
    write_json,
)
from mgmt_ray.study.outcome import Outcome

EXPLAIN = "explain"
"""Purpose of a test-set access for saliency maps: it changes no result, but shows test subjects."""

MASK_EFFECT = "mask effect"
"""Purpose of a test-set access in which the same members predict the same test subjects with their
other masks; it changes no other result."""

WEIGHTS, TRIAL_FILE = "weights.safetensors", "trial.json"
"""File names in a finished trial's folder."""

PAUSE_FILE = "paused.json"
"""File name in an unfinished trial's folder."""

TABLE_CHECKSUMS, TRIAL_CHECKSUM = "tables_sha256", "trial_sha256"
"""Entries of ``trial.json``: SHA-256 of each table, and of all other entries."""

OLD_BASELINES_KEY = "comparisons"
"""Key of ``baselines`` in study files before the first release."""


def openings_by_purpose(
    openings: Iterable[Mapping[str, Any]],
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Return the test-set accesses that results follow from, and those for saliency maps, in order.

    Accesses for :data:`MASK_EFFECT` are in neither list.

    >>> openings_by_purpose([{"purpose": "results"}, {"purpose": EXPLAIN}])
    ([{'purpose': 'results'}], [{'purpose': 'explain'}])
    """
    of_results: list[Mapping[str, Any]] = []
    for_saliency: list[Mapping[str, Any]] = []
    for opening in openings:
        purpose = opening.get("purpose")
        if purpose != MASK_EFFECT:
            (for_saliency if purpose == EXPLAIN else of_results).append(opening)
    return of_results, for_saliency


def read_trial_file(trial: Path) -> dict[str, Any]:
    """Read ``trial.json`` in a trial's folder.

    Raises:
        MgmtError: it is damaged.
    """
    path = trial / TRIAL_FILE
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        recorded = content.pop(TRIAL_CHECKSUM, None)  # earlier versions wrote none
        if recorded is not None and recorded != fingerprint(content):
            raise ValueError("its checksum is not the one in its last line")
    except (ValueError, TypeError, AttributeError) as error:
        raise MgmtError(
            f"{path}: is damaged ({first_line(error)}). Delete that trial's folder and rerun its "
            "study, which trains it again."
        ) from error
    return content


def write_trial_file(trial: Path, content: Mapping[str, Any]) -> None:
    """Write ``trial.json`` with a checksum of itself, and of the tables beside it."""
    tables = {path.name: file_checksum(path) for path in sorted(trial.glob("*.csv"))}
    content = {**content, TABLE_CHECKSUMS: tables}
    write_json(trial / TRIAL_FILE, {**content, TRIAL_CHECKSUM: fingerprint(content)})


def check_trial_tables(trial: Path, content: Mapping[str, Any]) -> None:
    """Check that the tables of a finished trial are those that its training wrote.

    Args:
        trial: its folder.
        content: of its ``trial.json``.

    Raises:
        MgmtError: one is missing or was changed.
    """
    for name, checksum in content.get(TABLE_CHECKSUMS, {}).items():
        path = trial / name
        if not path.is_file() or file_checksum(path) != checksum:
            raise MgmtError(
                f"{path}: its checksum is not the one in {TRIAL_FILE}, so it was changed or lost. "
                "Delete that trial's folder and rerun its study, which trains it again."
            )


def check_weights(trial: Path) -> Path:
    """Return the file of a finished trial's weights, which must be those that its training wrote.

    Others may have been trained on subjects that must be unknown to them.

    Args:
        trial: the trial's folder.

    Raises:
        MgmtError: the file is missing or was changed.
    """
    path = trial / WEIGHTS
    metadata = read_trial_file(trial)
    if not path.is_file() or file_checksum(path) != metadata["weights_sha256"]:
        raise MgmtError(
            f"{path}: its checksum is not the one in trial.json, so it was changed or lost, and "
            "may have been trained on other persons than recorded. Delete that trial's folder and "
            "rerun its study."
        )
    return path


class _Below:
    """A path below a study's folder."""

    def __init__(self, *parts: str) -> None:
        self._parts = parts

    def __get__(self, folder: StudyFolder, _: type[StudyFolder]) -> Path:
        return folder.root.joinpath(*self._parts)


@dataclass(frozen=True, slots=True)
class StudyFolder:
    """Paths below a study's folder, and the state of its trials.

    >>> StudyFolder(Path("study")).weights("forest_T1_fold0_seed0_1a2b3c4d5e").as_posix()
    'study/trials/forest_T1_fold0_seed0_1a2b3c4d5e/weights.safetensors'
    """

    root: Path

    study_file = _Below("study.yaml")
    """The study file with all defaults filled in."""
    problems = _Below("problems.csv")
    """Problems of files and tables, and the key of the study that covers each."""
    inspections = _Below("inspections")
    """Results of checking each subject's files."""
    masks = _Below("masks")
    """Predicted tumour masks."""
    mask_effect_table = _Below("ensembles", "mask_effect.csv")
    """Comparison of results with given and with predicted masks."""
    splits = _Below("splits.json")
    """Test sets and folds."""
    volumes = _Below("volumes")
    """The volume store."""
    slices = _Below("slices")
    """The slice store."""
    radiomics = _Below("radiomics")
    """The store of tumours' volumes and radiomic features."""
    radiomics_table = _Below("radiomics.csv")
    """Volume and radiomic features of every tumour."""
    trials = _Below("trials")
    """One folder per finished trial."""
    ensembles = _Below("ensembles")
    """Tables of members, predictions, metrics and comparisons."""
    search_table = _Below("search", "search.csv")
    """Every configuration of the search with its result on validation."""
    search_choice = _Below("search", "search.json")
    """The chosen configurations, and what they were chosen with."""
    protocol = _Below("protocol.json")
    """What was decided before the test set was opened."""
    test_openings = _Below("ensembles", "test_openings.jsonl")
    """Test-set access log: one JSON line per access."""
    evaluated = _Below("ensembles", "evaluated.json")
    """Fingerprint of the inputs of the result tables, and the checksums of these tables."""
    evaluated_study = _Below("ensembles", "study.yaml")
    """The study file that the result tables belong to, with all defaults filled in."""
    provenance = _Below("provenance.json")
    """Versions, commit and times of all runs."""

    @property
    def mask_effect(self) -> StudyFolder:
        """Volumes and predictions of test subjects with their other masks."""
        return StudyFolder(self.root / "mask_effect")

    def external(self, name: str) -> StudyFolder:
        """Return an external cohort's folder, with tables, volumes and ensembles like a study's."""
        return StudyFolder(self.root / "external" / name)

    def trial(self, trial_id: str) -> Path:
        """Return a finished trial's folder."""
        return self.trials / trial_id

    def weights(self, trial_id: str) -> Path:
        """Return the file of a finished trial's trained tensors."""
        return self.trial(trial_id) / WEIGHTS

    def partial_trial(self, trial_id: str) -> Path:
        """Return the folder of a trial that is not complete."""
        return self.trials / ".partial" / trial_id

    def is_finished(self, trial_id: str) -> bool:
        """Return whether a trial is complete; its folder is moved into place as a whole."""
        return (self.trial(trial_id) / TRIAL_FILE).is_file()

    def read_trial(self, trial_id: str) -> dict[str, Any]:
        """Read ``trial.json`` of a finished trial: its inputs and its outcome."""
        return read_trial_file(self.trial(trial_id))

    def outcome(self, trial_id: str) -> Outcome:
        """Return how a trial ended, or how far it is."""
        if self.is_finished(trial_id):
            trial = self.read_trial(trial_id)
            return Outcome(trial["status"], trial.get("message", ""))
        failure = self._failure(trial_id)
        if failure.is_file():
            return Outcome(**{"status": "failed"} | json.loads(failure.read_text(encoding="utf-8")))
        return Outcome("stopped" if self.partial_trial(trial_id).is_dir() else "to do")

    def record_failure(self, trial_id: str, outcome: Outcome) -> None:
        """Write why a trial ended without a result."""
        write_json(self._failure(trial_id), asdict(outcome))

    def forget_failure(self, trial_id: str) -> None:
        """Delete the record of a trial that is run again."""
        self._failure(trial_id).unlink(missing_ok=True)

    def record_pause(self, trial_id: str, epoch: int) -> None:
        """Write that an unfinished trial has saved its state after an epoch, and may wait."""
        write_json(self.partial_trial(trial_id) / PAUSE_FILE, {"epoch": epoch})

    def paused_at(self, trial_id: str) -> int:
        """Return the epoch after which an unfinished trial paused last; 0 if it did not."""
        path = self.partial_trial(trial_id) / PAUSE_FILE
        try:
            return int(json.loads(path.read_text(encoding="utf-8"))["epoch"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def _failure(self, trial_id: str) -> Path:
        return self.trials / ".failed" / f"{trial_id}.json"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock this study against changes by other processes (see ``base.folder_lock``).

        A folder that is made for it and stays empty, as the data set is missing, is deleted.

        Raises:
            MgmtError: the folder cannot be written, is in use, or is of an earlier version.
        """
        self.check_version()
        is_new = not self.root.exists()
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CannotWrite(
                f"--out {self.root}: cannot be created or written ({error.strerror}). "
                "Choose another folder."
            ) from error
        try:
            with folder_lock(self.root / "study.lock"):
                yield
        finally:
            if is_new:
                with suppress(OSError):  # it has content
                    self.root.rmdir()

    def check_version(self) -> None:
        """Check that no earlier version wrote the folder, with other keys."""
        study = self.study_file.read_text(encoding="utf-8") if self.study_file.is_file() else ""
        if any(line.startswith(f"{OLD_BASELINES_KEY}:") for line in study.splitlines()):
            raise MgmtError(
                f"{self.root}: was written by an earlier version of mgmt_ray, whose files have "
                "other keys. Choose another folder with --out, or use that version."
            )
