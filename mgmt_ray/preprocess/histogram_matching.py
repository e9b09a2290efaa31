"""One scale of intensities for all scans: piecewise-linear histogram matching, then z-scores.

L. G. Nyúl, J. K. Udupa, X. Zhang: New variants of a method of MRI scale standardization. IEEE
Transactions on Medical Imaging 19 (2000) 143-150. Landmarks are the deciles between the 1st and
99th percentile (their method L4 with the percentages of Chen et al. 2020). Each training image's
landmarks are first mapped so that its 1st percentile is 0 and its 99th is 1; their mean is the
standard scale. An image is all slices of one subject and modality together; only its valued
(non-zero) voxels count, and of these, where some slices are there by a mask's say, those of brain.
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
"""Fewer valued voxels have no 1st percentile of their own."""


@dataclass(frozen=True, slots=True)
class StandardHistogram:
    """A standard scale.

    Attributes:
        landmarks: of the scale, one per :data:`PERCENTILES`, from 0 to 1, never falling.
        learnt_from: the ids of the training subjects, sorted.
    """

    landmarks: tuple[float, ...]
    learnt_from: tuple[str, ...]

    def __post_init__(self) -> None:
        assert len(self.landmarks) == len(PERCENTILES), "one landmark per percentile"

    def to_json(self) -> dict[str, Any]:
        """For a trial's record; :meth:`from_json` reads it back without loss."""
        return {"percentiles": PERCENTILES, **asdict(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> StandardHistogram:
        """Read back what :meth:`to_json` made.

        Raises:
            MgmtError: it was learnt at other percentiles.
        """
        if tuple(value["percentiles"]) != PERCENTILES:
            raise MgmtError(
                f"standard histogram: has percentiles {value['percentiles']}, where this version "
                f"has {list(PERCENTILES)}. Train its study again, or use the version it was "
                "written with."
            )
        return cls(tuple(value["landmarks"]), tuple(value["learnt_from"]))

    def apply(
        self,
        images: Shaped[np.ndarray, "slice height width"],
        valued: Bool[np.ndarray, "slice height width"],
        subject: str,
        of_brain: Bool[np.ndarray, " slice"] | None = None,
    ) -> Float64[np.ndarray, "slice height width"]:
        """Bring one subject's images onto the standard scale.

        Between landmarks the map is linear, and beyond them as between the two outermost. Where an
        image has several equal landmarks (few grey levels), they go to the mean of theirs on the
        standard scale: the map never falls.

        Args:
            images: of one subject and modality, together.
            valued: where they have a value.
            subject: for messages.
            of_brain: the slices whose landmarks count; None for all.

        Returns:
            Intensities of about 0 to 1; exactly 0 where not valued. A valued voxel may be 0 too.

        Raises:
            MgmtError: the images have too few voxels or grey levels.
        """
        values = images[valued].astype(np.float64)
        counted = values if of_brain is None else values[_brain_voxels(of_brain, valued)]
        own, which = np.unique(_landmarks(counted, subject), return_inverse=True)
        standard = np.bincount(which, self.landmarks) / np.bincount(which)
        slopes = np.diff(standard) / np.diff(own)
        segment = np.clip(np.searchsorted(own, values, side="right") - 1, 0, len(slopes) - 1)
        matched = np.zeros(images.shape)
        matched[valued] = standard[segment] + slopes[segment] * (values - own[segment])
        return matched


def learn_standard(
    images: Iterable[tuple[str, Shaped[np.ndarray, "_ height width"]]],
) -> StandardHistogram:
    """Learn a standard scale from the valued (non-zero) voxels of training subjects.

    Args:
        images: subjects and their slices of one modality, one after another, so that they need not
            be held together; of a fold's training subjects **only**. Each subject weighs the same,
            however many slices it has.

    Raises:
        MgmtError: a subject's images have too few voxels or one grey level only.
    """
    mapped = {}
    for subject, own_images in images:
        assert subject not in mapped, f"{subject} twice"
        own = _landmarks(own_images[own_images != 0].astype(np.float64), subject)
        mapped[subject] = (own - own[0]) / (own[-1] - own[0])
    assert mapped, "a standard histogram of nobody"
    ids = sorted(mapped)  # the mean must not depend on the order of adding
    landmarks = np.mean([mapped[subject] for subject in ids], axis=0)
    return StandardHistogram(tuple(landmarks.tolist()), tuple(ids))


def z_score(
    images: Shaped[np.ndarray, "slice height width"],
    valued: Bool[np.ndarray, "slice height width"],
    subject: str,
    of_brain: Bool[np.ndarray, " slice"] | None = None,
) -> Float32[np.ndarray, "slice height width"]:
    """Shift and scale one subject's valued voxels to mean 0 and deviation 1.

    Args:
        images: of one subject and modality, together.
        valued: where they have a value.
        subject: for messages.
        of_brain: the slices whose mean and deviation these are; None for all.

    Returns:
        The scores; exactly 0 where not valued.

    Raises:
        MgmtError: there is no valued voxel, or all have one value.
    """
    values = images[valued].astype(np.float64)
    counted = values if of_brain is None else values[_brain_voxels(of_brain, valued)]
    if not counted.size or counted.min() == counted.max():
        raise _unusable_scan_error(subject, "its valued voxels have no two different intensities")
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
        images: the scan's own intensities, 0 where it has no value; of one subject, together.
        standard: learnt from the fold's training subjects.
        subject: for messages.
        of_brain: the slices that landmarks, mean and deviation are of; None for all.

    Returns:
        Mean 0 and deviation 1 over valued voxels of these slices; the background is exactly 0.

    Raises:
        MgmtError: the images have too few voxels or grey levels.
    """
    valued = images != 0
    matched = standard.apply(images, valued, subject, of_brain)
    return z_score(matched, valued, subject, of_brain)


def _brain_voxels(
    of_brain: Bool[np.ndarray, " slice"], valued: Bool[np.ndarray, "slice height width"]
) -> Bool[np.ndarray, " voxel"]:
    """Which of the valued voxels lie in slices of brain."""
    return np.repeat(of_brain, np.count_nonzero(valued, axis=(1, 2)))


def _landmarks(values: Float64[np.ndarray, " voxel"], subject: str) -> np.ndarray:
    if values.size < MIN_VOXELS:
        raise _unusable_scan_error(
            subject, f"{values.size} voxels have a value; {MIN_VOXELS} are needed"
        )
    landmarks = np.percentile(values, PERCENTILES)
    if landmarks[0] == landmarks[-1]:
        raise _unusable_scan_error(
            subject,
            f"the 1st and the 99th percentile of its intensities are both {landmarks[0]:g}",
        )
    return landmarks


def _unusable_scan_error(subject: str, found: str) -> MgmtError:
    return MgmtError(
        f"subject {subject}: {found}. Look at its scan in a viewer, or leave it out with "
        "cohort.exclude."
    )
