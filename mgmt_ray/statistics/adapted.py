"""Test probabilities as what was fitted on validation maps them; nothing is fitted on test.

Per network, ensemble and outer split three things are fitted on the training subjects, predicted
out of fold: a threshold, the shift from the training prior to their prevalence, and a temperature.
They map the test probabilities of that outer split only; a subject that several outer splits test
has the mean of its mapped probabilities.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from mgmt_ray.base import MgmtError
from mgmt_ray.statistics.fitted import choose_threshold, fit_temperature, logits, prior_shift

AS_PREDICTED = "as predicted"
THRESHOLD_CHOSEN = "threshold chosen"
PRIOR_CORRECTED = "prior corrected"
TEMPERATURE_SCALED = "temperature scaled"

CALIBRATION_VERSIONS = (AS_PREDICTED, PRIOR_CORRECTED, TEMPERATURE_SCALED)
"""Versions whose probabilities are meant as such; that of the threshold is made to be called."""

_KEYS = ("network", "ensemble", "outer")
_FITTED = ("threshold", "prevalence", "temperature", "prior_shift", "prior_threshold")
FIT_COLUMNS: tuple[str, ...] = (*_KEYS, *_FITTED)
"""One row per network, ensemble and outer split: ``threshold`` chosen on validation, ``prevalence``
of methylated among its subjects, ``temperature``, ``prior_shift`` of the test subjects' logits
(their mean), and ``prior_threshold``, the probability that this shift moves to 0.5."""


@dataclass(frozen=True, slots=True, eq=False)
class Adapted:
    """Test predictions and what they were mapped with.

    Attributes:
        probabilities: network, ensemble, subject, label and a column per version, all in [0, 1];
            ensembles in the order given, subjects sorted.
        fits: :data:`FIT_COLUMNS`.
    """

    probabilities: pd.DataFrame
    fits: pd.DataFrame


def adapt(validation: pd.DataFrame, test: pd.DataFrame) -> Adapted:
    """Fit on validation, map test, average over outer splits.

    Args:
        validation: ``selection.ensemble.SPLIT_COLUMNS``, out of fold.
        test: the same columns of test subjects.

    Raises:
        MgmtError: an ensemble of the test table has no validation subjects of both classes.
    """
    fits = _fit(validation, test)
    rows = test.merge(fits[[*_KEYS, "threshold", "prevalence", "temperature"]], on=[*_KEYS])
    prevalence = rows["prevalence"].to_numpy(dtype=float)
    p, prior, threshold, temperature = (
        rows[name].to_numpy(dtype=float)
        for name in ("probability", "prior", "threshold", "temperature")
    )
    corrected = logits(p) + prior_shift(prior, prevalence)
    versions = {
        AS_PREDICTED: p,
        THRESHOLD_CHOSEN: expit(logits(p) - logits(threshold)),
        PRIOR_CORRECTED: expit(corrected),
        TEMPERATURE_SCALED: expit(corrected / temperature),
    }
    mapped = rows[["network", "ensemble", "subject", "label"]].assign(**versions)
    keys = ["network", "ensemble", "subject"]
    means = mapped.groupby(keys, sort=False).mean().reset_index()
    place = means.groupby(keys[:2], sort=False).ngroup()
    ordered = means.assign(place=place).sort_values(["place", "subject"], ignore_index=True)
    return Adapted(ordered.drop(columns="place").astype({"label": int}), fits)


def _fit(validation: pd.DataFrame, test: pd.DataFrame) -> pd.DataFrame:
    """Of test rows only their priors are used, to tell by how much they will be shifted."""
    known = dict(iter(validation.groupby([*_KEYS], sort=False)))
    fits = []
    for key, rows in test.groupby([*_KEYS], sort=False):
        own = known.get(key)
        if own is None or own["label"].nunique() < 2:
            network, name, outer = _names(key)
            raise MgmtError(
                f"{network} {name}, outer split {outer}: no validation subjects of both classes, "
                "so no threshold can be chosen. Leave out a modality that few training subjects "
                "have (cohort.modalities)."
            )
        fits.append(dict(zip(_KEYS, _names(key), strict=True)) | _fit_one(own, rows))
    return pd.DataFrame(fits, columns=list(FIT_COLUMNS))


def _fit_one(validation: pd.DataFrame, test: pd.DataFrame) -> dict[str, float]:
    ordered = validation.sort_values("subject")
    labels = ordered["label"].to_numpy(dtype=np.int64)
    p = ordered["probability"].to_numpy(dtype=float)
    prior = ordered["prior"].to_numpy(dtype=float)
    prevalence = float(labels.mean())
    corrected = logits(p) + prior_shift(prior, np.full(len(p), prevalence))
    of_test = test["prior"].to_numpy(dtype=float)
    shift = float(prior_shift(of_test, np.full(len(of_test), prevalence)).mean())
    return {
        "threshold": choose_threshold(labels, p),
        "prevalence": prevalence,
        "temperature": fit_temperature(labels, corrected),
        "prior_shift": shift,
        "prior_threshold": float(expit(-shift)),
    }


def _names(key: Hashable) -> tuple[Any, ...]:
    assert isinstance(key, tuple)
    return key


def mean_fits(fits: pd.DataFrame) -> dict[tuple[str, str], dict[str, float]]:
    """What was fitted for each network and ensemble, as the mean over outer splits."""
    return {
        (str(network), str(name)): {what: float(rows[what].mean()) for what in _FITTED}
        for (network, name), rows in fits.groupby(["network", "ensemble"], sort=False)
    }
