"""Studies of any size, written in a moment with the package's own functions; nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import torch

from mgmt_ray.base import fingerprint, parse, stream, write_csv
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.cohort import Cohort, write_cohort
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.pipeline.select_cohorts import StudyCohorts
from mgmt_ray.pipeline.stages import plan_study
from mgmt_ray.preprocess.artefact_store import artefact_path, write_artefact, write_index
from mgmt_ray.preprocess.volume_store import volume_artefact
from mgmt_ray.selection.epoch_choice import EpochScore, choose_epoch
from mgmt_ray.selection.predictions import prediction_rows, write_table
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.study_config import StudyConfig, write_study
from mgmt_ray.study.trial import Trial
from mgmt_ray.trials.context import StudyContext, TrialInputs
from mgmt_ray.trials.resume import TrainingHistory
from mgmt_ray.trials.run_trial import input_checksums
from mgmt_ray.trials.trial_data import fold_subjects
from mgmt_ray.trials.trial_folder import Tables, finish_trial, table_rows
from mgmt_ray.trials.warm_start import find_initial_weights, subjects_seen

SIDE = 8
"""Voxels of a scan along each axis."""

MODALITIES = ("T1", "T1GD", "FLAIR", "PH", "FA")
TRAININGS_PER_SEED = 2 * len(MODALITIES) * 5
"""Networks × modalities × folds."""


@dataclass(frozen=True, slots=True)
class MadeStudy:
    """A study in its folder.

    Attributes:
        trials: the plan, whose trainings are finished; empty where only files were written.
    """

    context: StudyContext
    selected: StudyCohorts
    inputs: TrialInputs
    trials: list[Trial]


def study_context(folder: Path, modalities: tuple[str, ...], num_seeds: int) -> StudyContext:
    """Return a study of two networks, of which the second starts from the first one's weights."""
    out = folder / "out"
    network = {"kind": "random", "depth": 10, "width": 4}
    first = f"{out}/trials/first_{{modality}}_fold{{fold}}_seed{{repeat}}_*"
    content = {
        "name": "made",
        "cohort": {"reader": "table", "root": folder, "modalities": modalities},
        "recipe": {
            "window": [[0, SIDE]] * 3,
            "shape": [SIDE // 2] * 3,
            "shrink": 2,
            "rounds": 0,
        },
        "networks": {"first": network, "second": network | {"start_from": first}},
        "num_seeds": num_seeds,
    }
    study = parse(StudyConfig, content, "made study")
    return StudyContext(study, StudyFolder(out), Resources(backend="in-process"))


def scanned_study(folder: Path, num_subjects: int) -> StudyContext:
    """Write a table with a scan and a mask of each subject, as small NIfTI files."""
    random = stream(0, "scans")
    rows: list[tuple[str, ...]] = [("subject", "label", "FLAIR", "mask")]
    mask = np.zeros((SIDE,) * 3, np.uint8)
    mask[2:6, 2:6, 2:6] = 1
    for number in range(num_subjects):
        names = [f"S{number:05d}_{kind}.nii.gz" for kind in ("FLAIR", "mask")]
        mask[1, 1:7, 1:7] = random.integers(0, 2, (6, 6))  # no two tumours agree
        voxels = random.integers(1, 999, mask.shape).astype(np.int16)
        for name, image in zip(names, (voxels, mask), strict=True):
            nibabel.Nifti1Image(image, np.eye(4)).to_filename(folder / name)
        rows.append((f"S{number:05d}", str(number % 2), *names))
    write_csv(folder / "cohort.csv", rows)
    return study_context(folder, ("FLAIR",), 1)


def finished_study(
    folder: Path, num_trainings: int, num_subjects: int, num_epochs: int
) -> MadeStudy:
    """Write a study whose trainings are finished and have predicted, with numbers drawn at random.

    Args:
        num_trainings: at least; there are always :data:`TRAININGS_PER_SEED` per repetition.
        num_subjects: of the cohort; their scans are not written.
    """
    num_seeds = -(-num_trainings // TRAININGS_PER_SEED)
    context = study_context(folder, MODALITIES, num_seeds)
    subjects = [
        Subject(
            f"S{number:05d}",
            number % 2,
            {m: folder / f"S{number:05d}_{m}.nii.gz" for m in MODALITIES},
            folder / f"S{number:05d}_mask.nii.gz",
        )
        for number in range(num_subjects)
    ]
    cohort = Cohort(tuple(subjects))
    write_study(context.study, context.folder.study_file)
    write_cohort(cohort, context.folder.root)
    for modality in MODALITIES:
        _write_volumes(context, modality, cohort)
    selected = StudyCohorts(cohort, {})
    inputs, trials = plan_study(context, selected)
    validated = [_finish(trial, inputs, num_epochs) for trial in trials]
    _write_predictions(inputs, trials, validated)
    return MadeStudy(context, selected, inputs, trials)


def _write_volumes(context: StudyContext, modality: str, cohort: Cohort) -> None:
    """Write a store of volumes without scans."""
    recipe, folder = context.study.recipe, context.folder.volumes
    parameters = {"tumour_voxels": 8, "clipped_voxels": 0}
    entries = {}
    for subject in cohort.subjects:
        volumes = stream(0, modality, subject.id).random((1, *recipe.shape)).astype(np.float16)
        versions = {"original": ["", parameters]}
        artefact = volume_artefact(volumes, {"versions": versions})
        path = artefact_path(folder, modality, subject.id, fingerprint(versions))
        write_artefact(path, artefact)
        entries[subject.id] = {**artefact.description, "file": path.name}
    write_index(folder, modality, {"recipe": recipe.model_dump(mode="json")}, entries)


def _finish(trial: Trial, inputs: TrialInputs, num_epochs: int) -> pd.DataFrame:
    """Write the folder of a training as it ends, and return its predictions for validation."""
    random = stream(trial.seed, trial.id)
    split, fold = inputs.splits[trial.outer_fold], fold_subjects(trial, inputs)
    names = ("loss", "auc", "ap", "sen", "spe", "m")
    rows: list[dict[str, float]] = []
    for epoch in range(1, num_epochs + 1):
        scores = {f"{part}_{n}": random.random() for part in ("train", "validation") for n in names}
        rows.append(
            {"epoch": epoch, **scores, "lr_network": 1e-5, "lr_agent": float("nan"), "seconds": 1.0}
        )
    epochs = [EpochScore(int(r["epoch"]), r["validation_sen"], r["validation_spe"]) for r in rows]
    weights = {"weights": torch.from_numpy(random.random(4))}
    history = TrainingHistory(rows, choose_epoch(epochs), weights)

    validated: list[pd.DataFrame] = []

    def tables(checksum: str) -> Tables:
        validated.append(_predict(trial, "validation", fold.validation, fold.label, checksum))
        return {"validation.csv": table_rows(validated[0])}

    initial = find_initial_weights(trial)
    metadata = input_checksums(trial, inputs) | {
        "persons": subjects_seen(trial, split, inputs.cohort, initial),
        "num_parameters": 1000,
        "trained_parameters": 1000,
        "num_train_subjects": len(fold.training),
        "num_train_volumes": len(fold.training),
        "prior": 0.5,
        "seconds": 1.0 * num_epochs,
    }
    finish_trial(trial, inputs.folder, split, history, tables, metadata)
    return validated[0]


def _predict(
    trial: Trial,
    part: str,
    subjects: tuple[str, ...],
    label: Mapping[str, int],
    checksum: str,
) -> pd.DataFrame:
    model: dict[str, Any] = trial.identity | {"weights_sha256": checksum, "prior": 0.5}
    probability = stream(trial.seed, part).random(len(subjects))
    return prediction_rows(model, part, subjects, probability, [label[s] for s in subjects])


def _write_predictions(
    inputs: TrialInputs, trials: list[Trial], validated: list[pd.DataFrame]
) -> None:
    """Write the tables that the evaluation leaves before its statistics."""
    folder, label = inputs.folder, {s.id: s.label for s in inputs.cohort.subjects}
    records = [folder.read_trial(trial.id) for trial in trials]
    tested = [
        _predict(t, "test", inputs.splits[t.outer_fold].test, label, record["weights_sha256"])
        for t, record in zip(trials, records, strict=True)
    ]
    members = [
        {
            **trial.identity,
            "repeat": trial.repeat,
            "hyperparameters": "{}",
            "rule": record["selection"]["rule"],
            "epoch": record["selection"]["epoch"],
            "validation_m": record["selection"]["m"],
            "weights_sha256": record["weights_sha256"],
        }
        for trial, record in zip(trials, records, strict=True)
    ]
    write_table(pd.DataFrame(members), folder.ensembles / "members.csv")
    write_table(pd.concat(tested), folder.ensembles / "member_predictions.csv")
    write_table(pd.concat(validated), folder.ensembles / "validation_members.csv")
