"""The slices through the tumour, and what the slice classifier sees of them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int64, Shaped

from mgmt_ray.preprocess.recipe import SliceRecipe
from mgmt_ray.preprocess.slice_geometry import by_modality, overlap

TUMOUR_THRESHOLD = 0.5
"""Least probability of a voxel that is predicted tumour."""


def classifier_channels(
    images: Float[np.ndarray, "slice *modality height width"],
    probabilities: Float[np.ndarray, "slice height width"],
    side: int,
) -> Float[np.ndarray, "slice channel side side"]:
    """Stack each slice's channels and crop a square around the middle of its predicted tumour.

    The channels are the image of each modality, the probabilities, and their product with each.
    Chen et al. 2020 crop to 128 × 128 and do not say where. A slice without predicted tumour is
    cropped around its own middle. Beyond the edges of a slice all channels are 0.

    >>> probabilities = np.zeros((1, 8, 8), np.float32)
    >>> probabilities[0, 0:2, 4:6] = 0.9
    >>> channels = classifier_channels(np.ones((1, 8, 8), np.float32), probabilities, 4)
    >>> channels.shape, channels[0, 0].tolist()[0]
    ((1, 3, 4, 4), [0.0, 0.0, 0.0, 0.0])
    """
    scans = by_modality(images)
    products = [scan * probabilities for scan in scans]
    channels = np.stack([*scans, probabilities, *products], axis=1)
    square = np.zeros((*channels.shape[:2], side, side), images.dtype)
    height, width = images.shape[-2:]
    for number, probability in enumerate(probabilities):
        row, column = _middle(probability >= TUMOUR_THRESHOLD)
        rows, in_rows = overlap(row - side // 2, side, height)
        columns, in_columns = overlap(column - side // 2, side, width)
        square[number, :, in_rows, in_columns] = channels[number, :, rows, columns]
    return square


def _middle(tumour: Bool[np.ndarray, "height width"]) -> tuple[int, int]:
    """Return row and column of the middle of a mask's box; of the slice if the mask is empty."""
    if not tumour.any():
        tumour = np.ones_like(tumour)
    filled = (np.flatnonzero(tumour.any(axis=axis)) for axis in (1, 0))
    row, column = (int(indices[0] + indices[-1] + 1) // 2 for indices in filled)
    return row, column


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
