"""Coverage of the report's intervals, and false findings: ``python -m benchmarks.coverage``.

Test sets are drawn from a binormal model, whose true AUC, AP and so on are known, and each interval
and p-value is computed by the function that the report uses. Written results are in NOTES.md.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
import tyro
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import norm

from mgmt_ray.base import stream
from mgmt_ray.statistics.calibration import WITH_INTERVALS, calibration_table
from mgmt_ray.statistics.calibrators import CALIBRATION_VERSIONS as VERSIONS
from mgmt_ray.statistics.calibrators import FIT_COLUMNS, THRESHOLD_CHOSEN, Recalibrated
from mgmt_ray.statistics.comparisons import compare_networks, permutation_p, permuted_labels
from mgmt_ray.statistics.delong import delong_p
from mgmt_ray.statistics.intervals import Interval, read_interval
from mgmt_ray.statistics.model_intervals import (
    METRICS,
    ResampledModel,
    paired_difference,
    resample_models,
)
from mgmt_ray.statistics.operating_points import classification_rates
from mgmt_ray.statistics.slice_classification import slice_classification_table
from mgmt_ray.training.metrics import THRESHOLD

WANTED_COVERAGE = (0.93, 0.975)
WANTED_TAIL = (0.0125, 0.05)
WANTED_REJECTIONS = (0.03, 0.06)
LEVEL = 0.05
CORRELATION = 0.5
"""Of two models' scores of a subject."""
SLICES = 6
"""Slices of a patient, whose scores have the correlation :data:`CORRELATION` too."""
GRID = np.linspace(-10.0, 15.0, 25_001)


@dataclass(frozen=True)
class Options:
    """Simulate test sets and count how often an interval holds the true value.

    Attributes:
        simulations: test sets per size and AUC; 2,000 give a coverage to ±.01
        slow_simulations: of these, with calibration and tables of slices too
        sizes: methylated and unmethylated subjects
        aucs: true values
        permutations: of a permutation test; the report's are 9,999
        seed: of the simulated scores
    """

    simulations: int = 250
    slow_simulations: int = 25
    sizes: tuple[tuple[int, int], ...] = ((24, 33), (13, 17), (10, 15))
    aucs: tuple[float, ...] = (0.5, 0.65, 0.8, 0.95)
    permutations: int = 9999
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Cell:
    """A size of test sets and a true AUC; scores of the classes are N(0, 1) and N(shift, 1)."""

    methylated: int
    unmethylated: int
    auc: float

    @property
    def name(self) -> str:
        """Key of the results."""
        return f"{self.methylated}/{self.unmethylated} {self.auc:g}"

    @property
    def shift(self) -> float:
        """Distance of the classes' mean scores."""
        return math.sqrt(2) * float(norm.ppf(self.auc))

    @property
    def share(self) -> float:
        """Of methylated subjects."""
        return self.methylated / (self.methylated + self.unmethylated)

    def truth(self) -> dict[str, float]:
        """Return the true value of each number, of probabilities expit(score − shift / 2)."""
        correct = float(norm.cdf(self.shift / 2))
        called = self.share * correct + (1 - self.share) * (1 - correct)
        p = expit(GRID - self.shift / 2)
        return {
            "sen": correct,
            "spe": correct,
            "auc": self.auc,
            "ap": self._average_precision(),
            "brier": self._mean((1 - p) ** 2, p**2),
            "ppv": self.share * correct / called,
            "npv": (1 - self.share) * correct / (1 - called),
            "slope": self.shift,
            "intercept": float(logit(self.share)),
            "intercept_at_slope_1": float(brentq(self._mean_residual, -20.0, 20.0)),
        }

    def _average_precision(self) -> float:
        positives = self.share * norm.sf(GRID - self.shift)
        negatives = (1 - self.share) * norm.sf(GRID)
        precision = positives / np.maximum(positives + negatives, 1e-300)
        return float(np.trapezoid(norm.pdf(GRID - self.shift) * precision, GRID))

    def _mean_residual(self, intercept: float) -> float:
        p = expit(intercept + GRID - self.shift / 2)
        return self._mean(1 - p, -p)

    def _mean(self, of_methylated: np.ndarray, of_unmethylated: np.ndarray) -> float:
        density = self.share * norm.pdf(GRID - self.shift) * of_methylated
        density = density + (1 - self.share) * norm.pdf(GRID) * of_unmethylated
        return float(np.trapezoid(density, GRID))


