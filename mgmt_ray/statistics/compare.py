"""Whether networks differ on the same subjects: Friedman's test and Nemenyi's after it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import friedmanchisquare

from mgmt_ray.base import MgmtError
from mgmt_ray.selection.predictions import name_some


@dataclass(frozen=True, slots=True)
class Comparison:
    """Friedman's chi-square over all networks, and Nemenyi's p-value for each pair of them."""

    chi2: float
    p: float
    pairs: tuple[tuple[str, str, float], ...]

    def p_of(self, network_a: str, network_b: str) -> float:
        """Nemenyi's p-value of one pair, in the order in which the networks were given."""
        return next(p for a, b, p in self.pairs if (a, b) == (network_a, network_b))


def compare_networks(
    values: Float[np.ndarray, "subject network"], networks: tuple[str, ...]
) -> Comparison:
    """Friedman's rank test with Nemenyi's post-hoc test (Demšar 2006, sec. 3.2.2).

    Subjects are the blocks, the networks' values the treatments. On probabilities of methylation,
    as in table 5 of Schmitz et al. 2024, the tests ask whether networks give systematically higher
    or lower probabilities, not whether one is more often right. On squared errors
    (probability − label)² they ask whether one is systematically nearer to the truth.

    Args:
        values: of at least 3 networks.
        networks: the columns' names.

    Returns:
        p-values in [0, 1]; NaN when no subject's networks differ (nothing to rank).
    """
    assert values.shape[1] == len(networks) >= 3, "Friedman's test needs 3 networks"
    pairs = list(combinations(range(len(networks)), 2))
    if np.all(values == values[:, :1]):
        undefined = tuple((networks[a], networks[b], float("nan")) for a, b in pairs)
        return Comparison(float("nan"), float("nan"), undefined)
    # Imported here: it brings seaborn and statsmodels, which nothing else needs.
    from scikit_posthocs import posthoc_nemenyi_friedman

    friedman = friedmanchisquare(*values.T)
    nemenyi = posthoc_nemenyi_friedman(values).to_numpy()
    return Comparison(
        float(friedman.statistic),
        float(friedman.pvalue),
        tuple((networks[a], networks[b], float(nemenyi[a, b])) for a, b in pairs),
    )


def same_subjects(rows: pd.DataFrame, what: str) -> pd.DataFrame:
    """Probabilities by subject (index, sorted) and network (columns, in the order given).

    Args:
        rows: network, subject, probability of one ensemble.
        what: the ensemble's name, for the error.

    Raises:
        MgmtError: the networks were not evaluated on the same subjects, each once.
    """
    networks = list(dict.fromkeys(rows["network"]))
    twice = rows.loc[rows.duplicated(["network", "subject"]), "subject"]
    if len(twice):
        raise MgmtError(f"{what}: {name_some(list(twice))} predicted twice by one network. {_NEXT}")
    wide = rows.pivot(index="subject", columns="network", values="probability")[networks]
    lacking = wide.index[wide.isna().any(axis=1)]
    if len(lacking):
        raise MgmtError(
            f"{what}: {name_some(list(lacking))} not predicted by all of "
            f"{', '.join(networks)}; networks compare on the same subjects only. {_NEXT}"
        )
    return wide


_NEXT = "Run `mgmt-ray ensemble STUDY` again."
