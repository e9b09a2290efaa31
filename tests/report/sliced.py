"""A finished study of slices as the other stages leave it, with numbers drawn at random."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mgmt_ray.base import fingerprint, stream, write_json, write_text
from mgmt_ray.cohort.cohort import Cohort, write_cohort
from mgmt_ray.selection.predictions import PREDICTION_COLUMNS, write_table
from mgmt_ray.splits.draw import SplitConfig, make_splits
from mgmt_ray.splits.split import Split, write_splits
from mgmt_ray.statistics.result_tables import evaluate_ensembles
from tests.report.fabricated import make_cohort, write_examples

NUM_SLICES = 6
NUM_EPOCHS = 4
ALIKE = SplitConfig(folds=3)
STUDY = """\
name: slices
seed: 0
cohort: {reader: tcga, rule: median}
networks:
  chen:
    kind: slices
    width: 8
    CROSS_FITTED
    segmentation: {epochs: 4, batch_size: 8, learning_rate: 0.0005, patience: 5, rate_factor: 0.5}
    classification: {epochs: 4, batch_size: 32, learning_rate: 0.0002, stable_epochs: 10}
recipe: {window: [[0, 140], [39, 211], [44, 208]], shrink: 2, shape: [70, 86, 86]}
slices: {shape: [48, 48], shrink: 2, least_tumour_voxels: 50, most_slices: 6}
training: {epochs: 90, batch_size: 12, learning_rate: 1.0e-5, balance: prune}
"""


def write_sliced_study(
    out: Path,
    modalities: tuple[str, ...] = ("FLAIR", "T1GD"),
    num_subjects: int = 60,
    split_config: SplitConfig = ALIKE,
    num_seeds: int = 1,
    external: Sequence[str] = (),
    *,
    cross_fitted: bool = True,
) -> Path:
    """Write a finished study of real subjects; its first test patient's tumours are not found."""
    cohort = make_cohort(num_subjects, modalities)
    write_cohort(cohort, out)
    splits = make_splits(cohort, split_config, modalities)
    write_splits(splits, out / "splits.json")
    named = "external:\n" * bool(external) + "".join(f"  {name}: {{}}\n" for name in external)
    text = STUDY.replace("CROSS_FITTED", "parts: 2" if cross_fitted else "cross_fitted: false")
    write_text(out / "study.yaml", text + named)
    label = {s.id: s.label for s in cohort.subjects}
    models = [
        _Model(modality, split, fold, seed, len(splits) > 1)
        for modality, split, seed in product(modalities, splits, range(num_seeds))
        for fold in range(len(split.folds))
    ]
    found: dict[str, list[pd.DataFrame]] = {}
    for model in models:
        for name, table in model.write(out, label).items():
            found.setdefault(name, []).append(table)
    ensembles = out / "ensembles"
    for name, tables in found.items():
        write_table(pd.concat(tables), ensembles / f"{name}.csv")
    write_examples(ensembles, modalities, splits)
    opening = {"time": "2024-11-21T09:00:00", "purpose": "ensembles", "num_members": len(models)}
    write_text(ensembles / "test_openings.jsonl", json.dumps(opening) + "\n")
    evaluate_ensembles(out)
    for name in external:
        _write_external(out / "external" / name, models, make_cohort(30, modalities))
    return out


