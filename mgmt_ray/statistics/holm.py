"""p-values corrected for how many there are."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def holm(p: Float[np.ndarray, " test"]) -> Float[np.ndarray, " test"]:
    """Holm's (1979) step-down correction: the family-wise error stays below the level.

    The k-th smallest of n is multiplied by n − k + 1, and none is below a smaller one's result.

    Args:
        p: in [0, 1]; NaN is a test that was not made and is not counted.

    Returns:
        Corrected p-values in [0, 1], in the order given; NaN stays.
    """
    corrected = np.full(len(p), np.nan)
    order = np.argsort(p, kind="stable")[: int(np.isfinite(p).sum())]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return corrected
