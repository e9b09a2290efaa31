"""How long a paper-sized study's tables and report take: ``python -m benchmarks.statistics``."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import tyro

from mgmt_ray.base import stream
from mgmt_ray.cohort.cohort import Cohort, write_cohort
from mgmt_ray.cohort.subject import MODALITIES, MODALITY_GROUPS, Subject
from mgmt_ray.selection.predictions import PREDICTION_COLUMNS, read_table, write_table
from mgmt_ray.statistics.comparisons import COMPARISON_MODELS
from mgmt_ray.statistics.tables import evaluate_ensembles

NETWORKS = ("spottune", "random", "transfer")
NUM_FOLDS = 5
NUM_METHYLATED, NUM_UNMETHYLATED = 24, 33
NUM_TRAINED = {"Struct": 183, "DTI": 151, "DSC": 132}
SEED = 42


@dataclass(frozen=True)
class Options:
    """Time the statistics of a study of the paper's shape, and its report.

    Attributes:
        rounds: times that the statistics are computed; the median counts
        report: also write a report, of a folder as the report's tests make it
    """

    rounds: int = 3
    report: bool = True


def measure(options: Options) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        num_members = write_study(out)
        start = time.process_time()
        seconds = [seconds_of(lambda: evaluate_ensembles(out)) for _ in range(options.rounds)]
        process_seconds = (time.process_time() - start) / options.rounds
        metrics = read_table(out / "ensembles" / "metrics.csv", "")
    return {
        "name": "statistics",
        "seconds": median(seconds),
        "first_seconds": seconds[0],
        "process_seconds": process_seconds,
        "report_seconds": report_seconds() if options.report else None,
        "num_members": num_members,
        "num_subjects": int(metrics["num_subjects"].max()),
        "num_models": len(metrics),
    }


def report_seconds() -> float:
    """Seconds for the report of 165 members, 57 test subjects, 90 epochs and every table."""
    from mgmt_ray.report.html import write_report
    from tests.report import conftest, fabricated

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        conftest.write_study(out, modalities=MODALITIES, num_subjects=238, num_epochs=90)
        fabricated.write_further(out)
        return seconds_of(lambda: write_report(out))


def seconds_of(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def write_study(out: Path) -> int:
    """Write what the statistics read: members' predictions, members, cohort.

    Returns:
        The number of trained networks; the comparison models come on top.
    """
    test, trained = make_cohort()
    write_cohort(Cohort((*test, *trained)), out)
    members, tested, validated = [], [], []
    inputs = [(network, modality) for network in NETWORKS for modality in MODALITIES]
    inputs += [(name, name) for name in COMPARISON_MODELS]
    for network, modality in inputs:
        simple = network in COMPARISON_MODELS
        own = [s for s in trained if simple or modality in s.scans]
        for fold in range(NUM_FOLDS):
            trial = f"{network}-{modality}-outer0-fold{fold}"
            names = {"network": network, "modality": modality, "fold": fold, "trial": trial}
            if not simple:
                members.append({**names, "seed": 0, "outer": 0})
            tested.append(predict(test, names, "test"))
            validated.append(predict(own[fold::NUM_FOLDS], names, "validation"))
    write_table(pd.DataFrame(members), out / "ensembles" / "members.csv")
    write_table(pd.concat(tested), out / "ensembles" / "member_predictions.csv")
    write_table(pd.concat(validated), out / "ensembles" / "validation_members.csv")
    return len(members)


def make_cohort() -> tuple[tuple[Subject, ...], tuple[Subject, ...]]:
    """Test and training subjects in the paper's numbers, with fake covariates."""
    draws = stream(SEED, "cohort")

    def subject(name: str, label: int, modalities: Sequence[str]) -> Subject:
        covariates = {
            "age": str(round(float(np.clip(draws.normal(62, 12), 18, 89)), 1)),
            "sex": str(draws.choice(["F", "M"], p=[0.37, 0.63])),
            "idh1": str(draws.choice(["Wildtype", "Mutated", "NOS/NEC"], p=[0.81, 0.03, 0.16])),
        }
        scans = {modality: Path(f"{modality}.nii.gz") for modality in modalities}
        return Subject(name, label, scans, Path("mask.nii.gz"), covariates)

    labels = [1] * NUM_METHYLATED + [0] * NUM_UNMETHYLATED
    test = [subject(f"T{i:03d}", label, MODALITIES) for i, label in enumerate(labels)]
    trained = []
    for i in range(NUM_TRAINED["Struct"]):
        having = [m for g, all_ in MODALITY_GROUPS.items() if i < NUM_TRAINED[g] for m in all_]
        trained.append(subject(f"V{i:03d}", int(draws.random() < 0.42), having))
    return tuple(test), tuple(trained)


def predict(subjects: Sequence[Subject], names: dict[str, object], split: str) -> pd.DataFrame:
    """One member's predictions: a weak signal, noise shared by networks, and noise of its own."""
    network, modality = str(names["network"]), str(names["modality"])
    shared = stream(SEED, modality, split).normal(size=len(subjects))
    own = stream(SEED, str(names["trial"]), split).normal(0, 0.4, len(subjects))
    labels = np.array([s.label for s in subjects])
    logits = 0.4 * shared + own + 0.25 * (labels - 0.4)
    probability = np.full(len(subjects), 0.42)
    if network != "prevalence":
        probability = 1 / (1 + np.exp(-logits))
    return pd.DataFrame(
        {
            **names,
            "subject": [s.id for s in subjects],
            "split": split,
            "outer": 0,
            "probability": probability,
            "deviation": 0.05 if network == "spottune" else 0.0,
            "label": labels,
            "weights": "f" * 64,
            "prior": 0.42 if network in COMPARISON_MODELS else 0.5,
        }
    )[list(PREDICTION_COLUMNS)]


if __name__ == "__main__":
    print(json.dumps(measure(tyro.cli(Options))))
