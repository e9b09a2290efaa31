"""Small scans and what PyRadiomics measures in them.

Run as a script, in an environment that has PyRadiomics (3.0.1, or pyradiomics-cuda 1.0.4, which
gives the same) and SimpleITK, it writes ``six_features.json`` beside itself:

    python tests/reference/six_features.py
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

VALUES = Path(__file__).with_suffix(".json")

SMOOTHINGS = {"noise": 0, "blob": 2, "smooth": 5}
"""How often each scan's values are averaged with their neighbours."""


def reference_volumes() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Scans and tumour labels (1, 2, 4), by name.

    ``noise`` has labels strewn at random, with single voxels that have no neighbour; in the others
    they lie in shells. ``negative`` has values below 0 that are no whole numbers, ``flat`` one
    value only.
    """
    random = np.random.Generator(np.random.PCG64(2018))
    volumes = {}
    for name, times in SMOOTHINGS.items():
        scan = random.integers(0, 1200, size=(14, 18, 16)).astype(np.float64)
        for _ in range(times):
            for axis in range(3):
                scan = (np.roll(scan, 1, axis) + scan + np.roll(scan, -1, axis)) / 3
        volumes[name] = (np.rint(scan * (1 + times)).astype(np.int16), _shells(scan.shape))
    strewn = random.integers(0, 40, size=volumes["noise"][0].shape)
    labels = np.select([strewn == 1, strewn == 2, strewn == 4], [1, 2, 4], 0)
    volumes["noise"] = (volumes["noise"][0], labels.astype(np.uint8))
    scan, labels = volumes["blob"]
    volumes["negative"] = (scan / 7.0 - 250.3, labels)
    volumes["flat"] = (np.full_like(scan, 310), labels)
    return volumes


def checksum(scan: np.ndarray, labels: np.ndarray) -> str:
    """That the volumes made here are those that the values are of."""
    content = np.round(scan, 6).astype(np.float64).tobytes() + labels.tobytes()
    return hashlib.sha256(content).hexdigest()


def _shells(shape: tuple[int, ...]) -> np.ndarray:
    grid = np.indices(shape).astype(np.float64)
    middle = (np.array(shape) - 1).reshape(3, 1, 1, 1) / 2
    distance = np.sqrt((((grid - middle) / (middle + 0.5)) ** 2).sum(axis=0))
    labels = np.select([distance < 0.35, distance < 0.6, distance < 0.95], [1, 4, 2], 0)
    return labels.astype(np.uint8)


def _measure(scan: np.ndarray, region: np.ndarray) -> dict[str, float]:
    import SimpleITK
    from radiomics import firstorder, glcm, glszm, ngtdm

    image = SimpleITK.GetImageFromArray(scan.astype(np.float64))
    mask = SimpleITK.GetImageFromArray(region.astype(np.uint8))
    kinds = {
        "skewness": (firstorder.RadiomicsFirstOrder, "Skewness"),
        "energy": (firstorder.RadiomicsFirstOrder, "Energy"),
        "glcm_contrast": (glcm.RadiomicsGLCM, "Contrast"),
        "glszm_level_variance": (glszm.RadiomicsGLSZM, "GrayLevelVariance"),
        "glszm_low_level_emphasis": (glszm.RadiomicsGLSZM, "LowGrayLevelZoneEmphasis"),
        "ngtdm_busyness": (ngtdm.RadiomicsNGTDM, "Busyness"),
    }
    measured = {}
    for name, (kind, feature) in kinds.items():
        extractor = kind(image, mask, binWidth=25)
        extractor.disableAllFeatures()
        extractor.enableFeatureByName(feature)
        measured[name] = float(np.squeeze(extractor.execute()[feature]))
    return measured


def main() -> None:
    """Write the values of every region of every volume."""
    import radiomics

    regions = {"necrosis": (1,), "edema": (2,), "enhancing": (4,), "core": (1, 4)}
    content: dict[str, object] = {"library": f"radiomics {radiomics.__version__}"}
    for name, (scan, labels) in reference_volumes().items():
        content[name] = {
            "checksum": checksum(scan, labels),
            **{region: _measure(scan, np.isin(labels, of)) for region, of in regions.items()},
        }
    VALUES.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
