"""What a fitted baseline model is, and the simplest one: the prevalence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from jaxtyping import Float64

from mgmt_ray.base import fingerprint

Table: TypeAlias = Float64[np.ndarray, "subject column"]
Probabilities: TypeAlias = Float64[np.ndarray, " subject"]


class BaselineModel(Protocol):
    """A model that was fitted to numbers of training subjects."""

    @property
    def facts(self) -> dict[str, Any]:
        """What was fitted, for a reader."""
        ...

    @property
    def checksum(self) -> str:
        """Fingerprint (SHA-256) of all that was fitted."""
        ...

    def predict(self, values: Table) -> Probabilities:
        """Probability of methylation, in [0, 1], by subject."""
        ...


@dataclass(frozen=True, slots=True)
class Prevalence:
    """The same for everybody: the share of methylated among the training subjects."""

    share: float

    @property
    def facts(self) -> dict[str, Any]:
        """The share."""
        return {"prevalence": self.share}

    @property
    def checksum(self) -> str:
        """Fingerprint of the share."""
        return fingerprint(self.facts)

    def predict(self, values: Table) -> Probabilities:
        """The share, for every subject."""
        return np.full(len(values), self.share)
