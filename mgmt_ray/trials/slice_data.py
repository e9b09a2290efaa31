"""Loading slices from the store for the two stages of the pipeline: segmenter and classifier."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mgmt_ray.base import MgmtError
from mgmt_ray.nets.slice_classifier import SIDE
from mgmt_ray.preprocess.axial_slices import SubjectSlices
from mgmt_ray.preprocess.histogram_matching import learn_standard, normalise_slices
from mgmt_ray.preprocess.slice_rotation import ANGLES_DEGREES, rotate_images, rotate_masks
from mgmt_ray.preprocess.slice_store import SliceStore
from mgmt_ray.preprocess.tumour_slices import classifier_channels, slices_through_tumour
from mgmt_ray.study.trial import Trial
from mgmt_ray.training.dataset import VolumeSet
from mgmt_ray.training.mask_overlap import Overlap, join_overlaps
from mgmt_ray.trials.segmenter import Segmenter, select_tumour_slices
from mgmt_ray.trials.voxel_size import in_plane_range


@dataclass(frozen=True, slots=True, eq=False)
class SliceSet:
    """Slices through the tumours of subjects, and which slice of a scan each row holds.

    Attributes:
        data: on a device: images and their masks as labels for a segmentation, the channels of a
            classifier and labels of methylation.
        depths: [row], index in the scan.
        angles: [row], by which the slice is rotated, in degrees.
        annotated: [row], whether the slice has a given mask.
        overlap: [row], of the predicted with the given tumour, which is empty without a given mask;
            None for a segmentation, whose tumour is not yet predicted.
    """

    data: VolumeSet
    depths: np.ndarray
    angles: np.ndarray
    annotated: np.ndarray
    overlap: Overlap | None = None

    def originals(self) -> SliceSet:
        """Return the slices that are not rotated."""
        rows = np.flatnonzero(self.angles == 0)
        overlap = None if self.overlap is None else self.overlap.select(rows)
        data, depths = self.data.select(rows), self.depths[rows]
        return SliceSet(data, depths, self.angles[rows], self.annotated[rows], overlap)


def segmentation_sets(
    store: SliceStore, train: Sequence[str], validation: Sequence[str], device: str
) -> tuple[SliceSet, SliceSet, dict[str, Any]]:
    """Load training slices in nine rotations, validation slices, and entries of ``trial.json``.

    Args:
        train: ids; the standard histogram is learnt from these subjects alone.

    Raises:
        MgmtError: a subject has no mask, or a scan cannot be normalised.
    """
    _check_masks(store, [*train, *validation])
    standard = learn_standard((s.id, s.images[s.of_brain]) for s in _iterate_subjects(store, train))

    def load(ids: Sequence[str], rotations: Sequence[float]) -> SliceSet:
        all_images, all_masks, depths, angles, subjects = [], [], [], [], []
        for slices in _iterate_subjects(store, ids):
            rows = slices_through_tumour(slices.masks, store.recipe)
            images = normalise_slices(slices.images, standard, slices.id, slices.of_brain)[rows]
            for angle in rotations:
                all_images.append(rotate_images(images, angle).astype(np.float16))
                all_masks.append(rotate_masks(slices.masks[rows], angle))
                depths.append(slices.depths[rows])
                angles.append(np.full(len(rows), angle))
                subjects += [slices.id] * len(rows)
        data = _on_device(all_images, np.concatenate(all_masks), subjects, device)
        annotated = np.ones(len(subjects), bool)
        return SliceSet(data, np.concatenate(depths), np.concatenate(angles), annotated)

    metadata = {
        "standard_histogram": standard.to_json(),
        **in_plane_range(store.rows[subject].frame for subject in train),
    }
    return load(train, ANGLES_DEGREES), load(validation, (0.0,)), metadata


def slices_to_classify(
    store: SliceStore,
    segmenters: Mapping[str, Segmenter],
    fold_segmenter: Segmenter,
    label: Mapping[str, int],
    device: str,
    angles: Sequence[float] = (0.0,),
) -> SliceSet:
    """Load slices of a slice classifier, at each of some angles in degrees.

    A slice's tumour is predicted once, and its probabilities are rotated with the slice.

    Args:
        segmenters: by subject, the segmentation that predicts its tumour, not trained on it.
        fold_segmenter: the fold's segmentation; its scale of intensities is the classifier's.
    """
    channels, depths, rotations, annotated, overlaps, subjects = [], [], [], [], [], []
    for slices in _iterate_subjects(store, tuple(segmenters)):
        tumour = select_tumour_slices(slices, segmenters[slices.id], fold_segmenter, store.recipe)
        for angle in angles:
            rotated = rotate_images(tumour.images, angle), rotate_images(tumour.tumour, angle)
            channels.append(classifier_channels(*rotated, SIDE).astype(np.float16))
            depths.append(tumour.depths)
            rotations.append(np.full(len(tumour.depths), angle))
            annotated.append(np.full(len(tumour.depths), tumour.annotated))
            overlaps.append(tumour.overlap)
            subjects += [slices.id] * len(tumour.depths)
    labels = np.array([label[subject] for subject in subjects], np.float32)
    return SliceSet(
        _on_device(channels, labels, subjects, device),
        np.concatenate(depths),
        np.concatenate(rotations),
        np.concatenate(annotated),
        join_overlaps(overlaps),
    )


def open_slices(folder: Path, trial: Trial) -> SliceStore:
    """Open the slice store of a trial's input."""
    return SliceStore(folder, trial.modality)


def _iterate_subjects(store: SliceStore, ids: Sequence[str]) -> Iterator[SubjectSlices]:
    for subject in ids:
        yield from store.load((subject,))


def _on_device(
    rows: list[np.ndarray], labels: np.ndarray, ids: list[str], device: str
) -> VolumeSet:
    volumes = torch.from_numpy(np.concatenate(rows))
    return VolumeSet(volumes.to(device), torch.from_numpy(labels).to(device), tuple(ids))


def _check_masks(store: SliceStore, ids: Sequence[str]) -> None:
    missing = [
        subject for subject in ids if subject in store.rows and not store.rows[subject].annotated
    ]
    if missing:
        raise MgmtError(
            f"{', '.join(missing[:5])}: no tumour mask, which training a segmentation requires. "
            "Exclude these subjects with cohort.exclude."
        )
