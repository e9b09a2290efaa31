"""Pictures of where the networks look, for a few test subjects, once results are there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mgmt_ray.base import MgmtError
from mgmt_ray.cluster.parallel_map import parallel_map_in_order
from mgmt_ray.cluster.progress import ProgressCallback
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.figures.attribution_overlay import Explanation, NetworkSaliency, overlay_figure
from mgmt_ray.figures.style import delete_other_figures, save_figure
from mgmt_ray.prediction.access_log import log_opening
from mgmt_ray.prediction.predict_members import load_held_out, load_member
from mgmt_ray.prediction.saliency import Method, saliency_map
from mgmt_ray.prediction.test_set import Members, check_weights, select_members
from mgmt_ray.preprocess.volume_store import VolumeStore
from mgmt_ray.selection.best_on_validation import BEST_OVERALL
from mgmt_ray.selection.predictions import read_predictions, read_table, shorten_list
from mgmt_ray.splits.split import resolve_labels
from mgmt_ray.study.folder import EXPLAIN
from mgmt_ray.study.held_out_set import HeldOutSet
from mgmt_ray.study.trial import Trial
from mgmt_ray.training.metrics import THRESHOLD
from mgmt_ray.trials.context import TrialInputs

NUM_CONFIDENT = 2
_COMMAND = "mgmt-ray ensemble STUDY"


def explain_subjects(
    subjects: Sequence[str],
    modalities: Sequence[str],
    method: Method,
    trials: Sequence[Trial],
    inputs: TrialInputs,
    resources: Resources,
    progress: ProgressCallback,
) -> list[Path]:
    """Draw where each network finds its evidence, a figure per subject and modality.

    A map is the mean over the members that predicted the subject in the ensembles: folds, seeds and
    splits. The opening is logged before anything is read.

    Args:
        subjects: ids of test subjects; none: :func:`confident_subjects`.
        modalities: models' inputs; none: all.
        method: how evidence is found.
        trials: the whole plan.
        inputs: of the study.
        resources: with backend "ray", Ray must be connected.
        progress: is given figures done and their number.

    Returns:
        The figures ``figures/explain_SUBJECT_MODALITY.png``; those of an earlier call are deleted.

    Raises:
        MgmtError: no results yet, results of other models, or no such test subject or modality.
    """
    existing = list(dict.fromkeys(t.modality for t in trials if not t.takes_slices))
    if not existing:
        raise MgmtError(
            "explain: takes parts away from the volumes of 3-D networks, and this study has none. "
            "Which part of a slice its networks looked at, the predicted tumour, is drawn in "
            "report.html."
        )
    predictions = read_table(inputs.folder.ensembles / "predictions.csv", _COMMAND)
    members = _evaluated_members(trials, inputs)
    ids = _chosen_subjects(subjects, predictions, inputs)
    chosen = list(dict.fromkeys(modalities)) or existing
    _check_known("--modalities", "modality of a model", chosen, existing)
    metadata = {"purpose": EXPLAIN, "num_subjects": len(ids), "subjects": list(ids)}
    log_opening(inputs.folder, metadata | members.names)
    figures = inputs.folder.root / "figures"
    paths: list[Path] = []
    for done, modality in enumerate(chosen, start=1):
        for explained in explain_modality(
            modality, method, ids, members, inputs, resources, predictions
        ):
            path = figures / f"explain_{explained.subject}_{modality}.png"
            save_figure(overlay_figure(explained), path)
            paths.append(path)
        progress(done, len(chosen))
    delete_other_figures(figures, "explain_*.png", paths)
    return paths


def confident_subjects(predictions: pd.DataFrame, best: pd.DataFrame) -> tuple[str, ...]:
    """The test subjects of whom the best overall ensemble was surest: two rightly, two wrongly.

    Of the networks, the one whose ensemble was best on validation counts.

    Args:
        predictions: of ensembles.
        best: the table of best ensembles.

    Returns:
        Ids, those called rightly first; fewer where fewer were called so.
    """
    m = best[best["chosen"] == 1].groupby("network", sort=False)["validation_m"].mean()
    own = predictions[predictions["network"] == m.fillna(-1).idxmax()]
    own = own[own["ensemble"] == BEST_OVERALL]
    called = (own["probability"] >= THRESHOLD).astype(int)
    surest = own.assign(
        right=called == own["label"], doubt=-(own["probability"] - THRESHOLD).abs()
    ).sort_values(["doubt", "subject"])
    return tuple(
        subject
        for right in (True, False)
        for subject in surest.loc[surest["right"] == right, "subject"].head(NUM_CONFIDENT)
    )


def _chosen_subjects(
    subjects: Sequence[str], predictions: pd.DataFrame, inputs: TrialInputs
) -> tuple[str, ...]:
    if not subjects:
        path = inputs.folder.ensembles / "best_ensembles.csv"
        return confident_subjects(predictions, read_table(path, _COMMAND))
    tested = {s for split in inputs.splits for s in split.test}
    _check_known("--subjects", "test subject", subjects, sorted(tested))
    return tuple(dict.fromkeys(subjects))


def explain_modality(
    modality: str,
    method: Method,
    ids: tuple[str, ...],
    members: Members,
    inputs: TrialInputs,
    resources: Resources,
    predictions: pd.DataFrame,
) -> list[Explanation]:
    """Each subject's volumes and maps, in the order of ids; the test set must have been opened.

    One modality at a time bounds what is held.

    Args:
        modality: the models' input.
        method: how evidence is found.
        ids: of test subjects.
        members: the models, of all inputs.
        inputs: of the study.
        resources: with backend "ray", Ray must be connected.
        predictions: of the ensembles, whose probabilities are shown.
    """
    of_input = (trial for trial in members.trials if trial.modality == modality)
    trials = [trial for trial in of_input if not trial.takes_slices]
    tasks = [
        (trial, held_out) for trial in trials if (held_out := _held_out(trial, ids, inputs)).label
    ]
    shared, cpus, gpus = (method, inputs, resources), resources.cpus, resources.gpus
    maps = parallel_map_in_order(
        _saliency_maps, tasks, shared, resources, lambda *_: None, cpus, gpus
    )
    label = {s: value for _, held_out in reversed(tasks) for s, value in held_out.label.items()}
    own = predictions[predictions["ensemble"] == modality]
    probability = own.set_index(["network", "subject"])["probability"]
    explained = []
    for subject in ids:
        found: dict[str, list[np.ndarray]] = {}
        for (trial, _), by_subject in zip(tasks, maps, strict=True):
            if subject in by_subject:
                found.setdefault(trial.network, []).append(by_subject[subject])
        saliency = {
            network: NetworkSaliency(
                float(probability[network, subject]), len(own), np.mean(own, axis=0)
            )
            for network, own in found.items()
        }
        channels = {c: _original_volume(c, subject, inputs) for c in trials[0].channels}
        explained.append(Explanation(subject, label[subject], modality, method, channels, saliency))
    return explained


def _held_out(trial: Trial, ids: tuple[str, ...], inputs: TrialInputs) -> HeldOutSet:
    """Those of the subjects that a member did not train on and was tested on."""
    split = inputs.splits[trial.outer_fold]
    label = resolve_labels(split, inputs.cohort)
    own = {subject: label[subject] for subject in ids if subject in split.test}
    return HeldOutSet("test", inputs.folder, own, inputs.cohort)


def _saliency_maps(
    task: tuple[Trial, HeldOutSet], shared: tuple[Method, TrialInputs, Resources]
) -> dict[str, np.ndarray]:
    """One member's evidence by subject."""
    trial, held_out = task
    method, inputs, resources = shared
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
    """The members, which must be those that the tables of results are of."""
    members = select_members(trials, inputs)
    path = inputs.folder.ensembles / "member_predictions.csv"
    known = set(read_predictions(path, _COMMAND)["weights_sha256"])
    new = members.table.loc[~members.table["weights_sha256"].isin(known), "trial"].tolist()
    if new:
        raise MgmtError(
            f"{path}: has no predictions of {shorten_list(new)}, so it is of other models. "
            f"Run `{_COMMAND}` first."
        )
    check_weights(members, inputs)
    return members


def _check_known(flag: str, what: str, wanted: Sequence[str], existing: Sequence[str]) -> None:
    unknown = [name for name in wanted if name not in existing]
    if unknown:
        raise MgmtError(
            f"{flag} {', '.join(unknown)}: no {what} of this study. "
            f"Choose among {shorten_list(list(existing), limit=12)}."
        )
