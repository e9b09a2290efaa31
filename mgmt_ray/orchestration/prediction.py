"""Predicting subjects that no member has seen: each time is written down, none done twice."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import ray
import torch

from mgmt_ray.base import file_checksum, write_json
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.covariates import read_covariates
from mgmt_ray.nets.build import build
from mgmt_ray.orchestration.connect import fetch
from mgmt_ray.orchestration.placement import Placement
from mgmt_ray.orchestration.trial import TrialInputs, load_volumes
from mgmt_ray.selection.predictions import PREDICTION_COLUMNS
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.plan import Trial
from mgmt_ray.training.checkpoint import load_weights
from mgmt_ray.training.config import EvaluationConfig
from mgmt_ray.training.evaluate import predict


@dataclass(frozen=True, slots=True)
class Unseen:
    """Subjects that a member did not train or validate on.

    Attributes:
        split: what they are to the study.
        volumes: folder of their volume store.
        label: by subject; these are predicted, in this order.
        cohort: whose subjects they are.
    """

    split: Literal["test", "external"]
    volumes: Path
    label: Mapping[str, int]
    cohort: Cohort


def log_opening(folder: StudyFolder, facts: Mapping[str, Any]) -> None:
    """Write down that labels of unseen subjects are looked at, before they are."""
    path = folder.test_openings
    path.parent.mkdir(parents=True, exist_ok=True)
    opening = {"time": datetime.now(UTC).isoformat(timespec="seconds"), **facts}
    with path.open("a", encoding="utf-8") as log:
        log.write(json.dumps(opening) + "\n")
        log.flush()
        os.fsync(log.fileno())


def is_evaluated(folder: StudyFolder, wanted: str) -> bool:
    """Whether the tables are there, whole, and follow from this fingerprint."""
    mark = _mark(folder)
    return mark.is_file() and json.loads(mark.read_text(encoding="utf-8")) == _evaluated(
        folder, wanted
    )


def forget_evaluation(folder: StudyFolder) -> None:
    """From here to the new mark the tables are not to be trusted."""
    _mark(folder).unlink(missing_ok=True)


def mark_evaluated(folder: StudyFolder, wanted: str) -> None:
    """Note that the tables, as they are now, follow from this fingerprint."""
    write_json(_mark(folder), _evaluated(folder, wanted))


def predict_members(
    tasks: Sequence[tuple[Trial, Unseen]],
    inputs: TrialInputs,
    evaluation: EvaluationConfig,
    placement: Placement,
    progress: Callable[[int, int], None],
) -> pd.DataFrame:
    """Predictions of every member, in the order given.

    Args:
        tasks: members, and whom each predicts.
        inputs: of the members' study.
        evaluation: draws.
        placement: with launcher "ray", Ray must be connected.
        progress: is given members done and their number.
    """
    if placement.launcher == "in-process":
        tables = []
        for task in tasks:
            tables.append(_predict(task, inputs, evaluation, placement))
            progress(len(tables), len(tasks))
        return pd.concat(tables, ignore_index=True)
    remote = ray.remote(_predict).options(
        num_cpus=placement.cpus, num_gpus=placement.gpus, max_retries=placement.max_failures
    )
    shared = ray.put(inputs)
    waiting = [remote.remote(task, shared, evaluation, placement) for task in tasks]
    left = list(waiting)
    while left:
        _, left = ray.wait(left)
        progress(len(tasks) - len(left), len(tasks))
    return pd.concat([fetch(reference) for reference in waiting], ignore_index=True)


def _predict(
    task: tuple[Trial, Unseen],
    inputs: TrialInputs,
    evaluation: EvaluationConfig,
    placement: Placement,
) -> pd.DataFrame:
    """One member's prediction table."""
    torch.set_num_threads(placement.threads)
    trial, unseen = task
    path = inputs.folder.trial(trial.id) / "weights.safetensors"
    checkpoint = inputs.checkpoint if trial.network_config.pretrained else None
    temperature = trial.training_config.temperature
    network = build(trial.network_config, len(trial.channels), temperature, checkpoint)
    load_weights(network, path)
    ids = tuple(unseen.label)
    names = trial.network_config.covariates
    data = load_volumes(
        unseen.volumes,
        trial.channels,
        unseen.label,
        ids,
        placement.device,
        covariates=read_covariates(unseen.cohort.subjects, names) if names else None,
    )
    predictions = predict(
        network.to(placement.device),
        data,
        num_draws=evaluation.draws,
        kind=evaluation.kind,
        seed=evaluation.seed,
        precision=trial.training_config.precision,
    )
    columns: dict[str, Any] = {
        "subject": ids,
        "split": unseen.split,
        "outer": trial.outer,
        "fold": trial.fold,
        "network": trial.network,
        "modality": trial.modality,
        "trial": trial.id,
        "probability": predictions.probability,
        "deviation": predictions.deviation,
        "label": data.labels.int().tolist(),
        "weights": inputs.folder.read_trial(trial.id)["weights"],
    }
    return pd.DataFrame(columns, columns=list(PREDICTION_COLUMNS))


def _mark(folder: StudyFolder) -> Path:
    return folder.ensembles / "evaluated.json"


def _evaluated(folder: StudyFolder, wanted: str) -> dict[str, Any]:
    tables = {path.name: file_checksum(path) for path in sorted(folder.ensembles.glob("*.csv"))}
    return {"fingerprint": wanted, "tables": tables}
