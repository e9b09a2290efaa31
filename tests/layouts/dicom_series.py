"""Writing a volume as a DICOM series, as scanners do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK

from mgmt_ray.base import fingerprint
from mgmt_ray.cohort.dicom.series import ORIENTATION, POSITION, quiet_itk

SERIES_UID = "0020|000e"


def write_series(image: SimpleITK.Image, folder: Path, patient: str, description: str) -> None:
    """Write a volume as an uncompressed magnetic resonance series, one file per slice.

    Args:
        image: 3-D; 16-bit signed integers are what scanners write.
        folder: gets ``Image-1.dcm`` and so on; created if needed.
        patient: the patient's id.
        description: of the series, like ``FLAIR``; UIDs are derived from it and the patient.
    """
    common = _tags_of_series(image, patient, description)
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(image.GetDepth()):
        part = image[:, :, i]
        of_slice = {
            "0008|0018": f"{common[SERIES_UID]}.{i + 1}",
            "0020|0013": str(i + 1),
            POSITION: _multi_value(image.TransformIndexToPhysicalPoint((0, 0, i))),
        }
        for key, value in (common | of_slice).items():
            part.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"Image-{i + 1}.dcm"))
        with quiet_itk():
            writer.Execute(part)


def _tags_of_series(image: SimpleITK.Image, patient: str, description: str) -> dict[str, str]:
    voxels = SimpleITK.GetArrayViewFromImage(image)
    low, high = int(voxels.min()), int(voxels.max())
    return {
        "0008|0008": "DERIVED\\SECONDARY\\AXIAL",
        "0008|0020": "20210101",
        "0008|0030": "000000",
        "0008|0060": "MR",
        "0008|103e": description,
        "0010|0010": patient,
        "0010|0020": patient,
        "0018|0050": f"{image.GetSpacing()[2]:.10g}",
        "0018|0088": f"{image.GetSpacing()[2]:.10g}",
        "0020|000d": _uid(patient),
        SERIES_UID: _uid(patient, description),
        ORIENTATION: _multi_value(np.reshape(image.GetDirection(), (3, 3)).T[:2].ravel().tolist()),
        "0028|1050": f"{(low + high) / 2:g}",
        "0028|1051": f"{max(high - low, 1)}",
    }


def _multi_value(values: Sequence[float]) -> str:
    # ten digits: a decimal string has at most 16 characters
    return "\\".join(f"{value:.10g}" for value in values)


def _uid(*parts: str) -> str:
    """Return a UID derived from a 128-bit number (DICOM PS3.5, annex B.2)."""
    return f"2.25.{int(fingerprint(parts)[:32], 16)}"
