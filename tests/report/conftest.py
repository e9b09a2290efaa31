"""A study's folder as the other stages leave it, with numbers drawn at random."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mgmt_ray.base import fingerprint, stream, write_json, write_text
from mgmt_ray.cohort.cohort import write_cohort
from mgmt_ray.figures.figure_folder import FigureFolder
from mgmt_ray.report.html import write_report
from mgmt_ray.report.study_results import StudyResults, read_study_results
from mgmt_ray.selection.epoch_choice import EpochScore, choose_epoch
from mgmt_ray.selection.predictions import PREDICTION_COLUMNS, write_table
from mgmt_ray.splits.draw import SplitConfig, make_splits
from mgmt_ray.splits.split import Split, write_splits
from mgmt_ray.statistics.result_tables import evaluate_ensembles
from tests.report.fabricated import make_cohort, predict_baselines, write_audit, write_policies
from tests.report.sliced import write_sliced_study

NETWORKS = ("spottune", "random", "transfer")
ONE_SPLIT = SplitConfig()
SETTINGS = """\
cohort: {reader: upenn}
recipe: {window: [[0, 140], [39, 211], [44, 208]], shrink: 2, shape: [70, 86, 86]}
training: {epochs: 20, batch_size: 12, learning_rate: 1.0e-5, balance: prune}
"""
METRICS = ("loss", "auc", "ap", "sen", "spe", "m")


def write_study(
    out: Path,
    signal: Mapping[str, float] | None = None,
    modalities: tuple[str, ...] = ("PH", "PSR", "FA", "T1", "T1GD"),
    networks: tuple[str, ...] = NETWORKS,
    num_subjects: int = 120,
    num_epochs: int = 20,
    name: str = "fake-study",
    split_config: SplitConfig = ONE_SPLIT,
    external: tuple[str, ...] = (),
    is_whole: bool = False,
) -> Path:
    """Write a finished study; ``signal`` shifts the methylated subjects' probabilities.

    With ``signal`` None the cohort counts as a real one, else as synthetic. ``external`` names
    cohorts that have T1 and T1GD only. A whole study has all optional parts: baselines, the
    agent's policies, an audit.
    """
    cohort = make_cohort(num_subjects, modalities)
    write_cohort(cohort, out)
    splits = make_splits(cohort, split_config, modalities)
    write_splits(splits, out / "splits.json")
    write_text(out / "study.yaml", study_text(name, networks, external))
    if signal is not None:
        write_json(out / "planted.json", {"signal": signal})
    members, predictions, validations = [], [], []
    label = {s.id: s.label for s in cohort.subjects}
    for network in networks:
        for modality in modalities:
            for split, fold in product(splits, range(5)):
                member = write_trial(out, split, network, modality, fold, num_epochs)
                members.append(member)
                strength = (signal or {}).get(modality, 0.0) * (network == "spottune")
                tested = {subject: label[subject] for subject in split.test}
                predictions.append(predict(member, tested, strength))
                available = {s.id for s in cohort.subjects if modality in s.scans}
                _, validating = split.fold(fold, available)
                known = {subject: label[subject] for subject in validating}
                validations.append(predict(member, known, strength).assign(split="validation"))
    if is_whole:
        for split in splits:
            predictions += predict_baselines(split, label, "test")
            validations += predict_baselines(split, label, "validation")
        tested = {subject: label[subject] for split in splits for subject in split.test}
        write_policies(members, tested, out)
        write_audit(out, name)
    write_table(pd.DataFrame(members), out / "ensembles" / "members.csv")
    write_table(pd.concat(predictions), out / "ensembles" / "member_predictions.csv")
    write_table(pd.concat(validations), out / "ensembles" / "validation_members.csv")
    opening = {"time": "2024-11-21T09:00:00", "reason": "ensembles", "num_members": len(members)}
    write_text(out / "ensembles" / "test_openings.jsonl", json.dumps(opening) + "\n")
    evaluate_ensembles(out)
    for other in external:
        write_external(out / "external" / other, members, modalities)
    return out


def study_text(name: str, networks: Sequence[str], external: Sequence[str]) -> str:
    """Return the part of a resolved study that reports read."""
    text = f"name: {name}\nseed: 42\nnetworks:\n"
    text += "".join(f"  {network}: {{kind: {network}}}\n" for network in networks)
    text += "external:\n" * bool(external) + "".join(f"  {other}: {{}}\n" for other in external)
    return text + SETTINGS


def write_external(
    out: Path, members: Sequence[Mapping[str, object]], modalities: tuple[str, ...]
) -> None:
    """Write predictions of the models of T1 and T1GD, with a signal, on 80 other subjects."""
    cohort = make_cohort(80, ("T1", "T1GD"))
    write_cohort(cohort, out)
    label = {s.id: s.label for s in cohort.subjects}
    chosen = [member for member in members if member["modality"] in ("T1", "T1GD")]
    table = pd.concat([predict(member, label, 2.0) for member in chosen])
    write_table(table.assign(split="external"), out / "ensembles" / "member_predictions.csv")
    evaluate_ensembles(out, "external", modalities)


def write_trial(
    out: Path, split: Split, network: str, modality: str, fold: int, num_epochs: int
) -> dict[str, object]:
    """Write one trial's folder; returns its row of the members' table."""
    draws = stream(1, network, modality, fold)
    epochs = np.arange(1, num_epochs + 1)
    progress = 1 - np.exp(-epochs / 8)
    noise = draws.normal(0, 0.05, (len(METRICS) * 2, num_epochs))
    table = {"epoch": epochs}
    for i, side in enumerate(("train", "validation")):
        gain = (0.4, 0.08)[i]
        loss = 0.75 - 0.3 * progress if side == "train" else 0.72 + 0.2 * progress
        table[f"{side}_loss"] = np.abs(loss + noise[i] / 2)
        for j, metric in enumerate(METRICS[1:], start=1):
            values = 0.5 + gain * progress + noise[2 * j + i]
            table[f"{side}_{metric}"] = np.clip(values, 0, 1)
    frame = pd.DataFrame(table | {"lr_network": 1e-5, "lr_agent": 1e-4, "seconds": 1.5})
    history = [
        EpochScore(row["epoch"], row["validation_sen"], row["validation_spe"])
        for row in frame.to_dict("records")
    ]
    if draws.random() < 0.15:
        history = [EpochScore(h.epoch, min(h.sen, 0.5), h.spe) for h in history]
    choice = choose_epoch(history)
    weights = fingerprint([network, modality, fold, split.outer_fold])
    trial = f"{network}_{modality}_fold{fold}_seed0_{weights[:10]}"
    write_table(frame, out / "trials" / trial / "epochs.csv")
    content = {
        "id": trial,
        "status": "finished",
        "network": network,
        "modality": modality,
        "trained_parameters": {"spottune": 60_506_977, "random": 46_159_041}.get(network, 2049),
        "num_train_subjects": 66,
        "num_train_volumes": 300,
        "seconds": 1.5 * num_epochs,
        "split_hash": split.hash,
        "volumes_checksum": {m: fingerprint(m) for m in modality.split("+")},
        "versions": {"torch": "2.13.0", "numpy": "2.4.6"},
    }
    write_json(out / "trials" / trial / "trial.json", content)
    return {
        "network": network,
        "modality": modality,
        "repeat": 0,
        "outer_fold": split.outer_fold,
        "fold": fold,
        "trial": trial,
        "hyperparameters": "{}",
        "rule": choice.rule,
        "epoch": choice.epoch,
        "validation_m": choice.m,
        "weights_sha256": weights,
    }


def predict(
    member: Mapping[str, object], label: Mapping[str, int], strength: float
) -> pd.DataFrame:
    """Predict by one member, with noise that members share per subject and noise of its own."""
    draws = stream(2, str(member["trial"]))
    shared = stream(3, str(member["modality"])).normal(size=len(label))
    labels = np.array(list(label.values()))
    logits = 0.3 * shared + draws.normal(0, 0.4, len(labels)) + strength * (labels - 0.4)
    keys = ("outer_fold", "fold", "network", "modality", "trial", "weights_sha256")
    named = {name: member[name] for name in keys}
    return pd.DataFrame(
        {
            "subject": list(label),
            "split": "test",
            **named,
            "probability": 1 / (1 + np.exp(-logits)),
            "probability_std": 0.05 if member["network"] == "spottune" else 0.0,
            "label": labels,
            "prior": 0.5,
        }
    )[list(PREDICTION_COLUMNS)]


@pytest.fixture(scope="session")
def make_study() -> Callable[..., Path]:
    """The function that writes a study's folder."""
    return write_study


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic study with a signal in PH that its results show; read it, do not change it."""
    return write_study(tmp_path_factory.mktemp("study") / "out", signal={"PH": 2.0})


@pytest.fixture(scope="session")
def whole_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with every optional table, and an audit; read it, do not change it."""
    modalities = ("PH", "FA", "T1")
    out = tmp_path_factory.mktemp("whole") / "out"
    return write_study(out, {"PH": 2.0}, modalities, num_epochs=3, is_whole=True)


