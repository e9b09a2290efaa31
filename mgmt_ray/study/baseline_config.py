"""Configuration of baseline models: names, random forest, and inputs of radiomic features."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from pydantic import Field

from mgmt_ray.base import Config

BaselineName: TypeAlias = Literal[
    "radiomics_forest", "first_order", "age_sex", "tumour_volume", "prevalence"
]

BASELINES: tuple[BaselineName, ...] = get_args(BaselineName)
"""Names, as networks and as ensembles, of the baseline models that networks are compared with."""

NECROSIS, EDEMA, ENHANCING = 1, 2, 4
"""Labels by which a tumour is measured, as in BraTS up to 2021; other masks are translated."""

REGIONS: dict[str, tuple[int, ...]] = {
    "necrosis": (NECROSIS,),
    "edema": (EDEMA,),
    "enhancing": (ENHANCING,),
    "core": (NECROSIS, ENHANCING),
}
"""Mask labels of each tumour region, by its name in radiomic features."""

FEATURE_SCANS: tuple[str, ...] = ("T1", "FLAIR", "T1GD", "T2")
"""Modalities that the six radiomic features are computed from."""


class ForestConfig(Config):
    """Hyper-parameters of the random forest; the defaults are those of Schmitz et al. 2024."""

    trees: int = Field(10_000, ge=1, description="number of trees")
    depth: int = Field(5, ge=1, description="maximum splits between root and leaf")
    min_leaf: int = Field(10, ge=1, description="minimum training subjects in a leaf")
