"""The protocol of fitted baseline models, and the simplest of them: the prevalence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from jaxtyping import Float64

from mgmt_ray.base import fingerprint

Table: TypeAlias = Float64[np.ndarray, "subject column"]
Probabilities: TypeAlias = Float64[np.ndarray, " subject"]


class BaselineModel(Protocol):
    """A model fitted to a few values of each training subject."""

    @property
    def summary(self) -> dict[str, Any]:
        """The fitted parameters, for tables; JSON-like."""
        ...

    @property
    def checksum(self) -> str:
        """SHA-256 of everything that was fitted."""
        ...

    def predict(self, values: Table) -> Probabilities:
        """Return each subject's probability of methylation, in [0, 1]."""
        ...


@dataclass(frozen=True, slots=True)
class Prevalence:
    """Predicts the share of methylated training subjects for every subject.

    Examples:
        >>> Prevalence(0.25).predict(np.zeros((2, 0)))
        array([0.25, 0.25])
    """

    share: float

    @property
    def summary(self) -> dict[str, Any]:
        """The share."""
        return {"prevalence": self.share}

    @property
    def checksum(self) -> str:
        """SHA-256 of the share."""
        return fingerprint(self.summary)

    def predict(self, values: Table) -> Probabilities:
        """Return the share, for every subject."""
        return np.full(len(values), self.share)