@pytest.fixture(scope="session")
def whole_report(whole_study: Path) -> Path:
    """Its report."""
    return write_report(whole_study)


@pytest.fixture(scope="session")
def small_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest study, of real subjects, with its report; read it, do not change it."""
    out = tmp_path_factory.mktemp("small") / "out"
    write_study(out, None, ("T1",), ("random",), num_subjects=60, num_epochs=2)
    write_report(out)
    return out


@pytest.fixture(scope="session")
def sliced_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of slices alone; read it, do not change it."""
    return write_sliced_study(tmp_path_factory.mktemp("sliced") / "out")


@pytest.fixture(scope="session")
def sliced_results(sliced_study: Path) -> StudyResults:
    """The results that its report shows."""
    return read_study_results(sliced_study)


@pytest.fixture(scope="session")
def nested_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two outer folds and an external cohort without DSC; read it, do not change it."""
    return write_study(
        tmp_path_factory.mktemp("nested") / "out",
        modalities=("PH", "T1", "T1GD"),
        networks=("spottune", "random"),
        num_epochs=3,
        split_config=SplitConfig(outer_folds=2),
        external=("elsewhere",),
    )


@pytest.fixture
def figures(tmp_path: Path) -> FigureFolder:
    """Where a test's figures are saved."""
    return FigureFolder(tmp_path / "figures")
