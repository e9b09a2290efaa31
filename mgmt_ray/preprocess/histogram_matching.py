"""Normalisation of intensities: piecewise-linear histogram matching, then z-scores.

L. G. Nyúl, J. K. Udupa, X. Zhang: New variants of a method of MRI scale standardization. IEEE
Transactions on Medical Imaging 19 (2000) 143-150. Landmarks are the deciles between the 1st and
99th percentile (their method L4 with the percentages of Chen et al. 2020). Each training image's
landmarks are first mapped so that its 1st percentile is 0 and its 99th is 1; their mean is the
standard scale. An image is all slices of one subject and modality together. Only its valued
(non-zero) voxels count, and of these only those in slices with enough brain (``of_brain``), since
the other slices are kept for a given mask and a scan without one does not have them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Shaped

from mgmt_ray.base import MgmtError

PERCENTILES = (1.0, *(float(percentage) for percentage in range(10, 100, 10)), 99.0)

MIN_VOXELS = 100
"""Least valued voxels of an image: with fewer, no voxel lies below the 1st percentile."""


@dataclass(frozen=True, slots=True)
class StandardHistogram:
    """The standard scale of a fold.

    Attributes:
        landmarks: one per :data:`PERCENTILES`, from 0 to 1, non-decreasing.
        learnt_from: the ids of the training subjects, sorted.
    """

    landmarks: tuple[float, ...]
    learnt_from: tuple[str, ...]

    def __post_init__(self) -> None:
        assert len(self.landmarks) == len(PERCENTILES), "one landmark per percentile"

    def to_json(self) -> dict[str, Any]:
        """Return the content for a trial's record; :meth:`from_json` reads it back exactly."""
        return {"percentiles": PERCENTILES, **asdict(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> StandardHistogram:
        """Read back what :meth:`to_json` made.

        Raises:
            MgmtError: it was computed at other percentiles.
        """
        if tuple(value["percentiles"]) != PERCENTILES:
            raise MgmtError(
                f"standard histogram: has percentiles {value['percentiles']}, but this version of "
                f"mgmt-ray uses {list(PERCENTILES)}. Train the study again, or use the version "
                "that wrote it."
            )
        return cls(tuple(value["landmarks"]), tuple(value["learnt_from"]))

    def apply(
        self,
        images: Shaped[np.ndarray, "slice height width"],
        valued: Bool[np.ndarray, "slice height width"],
        subject: str,
        of_brain: Bool[np.ndarray, " slice"] | None = None,
    ) -> Float64[np.ndarray, "slice height width"]:
        """Map all slices of one subject and modality to the standard scale.

        Between landmarks the map is linear, and beyond them it continues the outermost segments.
        Where an image has several equal landmarks (few grey levels), they go to the mean of the
        corresponding standard landmarks, so the map is non-decreasing.

        Args:
            of_brain: the slices whose landmarks count; None for all.

        Returns:
            Intensities of about 0 to 1; exactly 0 in the background. A valued voxel may be 0 too.

        Raises:
            MgmtError: the images have too few voxels or grey levels.
        """
        values = images[valued].astype(np.float64)
        counted = values if of_brain is None else values[_brain_voxels(of_brain, valued)]
        landmarks, which = np.unique(_landmarks(counted, subject), return_inverse=True)
        standard = np.bincount(which, self.landmarks) / np.bincount(which)
        slopes = np.diff(standard) / np.diff(landmarks)
        segment = np.clip(np.searchsorted(landmarks, values, side="right") - 1, 0, len(slopes) - 1)
        matched = np.zeros(images.shape)
        matched[valued] = standard[segment] + slopes[segment] * (values - landmarks[segment])
        return matched


def learn_standard(
    images: Iterable[tuple[str, Shaped[np.ndarray, "_ height width"]]],
) -> StandardHistogram:
    """Learn a standard scale from the valued (non-zero) voxels of training subjects.

    Args:
        images: ids and slices [slice, height, width] of one modality; of a fold's training subjects
            **only**. Read one subject at a time. Each subject has the same weight, however many
            slices it has.

    Raises:
        MgmtError: a subject's images have too few voxels or only one grey level.

    >>> scan = np.arange(1, 1001, dtype=np.float32).reshape(10, 10, 10)
    >>> standard = learn_standard([("S1", scan), ("S2", 5 * scan)])
    >>> standard.landmarks[0], round(standard.landmarks[5], 3), standard.learnt_from
    (0.0, 0.5, ('S1', 'S2'))
    """
    mapped = {}
    for subject, slices in images:
        assert subject not in mapped, f"{subject} twice"
        landmarks = _landmarks(slices[slices != 0].astype(np.float64), subject)
        mapped[subject] = (landmarks - landmarks[0]) / (landmarks[-1] - landmarks[0])
    assert mapped, "no training subjects"
    ids = sorted(mapped)  # the mean must not depend on the order of adding
    mean = np.mean([mapped[subject] for subject in ids], axis=0)
    return StandardHistogram(tuple(mean.tolist()), tuple(ids))


def z_score(
    images: Shaped[np.ndarray, "slice height width"],
    valued: Bool[np.ndarray, "slice height width"],
    subject: str,
    of_brain: Bool[np.ndarray, " slice"] | None = None,
) -> Float32[np.ndarray, "slice height width"]:
    """Shift and scale one subject's valued voxels to mean 0 and standard deviation 1.

    Arguments as of :meth:`StandardHistogram.apply`. The background is exactly 0.

    Raises:
        MgmtError: there is no valued voxel, or all have the same value.

    >>> images = np.array([[[0.0, 2.0, 4.0]]])
    >>> z_score(images, images != 0, "S1").tolist()
    [[[0.0, -1.0, 1.0]]]
    """
    values = images[valued].astype(np.float64)
    counted = values if of_brain is None else values[_brain_voxels(of_brain, valued)]
    if not counted.size or counted.min() == counted.max():
        found = "its voxels that are not 0 have fewer than two intensities"
        raise _unusable_scan_error(subject, found)
    scores = np.zeros(images.shape, np.float32)
    scores[valued] = (values - counted.mean()) / counted.std()
    return scores


def normalise_slices(
    images: Float32[np.ndarray, "slice height width"],
    standard: StandardHistogram,
    subject: str,
    of_brain: Bool[np.ndarray, " slice"] | None = None,
) -> Float32[np.ndarray, "slice height width"]:
    """Match one subject's slices to a standard scale, then take z-scores over valued voxels.

    Args:
        images: all slices of one subject and modality, with the scan's own intensities; 0 in the
            background.
        of_brain: the slices that landmarks, mean and standard deviation are computed over; None
            for all.

    Raises:
        MgmtError: the images have too few voxels or grey levels.

    >>> scan = np.arange(1000, dtype=np.float32).reshape(10, 10, 10)
    >>> normalised = normalise_slices(scan, learn_standard([("S1", scan)]), "S2")
    >>> float(normalised[0, 0, 0]), round(float(normalised[scan != 0].std()), 4)
    (0.0, 1.0)
    """
    valued = images != 0
    matched = standard.apply(images, valued, subject, of_brain)
    return z_score(matched, valued, subject, of_brain)


def _brain_voxels(
    of_brain: Bool[np.ndarray, " slice"], valued: Bool[np.ndarray, "slice height width"]
) -> Bool[np.ndarray, " voxel"]:
    """Return which of the valued voxels lie in slices with enough brain."""
    return np.repeat(of_brain, np.count_nonzero(valued, axis=(1, 2)))


def _landmarks(values: Float64[np.ndarray, " voxel"], subject: str) -> np.ndarray:
    if values.size < MIN_VOXELS:
        found = f"only {values.size} voxels differ from 0; {MIN_VOXELS} are needed"
        raise _unusable_scan_error(subject, found)
    landmarks = np.percentile(values, PERCENTILES)
    if landmarks[0] == landmarks[-1]:
        found = f"the 1st and the 99th percentile of its intensities are both {landmarks[0]:g}"
        raise _unusable_scan_error(subject, found)
    return landmarks


def _unusable_scan_error(subject: str, found: str) -> MgmtError:
    return MgmtError(
        f"subject {subject}: {found}. Look at its scan in a viewer, or leave the subject out with "
        "cohort.exclude."
    )
