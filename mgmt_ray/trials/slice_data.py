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
from mgmt_ray.preprocess.slice_channels import classifier_channels
from mgmt_ray.preprocess.slice_rotation import ANGLES_DEGREES, rotate_images, rotated_versions
from mgmt_ray.preprocess.slice_store import SliceStore
from mgmt_ray.preprocess.tumour_slices import slices_through_tumour
from mgmt_ray.study.trial import Trial
from mgmt_ray.training.dataset import VolumeSet
from mgmt_ray.training.mask_overlap import Overlap
from mgmt_ray.trials.segmenter import Segmenter, TumourSlices, select_tumour_slices
from mgmt_ray.trials.voxel_size import in_plane_range


@dataclass(frozen=True, slots=True, eq=False)
class SliceRows:
    """The rows of a slice set that are not rotated, and the slices they hold.

    Attributes:
        overlap: of the predicted with the given tumour, which is empty without a given mask; None
            for a segmentation, whose tumour is not yet predicted.
    """

    rows: np.ndarray
    depths: np.ndarray
    annotated: np.ndarray
    overlap: Overlap | None = None


@dataclass(frozen=True, slots=True, eq=False)
class SliceSets:
    """Training and validation slices of a trial.

    Attributes:
        training_rows: rows of ``training`` without rotation.
        validation_rows: all rows of ``validation``.
        metadata: their entries in ``trial.json``.
    """

    training: VolumeSet
    validation: VolumeSet
    training_rows: SliceRows
    validation_rows: SliceRows
    store: SliceStore
    metadata: dict[str, Any]


def segmentation_sets(
    store: SliceStore, train: Sequence[str], validation: Sequence[str], device: str
) -> SliceSets:
    """Load training and validation slices of a segmentation, whose labels are masks.

    Args:
        train: ids; the standard histogram is learnt from these subjects alone.

    Raises:
        MgmtError: a subject has no mask, or a scan cannot be normalised.
    """
    _check_masks(store, [*train, *validation])
    standard = learn_standard((s.id, s.images[s.of_brain]) for s in _iterate_subjects(store, train))

    def load(ids: Sequence[str], *, rotated: bool) -> tuple[VolumeSet, SliceRows]:
        all_images, all_masks, depths, subjects = [], [], [], []
        for slices in _iterate_subjects(store, ids):
            rows = slices_through_tumour(slices.masks, store.recipe)
            images = normalise_slices(slices.images, standard, slices.id, slices.of_brain)[rows]
            masks = slices.masks[rows]
            if rotated:
                versions = rotated_versions(images, masks)
                images, masks = (v.reshape(-1, *images.shape[1:]) for v in versions)
            all_images.append(images.astype(np.float16))
            all_masks.append(masks)
            depths.append(slices.depths[rows])
            subjects += [slices.id] * len(masks)
        data = _make_set(all_images, np.concatenate(all_masks), subjects, device)
        return data, _unrotated_rows(depths, len(ANGLES_DEGREES) if rotated else 1)

    (training, training_rows), (held_out, held_out_rows) = (
        load(train, rotated=True),
        load(validation, rotated=False),
    )
    metadata = {
        "standard_histogram": standard.to_json(),
        **in_plane_range(store.rows[subject].frame for subject in train),
    }
    return SliceSets(training, held_out, training_rows, held_out_rows, store, metadata)


def slices_to_classify(
    store: SliceStore,
    segmenters: Mapping[str, Segmenter],
    fold_segmenter: Segmenter,
    label: Mapping[str, int],
    device: str,
    angles: Sequence[float] = (0.0,),
) -> tuple[VolumeSet, SliceRows]:
    """Load slices of a slice classifier, at each of some angles in degrees.

    A slice's tumour is predicted once, and its probabilities are rotated with the slice.

    Args:
        segmenters: by subject, the segmentation that predicts its tumour, not trained on it.
        fold_segmenter: the fold's segmentation; its scale of intensities is the classifier's.
    """
    channels, selected, subjects = [], [], []
    for slices in _iterate_subjects(store, tuple(segmenters)):
        tumour = select_tumour_slices(slices, segmenters[slices.id], fold_segmenter, store.recipe)
        for angle in angles:
            rotated = rotate_images(tumour.images, angle), rotate_images(tumour.tumour, angle)
            channels.append(classifier_channels(*rotated, SIDE).astype(np.float16))
        subjects += [slices.id] * (len(angles) * len(tumour.depths))
        selected.append(tumour)
    labels = np.array([label[subject] for subject in subjects], np.float32)
    return _make_set(channels, labels, subjects, device), _classifier_rows(selected, len(angles))


def open_slices(folder: Path, trial: Trial) -> SliceStore:
    """Open the slice store of a trial's modality."""
    (modality,) = trial.channels
    return SliceStore(folder, modality)


def _unrotated_rows(depths: Sequence[np.ndarray], num_versions: int) -> SliceRows:
    """Find the slices at 0° of a set that holds, subject by subject, all slices per rotation.

    Args:
        depths: by subject, in the set's order; all slices count as annotated.
        num_versions: rotations of each slice; 1 if there are none.
    """
    versions_before = ANGLES_DEGREES.index(0.0) if num_versions > 1 else 0
    rows, start = [], 0
    for subject_depths in depths:
        num_slices = len(subject_depths)
        rows.append(start + versions_before * num_slices + np.arange(num_slices))
        start += num_versions * num_slices
    all_depths = np.concatenate(depths)
    return SliceRows(np.concatenate(rows), all_depths, np.ones(len(all_depths), bool))


def _classifier_rows(selected: Sequence[TumourSlices], num_versions: int) -> SliceRows:
    """Find the slices at 0° with their predicted tumours' overlap; see :func:`_unrotated_rows`."""
    unrotated = _unrotated_rows([subject.depths for subject in selected], num_versions)
    annotated = np.repeat([s.annotated for s in selected], [len(s.depths) for s in selected])
    names = ("shared", "predicted", "tumour")
    pixels = (np.concatenate([getattr(s.overlap, name) for s in selected]) for name in names)
    return SliceRows(unrotated.rows, unrotated.depths, annotated, Overlap(*pixels))


def _iterate_subjects(store: SliceStore, ids: Sequence[str]) -> Iterator[SubjectSlices]:
    for subject in ids:
        yield from store.load((subject,))


def _make_set(rows: list[np.ndarray], labels: np.ndarray, ids: list[str], device: str) -> VolumeSet:
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
