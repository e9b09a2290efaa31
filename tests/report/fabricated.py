"""A cohort, and the parts of a whole study besides networks: baselines, policies, audit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mgmt_ray.base import fingerprint, stream, write_json
from mgmt_ray.cohort.cohort import Cohort, Exclusion
from mgmt_ray.cohort.subject import MODALITY_GROUPS, Subject
from mgmt_ray.selection.predictions import PREDICTION_COLUMNS, write_table
from mgmt_ray.splits.split import Split
from mgmt_ray.study.baseline_config import BASELINES

NUM_BLOCKS = 6
SIDE = 48
"""Pixels of a slice."""
AUDITED = "2024-11-22T09:00:00+00:00"
CHECKS = (
    ("openings", "passed", "one opening", "1 opening", ""),
    (
        "duplicates",
        "failed",
        "no scan twice",
        "S0001 and S0002 are one scan",
        "Exclude one of them.",
    ),
    ("permuted labels", "not done", "a training", "no network to train", ""),
)


def make_cohort(num_subjects: int, modalities: tuple[str, ...]) -> Cohort:
    """Make subjects of whom a fifth has no DSC and two in five are methylated."""
    subjects = [
        Subject(
            id=f"S{i:04d}",
            label=int(i % 5 in (0, 2)),
            scans={
                m: Path(f"{m}.nii.gz")
                for m in modalities
                if m not in MODALITY_GROUPS["DSC"] or i % 5 != (i // 5) % 5
            },
            mask=Path("mask.nii.gz"),
            covariates={"sex": "FM"[i % 3 > 0], "age": f"{25 + i % 56}", "idh1": "Wildtype"},
        )
        for i in range(num_subjects)
    ]
    without_dsc = [s.id for s in subjects if len(s.scans) < len(modalities)]
    exclusions = [Exclusion(name, "DSC", "no DSC scans") for name in without_dsc]
    exclusions += [Exclusion(f"X{i}", "cohort", "MGMT status not available") for i in range(7)]
    return Cohort(tuple(subjects), tuple(exclusions))


def predict_baselines(split: Split, label: Mapping[str, int], part: str) -> list[pd.DataFrame]:
    """Predict by baselines without any signal; prevalence is the same for all subjects.

    Each baseline is a model per fold. ``part`` is "test" or "validation"; a fold's model predicts
    its own validation subjects.
    """
    tables = []
    for name, fold in ((name, fold) for name in BASELINES for fold in range(5)):
        training, validating = split.fold(fold, {*label})
        subjects = split.test if part == "test" else validating
        share = float(np.mean([label[subject] for subject in training]))
        std = 0.0 if name == "prevalence" else 0.1
        draws = stream(5, name, part, split.outer_fold)
        trial = f"{name}-outer{split.outer_fold}-fold{fold}"
        table = pd.DataFrame(
            {
                "subject": subjects,
                "split": part,
                "outer_fold": split.outer_fold,
                "fold": fold,
                "network": name,
                "modality": name,
                "trial": trial,
                "probability": share + std * draws.normal(size=len(subjects)).clip(-2, 2),
                "probability_std": 0.0,
                "label": [label[subject] for subject in subjects],
                "weights_sha256": fingerprint(trial),
                "prior": share,
            }
        )
        tables.append(table[list(PREDICTION_COLUMNS)])
    return tables


def write_policies(
    members: Sequence[Mapping[str, object]], tested: Mapping[str, int], out: Path
) -> None:
    """Write random policies of each SpotTune member; no file if there is none."""
    draws = stream(12, "policies")
    keys = ("trial", "network", "modality", "outer_fold", "fold", "repeat")
    blocks = [f"block_{i + 1}" for i in range(NUM_BLOCKS)]
    tables = []
    for member in (member for member in members if member["network"] == "spottune"):
        named = pd.DataFrame({"subject": list(tested), "label": list(tested.values())})
        for place, key in enumerate(keys):
            named.insert(place, key, member[key])
        tuned = pd.DataFrame(draws.beta(2, 2, (len(tested), NUM_BLOCKS)), columns=blocks)
        tables.append(named.join(tuned))
    if tables:
        write_table(pd.concat(tables), out / "ensembles" / "policies.csv")


def write_audit(out: Path, study: str) -> None:
    """Write the findings of an audit after the test set was opened."""
    keys = ("name", "outcome", "expected", "found", "remedy")
    checks = [dict(zip(keys, check, strict=True)) for check in CHECKS]
    content = {"study": study, "time": AUDITED, "seed": 0, "checks": checks}
    write_json(out / "audit.json", content)


def write_examples(folder: Path, modalities: Sequence[str], splits: Sequence[Split]) -> None:
    """Write a round tumour, and a prediction beside it, of every test patient.

    Nothing is predicted of the first.
    """
    rows = list(_examples(modalities, splits))
    told = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    np.savez_compressed(folder / "segmentation_examples.npz", **told)


def _examples(modalities: Sequence[str], splits: Sequence[Split]) -> Iterator[dict[str, Any]]:
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    for modality, split in product(modalities, splits):
        for number, subject in enumerate(split.test):
            draws = stream(6, modality, subject)
            brain = np.hypot(y, x) < 0.45 * SIDE
            given = np.hypot(y - 4, x + 6) < 7
            image = brain * (0.2 + 0.15 * draws.normal(size=brain.shape)) + 1.5 * given
            away = np.hypot(y - 4 - draws.normal(0, 1), x + 6 - draws.normal(0, 1))
            probability = 1 / (1 + np.exp(away - 7)) * (number > 0)
            yield {
                "image": image.astype(np.float16),
                "given": given.astype(np.uint8),
                "probability": probability.astype(np.float16),
                "subject": subject,
                "network": "chen",
                "modality": modality,
                "depth": 42,
                "outer_fold": split.outer_fold,
            }
