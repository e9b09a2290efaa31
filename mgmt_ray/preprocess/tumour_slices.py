"""Which of a scan's slices train and are classified: those through the tumour."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int64, Shaped

from mgmt_ray.preprocess.recipe import SliceRecipe
from mgmt_ray.preprocess.slice_channels import TUMOUR_THRESHOLD


def rows_through_tumour(
    masks: Shaped[np.ndarray, "slice height width"], recipe: SliceRecipe
) -> Int64[np.ndarray, " row"]:
    """The slices with enough tumour, and of these the recipe's number, spread evenly over them.

    Args:
        masks: of a subject's slices in order; 0 where there is no tumour.
        recipe: how much is enough, and how many are taken.

    Returns:
        Which of the slices, ascending; none where no slice has enough.
    """
    enough = np.flatnonzero(_areas(masks) >= recipe.least_tumour_voxels)
    most = recipe.most_slices
    if most is None or most >= len(enough):
        return enough
    return enough[((np.arange(most) + 0.5) * len(enough) / most).astype(np.int64)]


def rows_through_prediction(
    probabilities: Float[np.ndarray, "slice height width"], recipe: SliceRecipe
) -> Int64[np.ndarray, " row"]:
    """The slices through a predicted tumour, of a scan that nobody annotated.

    Nobody is left without a prediction of methylation because a segmentation found little: where
    no slice has enough tumour, it is the one with the most, and where there is none at all, the one
    that was thought the likeliest (the largest sum of probabilities).

    Args:
        probabilities: of tumour, of all of a scan's slices in order.
        recipe: as of :func:`rows_through_tumour`.

    Returns:
        Which of the slices, ascending; at least one.
    """
    predicted = probabilities >= TUMOUR_THRESHOLD
    rows = rows_through_tumour(predicted, recipe)
    if rows.size:
        return rows
    likely = probabilities.sum(axis=(1, 2), dtype=np.float64)
    return np.lexsort((likely, _areas(predicted)))[-1:]


def _areas(masks: Shaped[np.ndarray, "slice height width"]) -> Int64[np.ndarray, " slice"]:
    return np.count_nonzero(masks, axis=(1, 2))
