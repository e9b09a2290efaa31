"""Normalisation of intensities: piecewise-linear histogram matching, then z-scores.

L. G. Nyúl, J. K. Udupa, X. Zhang: New variants of a method of MRI scale standardization. IEEE
Transactions on Medical Imaging 19 (2000) 143-150. Landmarks are the deciles between the 1st and
99th percentile (their method L4 with the percentages of Chen et al. 2020). Each training image's
landmarks are first mapped so that its 1st percentile is 0 and its 99th is 1; their mean is the
standard scale. An image is all slices of one subject and modality together; slices of several
modalities are several images, each with its own standard. Only its valued
(non-zero) voxels count, and of these only those in slices with enough brain (``of_brain``), since
the other slices are kept for a given mask and a scan without one does not have them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Shaped

from mgmt_ray.base import MgmtError
from mgmt_ray.preprocess.slice_geometry import by_modality

PERCENTILES = (1.0, *(float(percentage) for percentage in range(10, 100, 10)), 99.0)

MIN_VOXELS = 100
"""Least valued voxels of an image: with fewer, no voxel lies below the 1st percentile."""


@dataclass(frozen=True, slots=True)
class StandardHistogram:
    """The standard scale of a fold.

    Attributes:
        landmarks: of each modality one per :data:`PERCENTILES`, from 0 to 1, non-decreasing.
        learnt_from: the ids of the training subjects, sorted.
    """

    landmarks: tuple[tuple[float, ...], ...]
    learnt_from: tuple[str, ...]

    def __post_init__(self) -> None:
        assert {len(own) for own in self.landmarks} == {len(PERCENTILES)}, "one per percentile"

    def to_json(self) -> dict[str, Any]:
        """Return the content for a trial's record; :meth:`from_json` reads it back exactly.

        Landmarks of one modality alone are a flat list.
        """
        flat = self.landmarks[0] if len(self.landmarks) == 1 else self.landmarks
        return {"percentiles": PERCENTILES, **asdict(self), "landmarks": flat}

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
        landmarks = value["landmarks"]
        nested = landmarks if isinstance(landmarks[0], Sequence) else [landmarks]
        return cls(tuple(map(tuple, nested)), tuple(value["learnt_from"]))

    def apply(
        self,
        images: Shaped[np.ndarray, "slice *modality height width"],
        valued: Bool[np.ndarray, "slice *modality height width"],
        subject: str,
        of_brain: Bool[np.ndarray, " slice"] | None = None,
    ) -> Float64[np.ndarray, "slice *modality height width"]:
        """Map all slices of one subject to the standard scale, each modality by itself.

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
        matched = np.zeros(images.shape)
        scans = zip(*map(by_modality, (images, valued, matched)), self.landmarks, strict=True)
        for scan, has_value, target, standard in scans:
            values = scan[has_value].astype(np.float64)
            counted = values if of_brain is None else values[_brain_voxels(of_brain, has_value)]
            target[has_value] = _match(values, _landmarks(counted, subject), standard)
        return matched


def _match(
    values: Float64[np.ndarray, " voxel"], own: np.ndarray, to: Sequence[float]
) -> Float64[np.ndarray, " voxel"]:
    """Map values by the lines between an image's own landmarks and those of a standard."""
    landmarks, which = np.unique(own, return_inverse=True)
    standard = np.bincount(which, to) / np.bincount(which)
    slopes = np.diff(standard) / np.diff(landmarks)
    segment = np.clip(np.searchsorted(landmarks, values, side="right") - 1, 0, len(slopes) - 1)
    matched: np.ndarray = standard[segment] + slopes[segment] * (values - landmarks[segment])
    return matched


def learn_standard(
    images: Iterable[tuple[str, Shaped[np.ndarray, "_ *modality height width"]]],
) -> StandardHistogram:
    """Learn a standard scale from the valued (non-zero) voxels of training subjects.

    Args:
        images: ids and slices of one modality, or of several; of a fold's training subjects
            **only**. Read one subject at a time. Each subject has the same weight, however many
            slices it has.

    Raises:
        MgmtError: a subject's images have too few voxels or only one grey level.

    >>> scan = np.arange(1, 1001, dtype=np.float32).reshape(10, 10, 10)
    >>> standard = learn_standard([("S1", scan), ("S2", 5 * scan)])
    >>> (landmarks,) = standard.landmarks
    >>> landmarks[0], round(landmarks[5], 3), standard.learnt_from
    (0.0, 0.5, ('S1', 'S2'))
    """
    mapped = {}
    for subject, slices in images:
        assert subject not in mapped, f"{subject} twice"
        own = [
            _landmarks(scan[scan != 0].astype(np.float64), subject) for scan in by_modality(slices)
        ]
        mapped[subject] = [(marks - marks[0]) / (marks[-1] - marks[0]) for marks in own]
    assert mapped, "no training subjects"
    ids = sorted(mapped)  # the mean must not depend on the order of adding
    scans = zip(*(mapped[subject] for subject in ids), strict=True)
    means = (np.mean(scan, axis=0).tolist() for scan in scans)
    return StandardHistogram(tuple(map(tuple, means)), tuple(ids))


def z_score(
    images: Shaped[np.ndarray, "slice *modality height width"],
    valued: Bool[np.ndarray, "slice *modality height width"],
    subject: str,
    of_brain: Bool[np.ndarray, " slice"] | None = None,
) -> Float32[np.ndarray, "slice *modality height width"]:
    """Shift and scale one subject's valued voxels to mean 0 and deviation 1, by modality.

    Arguments as of :meth:`StandardHistogram.apply`. The background is exactly 0.

    Raises:
        MgmtError: there is no valued voxel, or all have the same value.

    >>> images = np.array([[[0.0, 2.0, 4.0]]])
    >>> z_score(images, images != 0, "S1").tolist()
    [[[0.0, -1.0, 1.0]]]
    """
    scores = np.zeros(images.shape, np.float32)
    for scan, has_value, target in zip(*map(by_modality, (images, valued, scores)), strict=True):
        values = scan[has_value].astype(np.float64)
        counted = values if of_brain is None else values[_brain_voxels(of_brain, has_value)]
        if not counted.size or counted.min() == counted.max():
            found = "its voxels that are not 0 have fewer than two intensities"
            raise _unusable_scan_error(subject, found)
        target[has_value] = (values - counted.mean()) / counted.std()
    return scores


def normalise_slices(
    images: Float32[np.ndarray, "slice *modality height width"],
    standard: StandardHistogram,
    subject: str,
    of_brain: Bool[np.ndarray, " slice"] | None = None,
) -> Float32[np.ndarray, "slice *modality height width"]:
    """Match one subject's slices to a standard scale, then take z-scores over valued voxels.

    Args:
        images: all slices of one subject, with the scans' own intensities; 0 in the background.
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
