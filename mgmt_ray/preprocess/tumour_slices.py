"""Selection of the slices through the tumour, which are used for training and classification."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int64, Shaped

from mgmt_ray.preprocess.recipe import SliceRecipe
from mgmt_ray.preprocess.slice_channels import TUMOUR_THRESHOLD


def slices_through_tumour(
    masks: Shaped[np.ndarray, "slice height width"], recipe: SliceRecipe
) -> Int64[np.ndarray, " selected"]:
    """Return ascending indices of slices with ``recipe.least_tumour_voxels`` of tumour.

    At most ``recipe.most_slices`` are selected, spread evenly; there may be none.

    >>> masks = np.ones((10, 8, 8), bool)
    >>> masks[0] = False
    >>> slices_through_tumour(masks, SliceRecipe(most_slices=3)).tolist()
    [2, 5, 8]
    """
    enough = np.flatnonzero(_areas(masks) >= recipe.least_tumour_voxels)
    most = recipe.most_slices
    if most is None or most >= len(enough):
        return enough
    return enough[((np.arange(most) + 0.5) * len(enough) / most).astype(np.int64)]


def slices_through_prediction(
    probabilities: Float[np.ndarray, "slice height width"], recipe: SliceRecipe
) -> Int64[np.ndarray, " selected"]:
    """Select the slices through the predicted tumour of a scan without a mask.

    Every subject gets a prediction of methylation, however little tumour was found: if no slice has
    enough tumour, the slice with the most is selected; if there is no tumour at all, the likeliest
    slice (the largest sum of probabilities).

    >>> probabilities = np.full((4, 8, 8), 0.1, np.float32)
    >>> probabilities[2] = 0.4
    >>> slices_through_prediction(probabilities, SliceRecipe()).tolist()
    [2]
    """
    predicted = probabilities >= TUMOUR_THRESHOLD
    selected = slices_through_tumour(predicted, recipe)
    if selected.size:
        return selected
    likelihoods = probabilities.sum(axis=(1, 2), dtype=np.float64)
    return np.lexsort((likelihoods, _areas(predicted)))[-1:]


def _areas(masks: Shaped[np.ndarray, "slice height width"]) -> Int64[np.ndarray, " slice"]:
    return np.count_nonzero(masks, axis=(1, 2))