class _Model:
    """One fold's segmentation and classifier."""

    def __init__(self, modality: str, split: Split, fold: int, seed: int, several: bool) -> None:
        self.modality, self.split, self.fold, self.seed = modality, split, fold, seed
        outer = f"outer{split.outer_fold}_" if several else ""
        place = f"{modality}_{outer}fold{fold}_seed{seed}"
        self.classifier, self.segmentation = f"chen_{place}", f"chen-segmentation_{place}"
        self.draws = stream(4, place)
        self.weights = fingerprint([place])

    def write(self, out: Path, label: Mapping[str, int]) -> dict[str, pd.DataFrame]:
        """Write both trials; returns its rows of the tables of ensembles."""
        train, validation = self.split.fold(self.fold, {*label})
        slices = {
            part: self.slices(subjects, label, part)
            for part, subjects in (("train", train), ("validation", validation))
        }
        for trial in (self.classifier, self.segmentation):
            self._write_trial(out, trial)
        for part, table in slices.items():
            write_table(table, out / "trials" / self.classifier / f"slice_{part}.csv")
        segmented = [
            self.segmented(subjects, part)
            for part, subjects in (("train", train), ("validation", validation))
        ]
        write_table(pd.concat(segmented), out / "trials" / self.segmentation / "segmentations.csv")
        test = self.slices(self.split.test, label, "test")
        return {
            "members": pd.DataFrame([self._member()]),
            "member_predictions": self.patients(test),
            "validation_members": self.patients(slices["validation"]),
            "slice_predictions": test,
            "segmentations": self.segmented(self.split.test, "test"),
        }

    def slices(self, subjects: Sequence[str], label: Mapping[str, int], part: str) -> pd.DataFrame:
        """Return a row per slice; training subjects are classified better than others."""
        strength = 2.0 if part == "train" else 0.6
        rows = []
        for subject in subjects:
            mean_logit = strength * (label[subject] - 0.4) + self.draws.normal(0, 1)
            for depth in range(NUM_SLICES):
                logit = mean_logit + self.draws.normal(0, 0.5)
                rows.append(
                    {
                        "subject": subject,
                        "depth": 40 + depth,
                        "split": part,
                        **self._place(self.classifier),
                        "probability": 1 / (1 + np.exp(-logit)),
                        "label": label[subject],
                        "shared_pixels": 80,
                        "predicted_pixels": 100,
                        "tumour_pixels": 100,
                        "dice": 0.8,
                    }
                )
        return pd.DataFrame(rows)

    def segmented(self, subjects: Sequence[str], part: str) -> pd.DataFrame:
        """A row per patient; the first held-out one has no tumour predicted."""
        rows = []
        for number, subject in enumerate(subjects):
            lost = number == 0 and part in ("test", "external")
            dice = 0.0 if lost else 0.9 - 0.2 * self.draws.beta(1, 4)
            rows.append(
                {
                    **self._place(self.segmentation),
                    "subject": subject,
                    "split": part,
                    "num_slices": NUM_SLICES,
                    "predicted_voxels": 0 if lost else 900,
                    "dice_slices": max(dice - 0.05, 0),
                    "dice_patient": dice,
                    "dice_volume": max(dice - 0.01, 0),
                    "hd95_mm": 373.1 if lost else 2 + 8 * self.draws.beta(1, 3),
                    "segmented_slices": 40,
                    "seconds": 0.4 + 0.2 * self.draws.random(),
                    "device": "an invented GPU",
                }
            )
        return pd.DataFrame(rows)

    def patients(self, slices: pd.DataFrame) -> pd.DataFrame:
        """The prediction table that slices make."""
        first = slices.drop_duplicates("subject").set_index("subject")
        mean = slices.groupby("subject")["probability"].mean()
        table = first.assign(
            probability=mean, probability_std=0.0, weights_sha256=self.weights, prior=0.4
        )
        return table.reset_index()[list(PREDICTION_COLUMNS)]

    def _place(self, trial: str) -> dict[str, Any]:
        return {
            "outer_fold": self.split.outer_fold,
            "fold": self.fold,
            "network": "chen",
            "modality": self.modality,
            "trial": trial,
        }

    def _member(self) -> dict[str, Any]:
        return {
            **self._place(self.classifier),
            "repeat": self.seed,
            "hyperparameters": "{}",
            "rule": "best_accuracy",
            "epoch": 2,
            "validation_m": 0.6,
            "weights_sha256": self.weights,
        }

    def _write_trial(self, out: Path, trial: str) -> None:
        is_segmentation = trial == self.segmentation
        epochs: dict[str, Any] = {"epoch": np.arange(1, NUM_EPOCHS + 1)}
        scores = ("dice",) if is_segmentation else ("auc", "ap", "sen", "spe", "m")
        for side, score in product(("train", "validation"), ("loss", *scores)):
            epochs[f"{side}_{score}"] = self.draws.uniform(0.4, 0.9, NUM_EPOCHS)
        write_table(pd.DataFrame(epochs), out / "trials" / trial / "epochs.csv")
        rule = "lowest_loss" if is_segmentation else "best_accuracy"
        content = {
            "id": trial,
            "status": "finished",
            "network": "chen",
            "modality": self.modality,
            "outer_fold": self.split.outer_fold,
            "fold": self.fold,
            "repeat": self.seed,
            "network_config": {"kind": "segmentation" if is_segmentation else "slice_classifier"},
            "part": None,
            "needs": [] if is_segmentation else [self.segmentation],
            "selection": {"rule": rule, "epoch": 2, "m": None},
            "trained_parameters": 442786 if is_segmentation else 3458,
            "num_train_subjects": 20,
            "num_train_volumes": 20 * NUM_SLICES * 9,
            "seconds": 12.5,
            "split_hash": self.split.hash,
            "slices_checksum": {self.modality: fingerprint(self.modality)},
            "weights_sha256": self.weights,
            "versions": {"torch": "2.13.0", "numpy": "2.4.6"},
        }
        write_json(out / "trials" / trial / "trial.json", content)


def _write_external(out: Path, models: Sequence[_Model], cohort: Cohort) -> None:
    write_cohort(cohort, out)
    label = {s.id: s.label for s in cohort.subjects}
    ids = list(label)
    slices = [model.slices(ids, label, "external") for model in models]
    tables = {
        "member_predictions": [m.patients(s) for m, s in zip(models, slices, strict=True)],
        "slice_predictions": slices,
        "segmentations": [model.segmented(ids, "external") for model in models],
    }
    for name, parts in tables.items():
        write_table(pd.concat(parts), out / "ensembles" / f"{name}.csv")
    evaluate_ensembles(out, "external", list(dict.fromkeys(m.modality for m in models)))
