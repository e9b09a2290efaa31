"""The recipe of a study's slices."""

from __future__ import annotations

from pydantic import Field, PositiveInt

from mgmt_ray.base import Config

METHOD = 2
"""Raised whenever the same recipe would give other slices, so that old ones are not kept."""


class SliceRecipe(Config):
    """From scans to slices.

    All slices through the brain are stored: intensities are normalised over them, and a scan
    without a mask is segmented whole. Those through the tumour train and are classified. The paper
    drew its slices by hand on scans of some 5 mm between slices, about 13 slices of each patient;
    it gives neither their size nor how they were chosen.
    """

    shape: tuple[PositiveInt, PositiveInt] = Field(
        (128, 128), description="height and width of a slice, centred on the brain"
    )
    shrink: int = Field(2, ge=1, description="voxels averaged into one along height and width")
    least_tumour_voxels: int = Field(
        50,
        ge=1,
        description="of a slice through the tumour, after shrinking; in a scan without a mask the "
        "predicted one",
    )
    least_brain_voxels: int = Field(
        500,
        ge=1,
        description="of a slice through the brain, after shrinking; a slice with any tumour is "
        "stored with less",
    )
    most_slices: int | None = Field(
        None,
        ge=1,
        description="through a tumour, spread evenly over it, that train and are classified; null "
        "takes all",
    )
    resample: bool = Field(
        False,
        description="bring scans onto their mask's grid by linear interpolation where they are on "
        "another one, instead of raising an error",
    )
