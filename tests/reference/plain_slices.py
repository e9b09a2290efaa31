"""A subject's slices written anew, voxel by voxel, to compare the package with.

It shares nothing with ``mgmt_ray.preprocess`` but the recipe's fields.
"""

from __future__ import annotations

import numpy as np

from mgmt_ray.preprocess.recipe import SliceRecipe


def plain_slices(
    image: np.ndarray, tumour: np.ndarray, recipe: SliceRecipe
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """All slices through brain or tumour.

    Args:
        image: [depth, height, width], 0 where it has no value.
        tumour: the same, boolean.
        recipe: how.

    Returns:
        Images and masks [slice, height, width] and the slices' depths.
    """
    rows, columns = np.nonzero((image != 0).any(axis=0))
    n = recipe.shrink
    top = (rows.min() + rows.max() + 1 - recipe.shape[0] * n) // 2
    left = (columns.min() + columns.max() + 1 - recipe.shape[1] * n) // 2
    images, masks, depths = [], [], []
    for depth in range(len(image)):
        small, outline = np.zeros(recipe.shape), np.zeros(recipe.shape, bool)
        for row, column in np.ndindex(*recipe.shape):
            values, num_tumour = [], 0
            for down, right in np.ndindex(n, n):
                at = (top + row * n + down, left + column * n + right)
                if 0 <= at[0] < image.shape[1] and 0 <= at[1] < image.shape[2]:
                    values.append(float(image[depth][at]))
                    num_tumour += bool(tumour[depth][at])
            valued = [value for value in values if value != 0]
            small[row, column] = sum(valued) / len(valued) if valued else 0
            outline[row, column] = num_tumour >= n * n / 2
        if np.count_nonzero(small) >= recipe.least_brain_voxels or outline.any():
            images.append(small)
            masks.append(outline)
            depths.append(depth)
    return np.array(images), np.array(masks), depths
