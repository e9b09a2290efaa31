"""Which finished slices study outlines tumours for a study that has too few masks."""

from __future__ import annotations

from pydantic import Field

from mgmt_ray.base import Config, InputPath


class MaskSource(Config):
    """A finished study with a network of kind slices, whose segmentations predict masks."""

    study: InputPath = Field(description="folder of the finished slices study")
    network: str | None = Field(
        None, description="its network of kind slices; needed where it has several"
    )
    modality: str | None = Field(
        None, description="the scan that is segmented; FLAIR if that study has it, else its first"
    )
