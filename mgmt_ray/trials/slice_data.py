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

    def through_tumour(slices: SubjectSlices) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows = slices_through_tumour(slices.masks, store.recipe)
        normalised = normalise_slices(slices.images, standard, slices.id, slices.of_brain)
        return normalised[rows], slices.masks[rows], slices.depths[rows]

    images, masks, ids, depths = [], [], [], []
    for slices in _iterate_subjects(store, train):
        tumour_images, tumour_masks, tumour_depths = through_tumour(slices)
        rotated, rotated_masks = rotated_versions(tumour_images, tumour_masks)
        images.append(rotated.reshape(-1, *tumour_images.shape[1:]).astype(np.float16))
        masks.append(rotated_masks.reshape(-1, *tumour_images.shape[1:]))
        depths.append(tumour_depths)
        ids += [slices.id] * len(images[-1])
    validation_images, validation_masks, validation_ids, validation_depths = [], [], [], []
    for slices in _iterate_subjects(store, validation):
        tumour_images, tumour_masks, tumour_depths = through_tumour(slices)
        validation_images.append(tumour_images.astype(np.float16))
        validation_masks.append(tumour_masks)
        validation_depths.append(tumour_depths)
        validation_ids += [slices.id] * len(tumour_depths)
    return SliceSets(
        _make_set(images, np.concatenate(masks), ids, device),
        _make_set(validation_images, np.concatenate(validation_masks), validation_ids, device),
        _unrotated_rows(depths, len(ANGLES_DEGREES)),
        _unrotated_rows(validation_depths, 1),
        store,
        {
            "standard_histogram": standard.to_json(),
            **in_plane_range(store.rows[subject].frame for subject in train),
        },
    )


def classification_sets(
    store: SliceStore,
    train: Mapping[str, Segmenter],
    validation: Sequence[str],
    fold_segmenter: Segmenter,
    label: Mapping[str, int],
    device: str,
) -> SliceSets:
    """Load training and validation slices of a slice classifier.

    A slice's tumour is predicted once, and its probabilities are rotated with the slice.

    Args:
        train: by training subject, the segmentation that predicts its tumour.
        fold_segmenter: the fold's segmentation; its scale of intensities is the classifier's.
    """
    channels, ids, selected = [], [], []
    for slices in _iterate_subjects(store, tuple(train)):
        tumour = select_tumour_slices(slices, train[slices.id], fold_segmenter, store.recipe)
        for angle in ANGLES_DEGREES:
            rotated = rotate_images(tumour.images, angle), rotate_images(tumour.tumour, angle)
            channels.append(classifier_channels(*rotated, SIDE).astype(np.float16))
        ids += [slices.id] * (len(ANGLES_DEGREES) * len(tumour.depths))
        selected.append(tumour)
    labels = np.array([label[subject] for subject in ids], np.float32)
    training = _make_set(channels, labels, ids, device)
    rows = _classifier_rows(selected, len(ANGLES_DEGREES))
    held_out, held_out_rows = slices_to_classify(store, validation, fold_segmenter, label, device)
    return SliceSets(training, held_out, rows, held_out_rows, store, {})


def slices_to_classify(
    store: SliceStore,
    ids: Sequence[str],
    segmenter: Segmenter,
    label: Mapping[str, int],
    device: str,
) -> tuple[VolumeSet, SliceRows]:
    """Load slices, without rotation, of subjects that the segmentation was not trained on."""
    channels, selected, subjects = [], [], []
    for slices in _iterate_subjects(store, ids):
        tumour = select_tumour_slices(slices, segmenter, segmenter, store.recipe)
        channels.append(classifier_channels(tumour.images, tumour.tumour, SIDE).astype(np.float16))
        subjects += [slices.id] * len(tumour.depths)
        selected.append(tumour)
    labels = np.array([label[subject] for subject in subjects], np.float32)
    return _make_set(channels, labels, subjects, device), _classifier_rows(selected, 1)


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
