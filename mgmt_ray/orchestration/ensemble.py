"""The final job: open the test set for the models that validation chose, and average them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import ray
import torch

from mgmt_ray.base import MgmtError, file_checksum, fingerprint, write_json
from mgmt_ray.nets.build import build
from mgmt_ray.orchestration.connect import fetch
from mgmt_ray.orchestration.placement import Placement
from mgmt_ray.orchestration.trial import TrialInputs, trial_files
from mgmt_ray.selection.members import choose_members
from mgmt_ray.selection.predictions import PREDICTION_COLUMNS, write_table
from mgmt_ray.statistics.tables import evaluate_ensembles
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.plan import Trial
from mgmt_ray.training.checkpoint import load_weights
from mgmt_ray.training.config import EvaluationConfig
from mgmt_ray.training.evaluate import predict


def run_ensemble(
    trials: Sequence[Trial],
    inputs: TrialInputs,
    evaluation: EvaluationConfig,
    placement: Placement,
    progress: Callable[[int, int], None],
) -> bool:
    """Choose members on validation, predict the test set with them, and write the tables.

    Args:
        trials: the whole plan.
        inputs: of the study.
        evaluation: draws on the test set.
        placement: with launcher "ray", Ray must be connected.
        progress: is given members done and their number.

    Returns:
        Whether anything was done; False if the tables are of these members already.

    Raises:
        MgmtError: a trial of the plan is not finished, or its weights, volumes or checkpoint are
            not those that it was trained to or from.
    """
    folder = inputs.folder
    members = choose_members(_trial_table(trials, inputs))
    by_id = {trial.id: trial for trial in trials}
    chosen = [by_id[name] for name in members["trial"]]
    wanted = fingerprint(
        {
            "members": members[["trial", "weights"]].to_dict("list"),
            "files": [trial_files(trial, inputs) for trial in chosen],
            "evaluation": evaluation.model_dump(mode="json"),
            "split": inputs.split.hash,
        }
    )
    done = folder.ensembles / "evaluated.json"
    if done.is_file() and json.loads(done.read_text()) == _evaluated(folder, wanted):
        return False
    done.unlink(missing_ok=True)
    for trial in chosen:
        _refuse_changed_weights(trial, inputs)
    test = _open_test_set(inputs, members["trial"].tolist())
    tables = _predict_all(chosen, inputs, evaluation, test, placement, progress)
    write_table(members, folder.ensembles / "members.csv")
    table = pd.concat(tables, ignore_index=True)
    write_table(table, folder.ensembles / "member_predictions.csv")
    evaluate_ensembles(folder.root)
    write_json(done, _evaluated(folder, wanted))
    return True


def _evaluated(folder: StudyFolder, wanted: str) -> dict[str, Any]:
    """What tells that the tables are there, whole, and of these members."""
    tables = {path.name: file_checksum(path) for path in sorted(folder.ensembles.glob("*.csv"))}
    return {"fingerprint": wanted, "tables": tables}


def _refuse_changed_weights(trial: Trial, inputs: TrialInputs) -> None:
    path = inputs.folder.trial(trial.id) / "weights.safetensors"
    if file_checksum(path) != inputs.folder.read_trial(trial.id)["weights"]:
        raise MgmtError(
            f"{path}: its checksum is not the one in trial.json, so it was changed. "
            "Delete the trial's folder and run the study again."
        )


def _trial_table(trials: Sequence[Trial], inputs: TrialInputs) -> pd.DataFrame:
    """One row per finished trial, with what validation says of it."""
    missing = [t for t in trials if not inputs.folder.is_finished(t.id)]
    if missing:
        raise MgmtError(
            f"{len(missing)} of {len(trials)} trials are not finished, the first is "
            f"{missing[0].id}. Run `mgmt-ray run` with the same study and --out."
        )
    rows = []
    for trial in trials:
        result = inputs.folder.read_trial(trial.id)
        selection = result["selection"]
        rows.append(
            {
                "network": trial.network,
                "modality": trial.modality,
                "seed": trial.seed,
                "fold": trial.fold,
                "trial": trial.id,
                "hyperparameters": json.dumps(trial.hyperparameters),
                "rule": selection["rule"],
                "epoch": selection["epoch"],
                "validation_m": float("nan") if selection["m"] is None else selection["m"],
                "weights": result["weights"],
            }
        )
    return pd.DataFrame(rows)


def _open_test_set(inputs: TrialInputs, members: list[str]) -> tuple[str, ...]:
    """The test subjects; the only place that hands them out, and each time is written down."""
    path = inputs.folder.test_openings
    path.parent.mkdir(parents=True, exist_ok=True)
    opening = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "purpose": "ensembles",
        "num_subjects": len(inputs.split.test),
        "split_hash": inputs.split.hash,
        "num_members": len(members),
        "members": fingerprint(sorted(members)),
    }
    with path.open("a", encoding="utf-8") as log:
        log.write(json.dumps(opening) + "\n")
        log.flush()
        os.fsync(log.fileno())
    return inputs.split.test


def _predict_all(
    members: Sequence[Trial],
    inputs: TrialInputs,
    evaluation: EvaluationConfig,
    test: tuple[str, ...],
    placement: Placement,
    progress: Callable[[int, int], None],
) -> list[pd.DataFrame]:
    """Predictions of every member, in their order."""
    if placement.launcher == "in-process":
        tables = []
        for trial in members:
            tables.append(_predict(trial, inputs, evaluation, test, placement))
            progress(len(tables), len(members))
        return tables
    task = ray.remote(_predict).options(
        num_cpus=placement.cpus, num_gpus=placement.gpus, max_retries=placement.max_failures
    )
    shared = ray.put(inputs)
    waiting = [task.remote(t, shared, evaluation, test, placement) for t in members]
    left = list(waiting)
    while left:
        _, left = ray.wait(left)
        progress(len(members) - len(left), len(members))
    return [fetch(reference) for reference in waiting]


def _predict(
    trial: Trial,
    inputs: TrialInputs,
    evaluation: EvaluationConfig,
    test: tuple[str, ...],
    placement: Placement,
) -> pd.DataFrame:
    """One member's prediction table of the test set."""
    torch.set_num_threads(placement.threads)
    path = inputs.folder.trial(trial.id) / "weights.safetensors"
    checkpoint = inputs.checkpoint if trial.network_config.pretrained else None
    temperature = trial.training_config.temperature
    network = build(trial.network_config, len(trial.channels), temperature, checkpoint)
    load_weights(network, path)
    data = inputs.volumes(trial.channels, test, placement.device, augmented=False)
    predictions = predict(
        network.to(placement.device),
        data,
        num_draws=evaluation.draws,
        kind=evaluation.kind,
        seed=evaluation.seed,
    )
    columns: dict[str, Any] = {
        "subject": test,
        "split": "test",
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
