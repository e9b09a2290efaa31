"""What the slice classifier sees: image, predicted tumour, and their product, around the tumour."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

TUMOUR_THRESHOLD = 0.5
"""A pixel of at least this probability is predicted tumour."""


def classifier_channels(
    images: Float[np.ndarray, "slice height width"],
    probabilities: Float[np.ndarray, "slice height width"],
    side: int,
) -> Float[np.ndarray, "slice 3 side side"]:
    """Stack each slice's channels and cut a square around the middle of its predicted tumour.

    The paper crops to 128 × 128 and does not say where. A slice without predicted tumour is cut
    around its own middle; what lies beyond a slice is 0.

    Args:
        images: normalised.
        probabilities: of tumour.
        side: of the square.
    """
    channels = np.stack([images, probabilities, images * probabilities], axis=1)
    square = np.zeros((*channels.shape[:2], side, side), images.dtype)
    height, width = images.shape[1:]
    for number, probability in enumerate(probabilities):
        row, column = _middle(probability >= TUMOUR_THRESHOLD)
        rows, in_rows = _window(row - side // 2, side, height)
        columns, in_columns = _window(column - side // 2, side, width)
        square[number, :, in_rows, in_columns] = channels[number, :, rows, columns]
    return square


def _middle(tumour: Bool[np.ndarray, "height width"]) -> tuple[int, int]:
    """Row and column in the middle of a mask's box; of the slice where it is empty."""
    if not tumour.any():
        tumour = np.ones_like(tumour)
    filled = (np.flatnonzero(tumour.any(axis=other)) for other in (1, 0))
    row, column = (int(places[0] + places[-1] + 1) // 2 for places in filled)
    return row, column


def _window(start: int, extent: int, size: int) -> tuple[slice, slice]:
    """The part of an axis of ``size`` within [start, start + extent), as seen from either."""
    low, high = min(max(start, 0), size), min(max(start + extent, 0), size)
    return slice(low, high), slice(low - start, high - start)
