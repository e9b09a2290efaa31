"""The tables that follow from validation, and an audit: plausible numbers of a study's folder."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from mgmt_ray.base import stream, write_json
from mgmt_ray.cohort.cohort import read_cohort
from mgmt_ray.selection.choices import BEST_OVERALL, FORWARD_SELECTION
from mgmt_ray.selection.predictions import read_table, write_table
from mgmt_ray.statistics.comparisons import COMPARISON_MODELS, comparisons_table
from mgmt_ray.statistics.subgroups import subgroups_table
from mgmt_ray.statistics.tables import metrics_table

BOUNDS = {"": 0.0, "_low": -0.1, "_high": 0.1}
NUM_BLOCKS = 6
CHECKS = (
    ("openings", "passed", "one opening", "1 opening", ""),
    ("twins", "failed", "no scan twice", "S0001 and S0002 are one scan", "Exclude one of them."),
    ("permuted labels", "not done", "a training", "no network to train", ""),
)


def write_further(out: Path) -> None:
    """Add what is chosen on validation, and comparison models, to an evaluated study."""
    folder = out / "ensembles"
    predictions = read_table(folder / "predictions.csv", "")
    predictions = predictions[~predictions["ensemble"].isin([BEST_OVERALL, FORWARD_SELECTION])]
    members = read_table(folder / "members.csv", "")
    choices = choose(predictions, members)
    predictions = pd.concat([predictions, *chosen(predictions, choices), *simple(predictions)])
    metrics = metrics_table(predictions)
    models = metrics[["network", "ensemble"]]
    tables = {
        "predictions": predictions,
        "metrics": metrics,
        "comparisons": comparisons_table(predictions),
        "subgroups": subgroups_table(predictions, read_cohort(out).subjects),
        "best_ensembles": best_ensembles(predictions, choices, members),
        "forward_selection": forward_selection(members),
        "operating_points": operating_points(models),
        "calibration": calibration(models),
        "reliability": reliability(models),
        "decision": decision(models),
        "policies": policies(members, predictions),
    }
    for name, table in tables.items():
        write_table(table, folder / f"{name}.csv")
    keys = ("name", "outcome", "expected", "found", "remedy")
    checks = [dict(zip(keys, check, strict=True)) for check in CHECKS]
    write_json(out / "audit.json", {"study": "fake", "time": "then", "seed": 0, "checks": checks})


def choose(predictions: pd.DataFrame, members: pd.DataFrame) -> dict[str, str]:
    """Some group ensemble of each network."""
    groups = [
        name
        for name in dict.fromkeys(predictions["ensemble"])
        if name not in set(members["modality"])
    ]
    networks = dict.fromkeys(members["network"])
    return {network: groups[i % len(groups)] for i, network in enumerate(networks)}


def chosen(predictions: pd.DataFrame, choices: dict[str, str]) -> list[pd.DataFrame]:
    return [
        predictions[
            (predictions["network"] == network) & (predictions["ensemble"] == ensemble)
        ].assign(ensemble=name)
        for name, (network, ensemble) in product((BEST_OVERALL, FORWARD_SELECTION), choices.items())
    ]


def simple(predictions: pd.DataFrame) -> list[pd.DataFrame]:
    """Comparison models that know nothing; the last says the same of everybody."""
    first = predictions.groupby("subject").first().reset_index()[list(predictions.columns)]
    draws = stream(5, "simple")
    spread = (0.2, 0.1, 0.1, 0.0)
    return [
        first.assign(
            network=name,
            ensemble=name,
            probability=0.42 + by * draws.normal(size=len(first)).clip(-2, 2),
            deviation=0.0,
            num_members=5,
            prior=0.42,
        )
        for name, by in zip(COMPARISON_MODELS, spread, strict=True)
    ]


def scores(draws: np.random.Generator) -> dict[str, float]:
    sen, spe, auc = draws.uniform(0.4, 0.8, 3)
    m = 0.6 * sen + 0.4 * spe
    names = ("validation_m", "validation_sen", "validation_spe", "validation_auc")
    return dict(zip(names, (m, sen, spe, auc), strict=True)) | {"num_subjects": 84}


def best_ensembles(
    predictions: pd.DataFrame, choices: dict[str, str], members: pd.DataFrame
) -> pd.DataFrame:
    draws = stream(6, "best")
    named = set(members["modality"]) | {BEST_OVERALL, FORWARD_SELECTION} | set(COMPARISON_MODELS)
    groups = [name for name in dict.fromkeys(predictions["ensemble"]) if name not in named]
    rows = [
        {"network": network, "outer": outer, "ensemble": group}
        | scores(draws)
        | {"chosen": int(group == choices[network])}
        for network, outer, group in product(choices, sorted(set(members["outer"])), groups)
    ]
    return pd.DataFrame(rows)


def forward_selection(members: pd.DataFrame) -> pd.DataFrame:
    draws = stream(7, "forward")
    rows = []
    for (network, outer), own in members.groupby(["network", "outer"], sort=False):
        for i, modality in enumerate(draws.permutation(sorted(set(own["modality"])))):
            step = {"network": network, "outer": outer, "step": i + 1, "modality": modality}
            rows.append(step | scores(draws) | {"kept": int(i < 2)})
    return pd.DataFrame(rows)


def bounded(draws: np.random.Generator, *names: str) -> dict[str, float]:
    return {
        f"{name}{bound}": value + shift
        for name in names
        for value in (draws.uniform(0.2, 0.8),)
        for bound, shift in BOUNDS.items()
    }


def operating_points(models: pd.DataFrame) -> pd.DataFrame:
    draws = stream(8, "points")
    rows = [
        model | {"point": point, "threshold": 0.5} | bounded(draws, "sen", "spe", "ppv", "npv")
        for model, point in product(models.to_dict("records"), ("0.5", "validation", "prior"))
    ]
    # nobody was called methylated
    rows[-3] |= {f"ppv{bound}": float("nan") for bound in BOUNDS}
    return pd.DataFrame(rows)


VERSIONS = ("as predicted", "prior corrected", "temperature scaled")


def calibration(models: pd.DataFrame) -> pd.DataFrame:
    draws = stream(9, "calibration")
    return pd.DataFrame(
        [
            model
            | {"version": version, "temperature": 1.5, "prior_shift": -0.3}
            | bounded(draws, "brier", "slope", "intercept")
            | {"ece": 0.1, "num_subjects": 36}
            for model, version in product(models.to_dict("records"), VERSIONS)
        ]
    )


def reliability(models: pd.DataFrame) -> pd.DataFrame:
    draws = stream(10, "reliability")
    rows = []
    for model, version, i in product(models.to_dict("records"), VERSIONS, range(5)):
        share = float(np.clip(0.1 + 0.2 * i + draws.normal(0, 0.1), 0, 1))
        rows.append(
            model
            | {"version": version, "bin": i, "count": 7, "mean_probability": 0.1 + 0.2 * i}
            | {"share_methylated": share, "low": max(0, share - 0.2), "high": min(1, share + 0.2)}
        )
    return pd.DataFrame(rows)


def decision(models: pd.DataFrame) -> pd.DataFrame:
    draws = stream(11, "decision")
    rows = []
    for model, threshold in product(models.to_dict("records"), np.arange(0.05, 0.96, 0.05)):
        everybody = 0.42 - 0.58 * threshold / (1 - threshold)
        benefit = max(everybody, 0) + draws.normal(0, 0.01)
        curve = {"threshold": threshold, "net_benefit": benefit, "treat_all": everybody}
        rows.append(model | curve)
    return pd.DataFrame(rows)


def policies(members: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    draws = stream(12, "policies")
    subjects = predictions.drop_duplicates("subject")[["subject", "label"]]
    tables = []
    for member in members[members["network"] == "spottune"].to_dict("records"):
        keys = ("trial", "network", "modality", "outer", "fold", "seed")
        tuned = draws.beta(2, 2, (len(subjects), NUM_BLOCKS))
        blocks = pd.DataFrame(tuned, columns=[f"block_{i + 1}" for i in range(NUM_BLOCKS)])
        named = pd.DataFrame({k: member[k] for k in keys}, index=range(len(subjects)))
        tables.append(pd.concat([named, subjects.reset_index(drop=True), blocks], axis=1))
    columns = ["trial", "network", "modality", "outer", "fold", "seed", "subject", "label"]
    blocks = [f"block_{i + 1}" for i in range(NUM_BLOCKS)]
    return pd.concat(tables) if tables else pd.DataFrame(columns=[*columns, *blocks])
