"""Saliency figures of a few test subjects, drawn once the results exist."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mgmt_ray.base import MgmtError
from mgmt_ray.cluster.progress import ProgressCallback
from mgmt_ray.figures.attribution_overlay import Explanation, NetworkSaliency, overlay_figure
from mgmt_ray.figures.figure_folder import FigureFolder
from mgmt_ray.prediction.access_log import log_access
from mgmt_ray.prediction.evaluation import (
    Members,
    access_register,
    check_members,
    select_members,
    sets_by_split,
)
from mgmt_ray.prediction.predict_members import Task, map_members
from mgmt_ray.prediction.predict_volumes import load_held_out, load_member
from mgmt_ray.prediction.saliency import Method, saliency_map
from mgmt_ray.preprocess.volume_store import VolumeStore
from mgmt_ray.selection.best_on_validation import BEST_OVERALL
from mgmt_ray.selection.epoch_choice import qualifies
from mgmt_ray.selection.predictions import read_predictions, read_table, shorten_list
from mgmt_ray.study.baseline_config import BASELINES
from mgmt_ray.study.folder import EXPLAIN
from mgmt_ray.study.trial import Trial
from mgmt_ray.training.metrics import THRESHOLD
from mgmt_ray.trials.context import TrialInputs

NUM_CONFIDENT = 2
"""Correct and incorrect predictions that are drawn by default, each."""

_COMMAND = "mgmt-ray ensemble STUDY"


def explain_subjects(
    subjects: Sequence[str],
    modalities: Sequence[str],
    method: Method,
    trials: Sequence[Trial],
    inputs: TrialInputs,
    progress: ProgressCallback,
) -> list[Path]:
    """Draw the saliency maps of each network, one figure per subject and modality.

    A map is the mean over the members that predicted the subject in the ensembles (folds, repeats
    and splits). The access to the test set is logged before anything is read.

    Args:
        subjects: ids of test subjects; if empty, those of :func:`confident_subjects`.
        modalities: models' inputs; if empty, all.
        method: occlusion or Grad-CAM, see :mod:`mgmt_ray.prediction.saliency`.

    Returns:
        Paths ``figures/explain_SUBJECT_MODALITY.png``; figures of an earlier call are deleted.

    Raises:
        MgmtError: there are no results, they belong to other models, or a test subject or modality
            does not exist.
    """
    explained = [trial for trial in trials if not trial.network_config.no_saliency]
    if not explained:
        reasons = {
            f"{t.network}, a {t.network_config.description}: {t.network_config.no_saliency}"
            for t in trials
            if t.is_classifier
        }
        raise MgmtError(
            "explain: draws saliency maps of networks whose blocks can be followed, and this study "
            f"has none ({'; '.join(sorted(reasons))})."
        )
    existing = list(dict.fromkeys(trial.modality for trial in explained))
    predictions = read_table(inputs.folder.ensembles / "predictions.csv", _COMMAND)
    members = _evaluated_members(trials, inputs)
    ids = _chosen_subjects(subjects, predictions, inputs)
    chosen = list(dict.fromkeys(modalities)) or existing
    _check_names("--modalities", "modality of a model", chosen, existing)
    accessed = {"num_subjects": len(ids), "subjects": list(ids)}
    register = access_register(inputs.study, ids)
    log_access(inputs.folder, EXPLAIN, accessed, members.table["trial"], register)
    figures = FigureFolder(inputs.folder.root / "figures")
    paths: list[Path] = []
    for done, modality in enumerate(chosen, start=1):
        for explanation in explain_modality(modality, method, ids, members, inputs, predictions):
            name = f"explain_{explanation.subject}_{modality}"
            path = figures.save(overlay_figure(explanation), name)
            paths.append(path)
        progress(done, len(chosen))
    figures.delete_others("explain_*.png", paths)
    return paths


def confident_subjects(predictions: pd.DataFrame, best: pd.DataFrame) -> tuple[str, ...]:
    """Return the most confident test predictions of the best ensemble: two right, two wrong.

    Taken from the network whose best overall ensembles qualify in the most splits on validation,
    of several the one with the highest mean criterion M.

    Returns:
        Ids, correct predictions first; fewer than two of a kind where there are fewer.

    Examples:
        >>> best = pd.DataFrame({
        ...     "network": ["random"], "chosen": [1], "validation_m": [0.8],
        ...     "validation_sen": [0.8], "validation_spe": [0.8],
        ... })
        >>> predictions = pd.DataFrame({
        ...     "network": "random", "ensemble": BEST_OVERALL, "subject": ["a", "b", "c"],
        ...     "probability": [0.9, 0.6, 0.7], "label": [1, 1, 0],
        ... })
        >>> confident_subjects(predictions, best)
        ('a', 'b', 'c')
    """
    chosen = best[(best["chosen"] == 1) & ~best["network"].isin(BASELINES)]
    rates = zip(chosen["validation_sen"], chosen["validation_spe"], strict=True)
    by_network = chosen.assign(
        m=chosen["validation_m"].fillna(-1.0), qualified=[qualifies(*pair) for pair in rates]
    ).groupby("network", sort=False)[["qualified", "m"]]
    order = {name: tuple(means) for name, *means in by_network.mean().itertuples()}
    of_best = predictions[predictions["network"] == max(order, key=lambda name: order[name])]
    of_best = of_best[of_best["ensemble"] == BEST_OVERALL]
    predicted_label = (of_best["probability"] >= THRESHOLD).astype(int)
    ranked = of_best.assign(
        correct=predicted_label == of_best["label"],
        negative_confidence=-(of_best["probability"] - THRESHOLD).abs(),
    ).sort_values(["negative_confidence", "subject"])
    return tuple(
        subject
        for correct in (True, False)
        for subject in ranked.loc[ranked["correct"] == correct, "subject"].head(NUM_CONFIDENT)
    )


def _chosen_subjects(
    subjects: Sequence[str], predictions: pd.DataFrame, inputs: TrialInputs
) -> tuple[str, ...]:
    if not subjects:
        path = inputs.folder.ensembles / "best_ensembles.csv"
        return confident_subjects(predictions, read_table(path, _COMMAND))
    test_subjects = {s for split in inputs.splits for s in split.test}
    _check_names("--subjects", "test subject", subjects, sorted(test_subjects))
    return tuple(dict.fromkeys(subjects))


def explain_modality(
    modality: str,
    method: Method,
    ids: tuple[str, ...],
    members: Members,
    inputs: TrialInputs,
    predictions: pd.DataFrame,
) -> list[Explanation]:
    """Return each subject's volumes and saliency maps for one modality, in the order of ids.

    The access to the test set must have been logged. One modality at a time limits the memory.
    """
    held_out = sets_by_split(inputs, inputs.folder, inputs.cohort, ids)
    tasks = [
        (trial, held_out[trial.outer_fold])
        for trial in members.trials
        if trial.modality == modality and not trial.network_config.no_saliency
        if held_out[trial.outer_fold].label
    ]
    maps = map_members(_saliency_maps, tasks, (method, inputs), inputs, lambda *_: None)
    label = {s: value for _, tested in reversed(tasks) for s, value in tested.label.items()}
    of_modality = predictions[predictions["ensemble"] == modality]
    probability = of_modality.set_index(["network", "subject"])["probability"]
    explanations = []
    for subject in ids:
        maps_by_network: dict[str, list[np.ndarray]] = {}
        for (trial, _), by_subject in zip(tasks, maps, strict=True):
            if subject in by_subject:
                maps_by_network.setdefault(trial.network, []).append(by_subject[subject])
        saliency = {
            network: NetworkSaliency(
                float(probability[network, subject]), len(of_network), np.mean(of_network, axis=0)
            )
            for network, of_network in maps_by_network.items()
        }
        channels = {c: _original_volume(c, subject, inputs) for c in tasks[0][0].channels}
        explanations.append(
            Explanation(subject, label[subject], modality, method, channels, saliency)
        )
    return explanations


def _saliency_maps(task: Task, shared: tuple[Method, TrialInputs]) -> dict[str, np.ndarray]:
    """Return one member's saliency maps by subject."""
    trial, held_out = task
    method, inputs = shared
    resources = inputs.resources
    torch.set_num_threads(resources.threads)
    network = load_member(trial, inputs).to(resources.device).eval()
    data = load_held_out(held_out, trial, resources.device)
    return {
        subject: saliency_map(network, volume.unsqueeze(0), method)
        for subject, volume in zip(data.subjects, data.volumes, strict=True)
    }