class Counts:
    """How often intervals lay around, above and below the true value, and tests rejected."""

    def __init__(self) -> None:
        self.sides: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        self.rejected: dict[str, list[bool]] = defaultdict(list)

    def add(self, name: str, interval: Interval, truth: float) -> None:
        """Count an interval; one without bounds counts as none."""
        if not math.isnan(interval.low):
            side = 1 if truth < interval.low else 2 if truth > interval.high else 0
            self.sides[name][side] += 1

    def summary(self) -> dict[str, dict[str, list[float]]]:
        """Return [coverage, truth below, truth above] by interval, and [rate] by test."""
        sides = {n: [round(c / sum(counts), 4) for c in counts] for n, counts in self.sides.items()}
        rejected = {n: [round(float(np.mean(r)), 4)] for n, r in self.rejected.items()}
        return {"intervals": sides, "tests": rejected}


def main(options: Options) -> None:
    print(json.dumps(measure(options)))


def measure(options: Options) -> dict[str, object]:
    """Simulate all cells, and list what is outside the wanted bounds."""
    results = {}
    for methylated, unmethylated in options.sizes:
        for area in options.aucs:
            cell = Cell(methylated, unmethylated, area)
            results[cell.name] = simulate(cell, options)
            print(cell.name, json.dumps(results[cell.name]), flush=True)
    return {
        "name": "coverage",
        "simulations": options.simulations,
        "slow_simulations": options.slow_simulations,
        "cells": results,
        "outside": list(outside(results)),
    }


def simulate(cell: Cell, options: Options) -> dict[str, dict[str, list[float]]]:
    """Draw test sets of one cell, and count."""
    truth, counts = cell.truth(), Counts()
    at_chance = Cell(cell.methylated, cell.unmethylated, 0.5).truth()
    labels = np.repeat([1, 0], [cell.methylated, cell.unmethylated])
    permuted = permuted_labels(labels, 42, options.permutations)
    draws = stream(options.seed, "coverage", cell.name)
    for number in range(options.simulations):
        models = simulated_models(labels, cell.shift, draws)
        a, b, c, guess = (models[name, "simulated"] for name in ("a", "b", "c", "guess"))
        for metric in METRICS:
            counts.add(metric, a.interval(metric), truth[metric])
            counts.add(f"{metric} difference", paired_difference(a, b, metric), 0.0)
            apart = truth[metric] - at_chance[metric]
            counts.add(f"{metric} above a guess", paired_difference(a, guess, metric), apart)
        for rate, interval in classification_rates(labels, a.probabilities >= THRESHOLD).items():
            counts.add(rate, interval, truth[rate])
        count_tests(counts, a, b, c)
        if cell.auc == 0.5:
            p = permutation_p(labels, a.probabilities, permuted)
            counts.rejected["permutation"].append(p < LEVEL)
            counts.rejected["auc excludes 0.5"].append(a.interval("auc").excludes(0.5))
        if number < options.slow_simulations:
            count_calibration(counts, cell, draws)
            count_slices(counts, cell, labels, draws)
    return counts.summary()


def simulated_models(
    labels: np.ndarray, shift: float, draws: np.random.Generator
) -> Mapping[tuple[str, str], ResampledModel]:
    """Draw models a, b and c of one true AUC, and a guess, on the same subjects."""
    shared = draws.normal(size=len(labels))
    tables = []
    for name in ("a", "b", "c", "guess"):
        mean = 0.0 if name == "guess" else shift
        own = draws.normal(size=len(labels))
        score = math.sqrt(CORRELATION) * shared + math.sqrt(1 - CORRELATION) * own
        p = expit(score + mean * labels - mean / 2)
        subjects = [f"S{i:03d}" for i in range(len(labels))]
        rows = {"network": name, "subject": subjects, "label": labels, "probability": p}
        tables.append(pd.DataFrame({"ensemble": "simulated", **rows}))
    return resample_models(pd.concat(tables), seed=42)


