"""From the slice store to what the two stages of the pipeline train on and predict."""

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
from mgmt_ray.preprocess.tumour_slices import rows_through_tumour
from mgmt_ray.study.trial import Trial
from mgmt_ray.training.dataset import VolumeSet
from mgmt_ray.training.mask_overlap import Overlap
from mgmt_ray.trials.segmenter import Segmenter, TumourSlices, select_tumour_slices
from mgmt_ray.trials.voxel_size import in_plane_range


@dataclass(frozen=True, slots=True, eq=False)
class SliceRows:
    """Which slices some rows of a slice set are, none of them turned.

    Attributes:
        rows: numbers of the rows.
        depths: of each slice in its scan.
        annotated: whether each slice's true tumour is known.
        overlap: of its predicted with its true tumour, which is empty where it is not known; None
            before there is a prediction.
    """

    rows: np.ndarray
    depths: np.ndarray
    annotated: np.ndarray
    overlap: Overlap | None = None


@dataclass(frozen=True, slots=True, eq=False)
class SliceSets:
    """What a trial of slices trains and validates on.

    Attributes:
        training: slices in nine rotations.
        validation: slices, unturned.
        training_rows: the unturned ones of those that train.
        validation_rows: all that validate.
        store: that they are from.
        metadata: what ``trial.json`` says of them.
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
    """What a segmentation trains and validates on; labels are masks.

    Args:
        store: of the modality.
        train: whose slices train, in nine rotations; the standard histogram is theirs alone.
        validation: whose slices validate, unturned.
        device: as torch names it.

    Raises:
        MgmtError: a subject has no mask, or scans that cannot be normalised.
    """
    _check_masks(store, [*train, *validation])
    standard = learn_standard((s.id, s.images[s.of_brain]) for s in _iterate_subjects(store, train))

    def through_tumour(slices: SubjectSlices) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows = rows_through_tumour(slices.masks, store.recipe)
        normal = normalise_slices(slices.images, standard, slices.id, slices.of_brain)
        return normal[rows], slices.masks[rows], slices.depths[rows]

    images, masks, ids, depths = [], [], [], []
    for slices in _iterate_subjects(store, train):
        normal, outlines, at = through_tumour(slices)
        turned, turned_masks = rotated_versions(normal, outlines)
        images.append(turned.reshape(-1, *normal.shape[1:]).astype(np.float16))
        masks.append(turned_masks.reshape(-1, *normal.shape[1:]))
        depths.append(at)
        ids += [slices.id] * len(images[-1])
    unturned, unturned_masks, seen_ids, seen_depths = [], [], [], []
    for slices in _iterate_subjects(store, validation):
        normal, outlines, at = through_tumour(slices)
        unturned.append(normal.astype(np.float16))
        unturned_masks.append(outlines)
        seen_depths.append(at)
        seen_ids += [slices.id] * len(at)
    return SliceSets(
        _make_set(images, np.concatenate(masks), ids, device),
        _make_set(unturned, np.concatenate(unturned_masks), seen_ids, device),
        _unrotated_rows(depths, len(ANGLES_DEGREES)),
        _unrotated_rows(seen_depths, 1),
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
    own: Segmenter,
    label: Mapping[str, int],
    device: str,
) -> SliceSets:
    """What a slice classifier trains and validates on.

    A slice's tumour is predicted once, unturned, and the probabilities are turned with it.

    Args:
        store: of the modality.
        train: who predicts the tumour of each training subject.
        validation: whose slices validate, unturned.
        own: the fold's segmentation; its scale of intensities is the classifier's.
        label: by subject.
        device: as torch names it.
    """
    channels, ids, found = [], [], []
    for slices in _iterate_subjects(store, tuple(train)):
        seen = select_tumour_slices(slices, train[slices.id], own, store.recipe)
        for angle in ANGLES_DEGREES:
            turned = rotate_images(seen.images, angle), rotate_images(seen.tumour, angle)
            channels.append(classifier_channels(*turned, SIDE).astype(np.float16))
        ids += [slices.id] * (len(ANGLES_DEGREES) * len(seen.depths))
        found.append(seen)
    labels = np.array([label[subject] for subject in ids], np.float32)
    training = _make_set(channels, labels, ids, device)
    rows = _classifier_rows(found, len(ANGLES_DEGREES))
    held_out, unseen_rows = slices_to_classify(store, validation, own, label, device)
    return SliceSets(training, held_out, rows, unseen_rows, store, {})


def slices_to_classify(
    store: SliceStore,
    ids: Sequence[str],
    own: Segmenter,
    label: Mapping[str, int],
    device: str,
) -> tuple[VolumeSet, SliceRows]:
    """The unturned slices of subjects that the fold's segmentation did not train on."""
    channels, found, subjects = [], [], []
    for slices in _iterate_subjects(store, ids):
        seen = select_tumour_slices(slices, own, own, store.recipe)
        channels.append(classifier_channels(seen.images, seen.tumour, SIDE).astype(np.float16))
        subjects += [slices.id] * len(seen.depths)
        found.append(seen)
    labels = np.array([label[subject] for subject in subjects], np.float32)
    return _make_set(channels, labels, subjects, device), _classifier_rows(found, 1)


def open_slices(folder: Path, trial: Trial) -> SliceStore:
    """The finished slices of a trial's modality."""
    (modality,) = trial.channels
    return SliceStore(folder, modality)


def _unrotated_rows(depths: Sequence[np.ndarray], num_versions: int) -> SliceRows:
    """The unturned slices, all annotated, of a set in which a subject's versions follow each other.

    Args:
        depths: by subject, in the set's order.
        num_versions: of each subject's slices; 1 if they were not turned.
    """
    before = ANGLES_DEGREES.index(0.0) if num_versions > 1 else 0
    rows, start = [], 0
    for own in depths:
        rows.append(start + before * len(own) + np.arange(len(own)))
        start += num_versions * len(own)
    every = np.concatenate(depths)
    return SliceRows(np.concatenate(rows), every, np.ones(len(every), bool))


def _classifier_rows(found: Sequence[TumourSlices], num_versions: int) -> SliceRows:
    """The same of slices whose tumour was predicted."""
    plain = _unrotated_rows([seen.depths for seen in found], num_versions)
    annotated = np.repeat([s.annotated for s in found], [len(s.depths) for s in found])
    names = ("shared", "predicted", "tumour")
    pixels = (np.concatenate([getattr(seen.overlap, n) for seen in found]) for n in names)
    return SliceRows(plain.rows, plain.depths, annotated, Overlap(*pixels))


def _iterate_subjects(store: SliceStore, ids: Sequence[str]) -> Iterator[SubjectSlices]:
    for subject in ids:
        yield from store.load((subject,))


def _make_set(rows: list[np.ndarray], labels: np.ndarray, ids: list[str], device: str) -> VolumeSet:
    volumes = torch.from_numpy(np.concatenate(rows))
    return VolumeSet(volumes.to(device), torch.from_numpy(labels).to(device), tuple(ids))


def _check_masks(store: SliceStore, ids: Sequence[str]) -> None:
    lacking = [
        subject for subject in ids if subject in store.rows and not store.rows[subject].annotated
    ]
    if lacking:
        raise MgmtError(
            f"{', '.join(lacking[:5])}: no tumour mask, and a segmentation learns from masks. "
            "Leave these subjects out with cohort.exclude."
        )