def _original_volume(channel: str, subject: str, inputs: TrialInputs) -> np.ndarray:
    store = VolumeStore(inputs.folder.volumes, channel)
    volume: np.ndarray = store.load((subject,), store.versions[:1])[0, 0]
    return volume.astype(np.float32)


def _evaluated_members(trials: Sequence[Trial], inputs: TrialInputs) -> Members:
    """Return the members; raise MgmtError unless the result tables are theirs."""
    members = select_members(trials, inputs)
    path = inputs.folder.ensembles / "member_predictions.csv"
    predicted = set(read_predictions(path, _COMMAND)["weights_sha256"])
    missing = members.table.loc[~members.table["weights_sha256"].isin(predicted), "trial"].tolist()
    if missing:
        raise MgmtError(
            f"{path}: has no predictions of {shorten_list(missing)}, so it belongs to other "
            f"models. Run `{_COMMAND}` first."
        )
    check_members(members, inputs.folder)
    return members


def _check_names(flag: str, kind: str, names: Sequence[str], existing: Sequence[str]) -> None:
    unknown = [name for name in names if name not in existing]
    if unknown:
        raise MgmtError(
            f"{flag} {', '.join(unknown)}: no {kind} of this study. "
            f"Choose among {shorten_list(list(existing), limit=12)}."
        )
