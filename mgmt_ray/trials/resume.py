"""A trial's epochs and selected weights while it trains; saving and resuming a training."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from mgmt_ray.cluster.progress import log
from mgmt_ray.nets.build import SegmentationConfig, SliceClassifierConfig
from mgmt_ray.nets.network import Network
from mgmt_ray.selection.epoch_choice import (
    EpochChoice,
    EpochScore,
    Gate,
    choose_best,
    choose_epoch,
)
from mgmt_ray.study.trial import Trial
from mgmt_ray.training.checkpoint import (
    DamagedState,
    StateWriter,
    check_state,
    load_state,
    trained_weights,
)
from mgmt_ray.training.loop import Epoch, TrainingState
from mgmt_ray.training.metrics import THRESHOLD
from mgmt_ray.training.training_config import TrainingConfig

STATE_KEYS = ("files", "training", "rows", "choice", "weights")
"""Keys of a saved state; all other keys are columns of the validation rows."""


@dataclass(slots=True)
class TrainingHistory:
    """The epochs of a trial so far, and the selected one's weights and predictions.

    Attributes:
        rows: of ``epochs.csv``.
        columns: the selected epoch's predictions of the validation rows, by name.
        saved_at: monotonic clock in seconds when the state was last saved, or the history created.
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    choice: EpochChoice | None = None
    weights: dict[str, torch.Tensor] = field(default_factory=dict)
    columns: dict[str, list[float]] = field(default_factory=dict)
    saved_at: float = field(default_factory=time.monotonic)

    def add(self, trial: Trial, epoch: Epoch, network: Network, labels: torch.Tensor) -> None:
        """Append an epoch; keep its weights if the selection rule now prefers it.

        Args:
            labels: of the validation rows.
        """
        self.rows.append(_epoch_row(epoch))
        if _takes_accuracy(trial):
            probability = torch.tensor(epoch.predictions.columns["probability"])
            is_right = (probability >= THRESHOLD) == (labels.cpu() == 1)
            self.rows[-1]["validation_accuracy"] = float(is_right.double().mean())
        self.choice = select_epoch(trial, self.rows)
        if self.choice.epoch == epoch.number:
            self.weights = trained_weights(network)
            self.columns = epoch.predictions.columns


def resume_training(state: TrainingState, path: Path, files: dict[str, Any]) -> TrainingHistory:
    """Restore a training from its saved state, or return an empty history if there is none.

    A state that was trained from other files than ``files``, or is incomplete, is ignored; a
    damaged one is set aside.
    """
    saved = None
    try:
        saved = load_state(path) if path.is_file() else None
    except DamagedState as error:
        _set_aside(path, error)
    if saved is None or saved["files"] != files:
        return TrainingHistory()
    expected: dict[str, Any] = state.state_dict()
    if saved["training"].keys() != expected.keys():
        return TrainingHistory()
    if saved["training"]["network"].keys() != expected["network"].keys():
        return TrainingHistory()
    state.load_state_dict(saved["training"])
    choice = EpochChoice(**saved["choice"])
    columns = {name: saved[name] for name in saved if name not in STATE_KEYS}
    return TrainingHistory(saved["rows"], choice, saved["weights"], columns)


def set_aside_if_damaged(path: Path) -> None:
    """Rename a saved state that is not as it was written, and say so: its training starts over."""
    try:
        if path.is_file():
            check_state(path)
    except DamagedState as error:
        _set_aside(path, error)


def _set_aside(path: Path, error: DamagedState) -> None:
    aside = path.parent.with_name(f"{path.parent.name}.damaged.pt")
    with suppress(FileNotFoundError):  # another worker of the same training was first
        path.rename(aside)
    log(f"{error}, so this training starts over. The damaged file was set aside as {aside}.")


def save_training(
    state: TrainingState,
    history: TrainingHistory,
    path: Path,
    files: dict[str, Any],
    writer: StateWriter,
) -> None:
    """Start to write the state that :func:`resume_training` reads.

    Weights that are frozen are not in it, as the trial's files determine them, and those of the
    last epoch are in it once if that epoch is the selected one.
    """
    assert history.choice is not None
    training = state.state_dict()
    if history.choice.epoch == state.epoch:
        training["network"] = history.weights
    writer.save(
        {
            "files": files,
            "training": training,
            "rows": history.rows,
            "choice": asdict(history.choice),
            "weights": history.weights,
            **history.columns,
        },
        path,
    )


def select_epoch(trial: Trial, rows: list[dict[str, float]]) -> EpochChoice:
    """Select an epoch by its training's criterion, or for slices by loss or accuracy."""
    nan = float("nan")
    scores = [
        EpochScore(int(r["epoch"]), r.get("validation_sen", nan), r.get("validation_spe", nan))
        for r in rows
    ]
    match trial.network_config:
        case SegmentationConfig():
            return choose_best(scores, [-row["validation_loss"] for row in rows], "lowest_loss")
        case SliceClassifierConfig():
            return choose_best(
                scores, [row["validation_accuracy"] for row in rows], "best_accuracy"
            )
        case _:
            config = trial.training_config
            assert isinstance(config, TrainingConfig)
            gate = Gate(config.min_sensitivity, config.min_specificity)
            if not _takes_accuracy(trial):
                return choose_epoch(scores, gate)
            sums = {int(r["epoch"]): r["validation_accuracy"] + r["validation_auc"] for r in rows}
            return choose_epoch(scores, gate, sums)


def _takes_accuracy(trial: Trial) -> bool:
    """Return whether a trial of volumes chooses its epoch by accuracy + AUC."""
    config = trial.training_config
    return isinstance(config, TrainingConfig) and config.criterion == "accuracy_auc"


def _epoch_row(epoch: Epoch) -> dict[str, float]:
    row: dict[str, float] = {"epoch": epoch.number}
    parts = {"train": epoch.train, "validation": epoch.validation}
    values = {part: asdict(scores) for part, scores in parts.items()}
    for name in values["train"]:
        for part in parts:
            row[f"{part}_{name}"] = values[part][name]
    for part, scores in parts.items():
        if hasattr(scores, "m"):
            row[f"{part}_m"] = scores.m
    row["lr_network"] = epoch.learning_rates["network"]
    row["lr_agent"] = epoch.learning_rates.get("agent", float("nan"))
    row["seconds"] = round(epoch.seconds, 4)
    return row