def count_tests(counts: Counts, a: ResampledModel, b: ResampledModel, c: ResampledModel) -> None:
    """Count rejections of true null hypotheses: the three models are equally good."""
    p = delong_p(a.labels, a.probabilities, b.probabilities)
    counts.rejected["delong"].append(p < LEVEL)
    values = np.stack([model.probabilities for model in (a, b, c)], axis=1)
    for prefix, tested in (("", values), ("error ", (values - a.labels[:, None]) ** 2)):
        result = compare_networks(tested, ("a", "b", "c"))
        counts.rejected[f"{prefix}friedman"].append(result.p < LEVEL)
        nemenyi = min(result.pairs[pair] for pair in combinations("abc", 2))
        counts.rejected[f"{prefix}nemenyi, any pair"].append(nemenyi < LEVEL)


def count_calibration(counts: Counts, cell: Cell, draws: np.random.Generator) -> None:
    """Count the intervals of calibration; the number of methylated varies, as in its bootstrap."""
    size = cell.methylated + cell.unmethylated
    labels = (draws.random(size) < cell.share).astype(np.int64)
    if len(set(labels.tolist())) < 2:
        return
    p = expit(draws.normal(size=size) + cell.shift * labels - cell.shift / 2)
    names = {"network": "a", "ensemble": "simulated"}
    versions = dict.fromkeys((*VERSIONS, THRESHOLD_CHOSEN), p)
    subjects = np.arange(size).astype(str)
    rows = pd.DataFrame({**names, "subject": subjects, "label": labels, **versions})
    fits = pd.DataFrame([dict.fromkeys(FIT_COLUMNS, 0.0) | names])
    row = calibration_table(Recalibrated(rows, fits)).iloc[0].to_dict()
    truth = cell.truth()
    for name in WITH_INTERVALS:
        counts.add(f"calibration {name}", read_interval(row, name), truth[name])


def count_slices(
    counts: Counts, cell: Cell, labels: np.ndarray, draws: np.random.Generator
) -> None:
    """Count intervals of AUC and accuracy by slice and by patient, of one classifier."""
    shape = (len(labels), SLICES)
    patient = math.sqrt(CORRELATION) * draws.normal(size=(len(labels), 1))
    score = patient + math.sqrt(1 - CORRELATION) * draws.normal(size=shape)
    score += cell.shift * labels[:, None] - cell.shift / 2
    rows = pd.DataFrame(
        {
            "subject": np.repeat([f"S{i:03d}" for i in range(len(labels))], SLICES),
            "depth": np.tile(np.arange(SLICES), len(labels)),
            "label": np.repeat(labels, SLICES),
            # linear, so that a patient's mean over slices is that of the scores
            "probability": THRESHOLD + score.ravel() / 40,
        }
    )
    model = {"network": "a", "modality": "T1", "trial": "a", "outer_fold": 0, "fold": 0}
    table = slice_classification_table(rows.assign(split="test", **model))
    patient_std = math.sqrt(CORRELATION + (1 - CORRELATION) / SLICES)
    for row in table.to_dict("records"):
        shift = cell.shift / (patient_std if row["level"] == "patient" else 1.0)
        truth = {"auc": norm.cdf(shift / math.sqrt(2)), "accuracy": norm.cdf(shift / 2)}
        for name, value in truth.items():
            counts.add(f"{name} by {row['level']}", read_interval(row, name), float(value))


def outside(results: Mapping[str, Mapping[str, Mapping[str, list[float]]]]) -> Iterator[str]:
    """Name each cell whose coverage, tail or rate of rejections is not the wanted one."""
    for cell, result in results.items():
        for name, (coverage, below, above) in result["intervals"].items():
            tails = [below, above]
            if not _within(coverage, WANTED_COVERAGE) or not all(
                _within(tail, WANTED_TAIL) for tail in tails
            ):
                yield f"{cell} {name}: {coverage:.3f}, tails {below:.3f} {above:.3f}"
        for name, (rate,) in result["tests"].items():
            if not _within(rate, WANTED_REJECTIONS):
                yield f"{cell} {name}: {rate:.3f}"


def _within(value: float, bounds: tuple[float, float]) -> bool:
    return bounds[0] <= value <= bounds[1]


if __name__ == "__main__":
    main(tyro.cli(Options))
