"""From the slice store to what the two stages of the pipeline train on and predict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mgmt_ray.base import MgmtError
from mgmt_ray.nets.build import SegmentationConfig
from mgmt_ray.nets.segmentation2d import SegmentationNetwork
from mgmt_ray.nets.slice_classifier import SIDE
from mgmt_ray.preprocess.channels import classifier_channels
from mgmt_ray.preprocess.histogram import StandardHistogram, learn_standard, normalise_slices
from mgmt_ray.preprocess.rotate import ANGLES_DEGREES, rotate_images, rotated_versions
from mgmt_ray.preprocess.slice_store import SliceStore
from mgmt_ray.preprocess.slices import SubjectSlices
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.plan import Trial
from mgmt_ray.training.checkpoint import load_weights
from mgmt_ray.training.config import Precision
from mgmt_ray.training.dataset import VolumeSet
from mgmt_ray.training.precision import arrange
from mgmt_ray.training.segmentation_task import Overlap, overlap_of, predict_tumour


@dataclass(frozen=True, slots=True, eq=False)
class Segmenter:
    """A finished segmentation.

    Attributes:
        network: in evaluation mode, on its device.
        standard: the scale of intensities that it was trained on.
        precision: that it was trained in.
    """

    network: SegmentationNetwork
    standard: StandardHistogram
    precision: Precision

    def probabilities(self, slices: SubjectSlices) -> torch.Tensor:
        """Of tumour [slice, height, width], on its device."""
        images = torch.from_numpy(normalise_slices(slices.images, self.standard, slices.id))
        return predict_tumour(self.network, images, self.precision)


@dataclass(frozen=True, slots=True, eq=False)
class SliceRows:
    """Which slices some rows of a slice set are, none of them turned.

    Attributes:
        rows: numbers of the rows.
        depths: of each slice in its scan.
        overlap: of its predicted with its true tumour; None before there is a prediction.
    """

    rows: np.ndarray
    depths: np.ndarray
    overlap: Overlap | None = None


@dataclass(frozen=True, slots=True, eq=False)
class SliceSets:
    """What a trial of slices trains and validates on.

    Attributes:
        training: slices in nine rotations.
        validation: slices, unturned.
        training_rows: the unturned ones of those that train.
        validation_rows: all that validate.
        facts: what ``trial.json`` says of them.
    """

    training: VolumeSet
    validation: VolumeSet
    training_rows: SliceRows
    validation_rows: SliceRows
    facts: dict[str, Any]


def load_segmenter(trial: Trial, folder: StudyFolder, device: str) -> Segmenter:
    """A finished segmentation trial's network, frozen.

    Raises:
        MgmtError: it has no weights, or they are unreadable.
    """
    facts = folder.read_trial(trial.id)
    if facts["weights"] is None:
        raise MgmtError(f"segmentation {trial.id} diverged, so there are no masks to classify by.")
    config = trial.network_config
    assert isinstance(config, SegmentationConfig)
    network = SegmentationNetwork(config.width, config.shape)
    load_weights(network, folder.weights(trial.id))
    network.to(device).requires_grad_(False).eval()
    precision = trial.training_config.precision
    arrange(network, precision)
    standard = StandardHistogram.from_json(facts["standard_histogram"])
    return Segmenter(network, standard, precision)


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
    _refuse_missing_masks(store, [*train, *validation])
    subjects = store.load(train)
    standard = learn_standard({slices.id: slices.images for slices in subjects})
    images, masks, ids = [], [], []
    for slices in subjects:
        normal = normalise_slices(slices.images, standard, slices.id)
        turned, turned_masks = rotated_versions(normal, slices.masks)
        images.append(turned.reshape(-1, *normal.shape[1:]).astype(np.float16))
        masks.append(turned_masks.reshape(-1, *normal.shape[1:]))
        ids += [slices.id] * len(images[-1])
    seen = store.load(validation)
    unturned = [normalise_slices(s.images, standard, s.id).astype(np.float16) for s in seen]
    seen_masks = np.concatenate([slices.masks for slices in seen])
    return SliceSets(
        _set(images, np.concatenate(masks), ids, device),
        _set(unturned, seen_masks, _ids(seen), device),
        _unturned([slices.depths for slices in subjects], len(ANGLES_DEGREES)),
        _unturned([slices.depths for slices in seen], 1),
        {"standard_histogram": standard.to_json()},
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
    channels, ids, depths, counted = [], [], [], []
    for slices in _one_by_one(store, tuple(train)):
        normal = normalise_slices(slices.images, own.standard, slices.id)
        probabilities = train[slices.id].probabilities(slices)
        counted.append(overlap_of(probabilities, slices.masks))
        depths.append(slices.depths)
        tumour = probabilities.cpu().numpy()
        for angle in ANGLES_DEGREES:
            turned = rotate_images(normal, angle), rotate_images(tumour, angle)
            channels.append(classifier_channels(*turned, SIDE).astype(np.float16))
        ids += [slices.id] * (len(ANGLES_DEGREES) * len(normal))
    labels = np.array([label[subject] for subject in ids], np.float32)
    training = _set(channels, labels, ids, device)
    rows = _unturned(depths, len(ANGLES_DEGREES), counted)
    unseen, unseen_rows = slices_to_classify(store, validation, own, label, device)
    return SliceSets(training, unseen, rows, unseen_rows, {})


def slices_to_classify(
    store: SliceStore,
    ids: Sequence[str],
    own: Segmenter,
    label: Mapping[str, int],
    device: str,
) -> tuple[VolumeSet, SliceRows]:
    """The unturned slices of subjects that the fold's segmentation did not train on."""
    channels, depths, counted, subjects = [], [], [], []
    for slices in _one_by_one(store, ids):
        normal = normalise_slices(slices.images, own.standard, slices.id)
        tumour = own.probabilities(slices)
        counted.append(overlap_of(tumour, slices.masks))
        channels.append(classifier_channels(normal, tumour.cpu().numpy(), SIDE).astype(np.float16))
        depths.append(slices.depths)
        subjects += [slices.id] * len(normal)
    labels = np.array([label[subject] for subject in subjects], np.float32)
    return _set(channels, labels, subjects, device), _unturned(depths, 1, counted)


def open_slices(folder: Path, trial: Trial) -> SliceStore:
    """The finished slices of a trial's modality."""
    (modality,) = trial.channels
    return SliceStore(folder, modality)


def _unturned(
    depths: Sequence[np.ndarray], num_versions: int, counted: Sequence[Overlap] = ()
) -> SliceRows:
    """The unturned slices of a set in which a subject's versions follow one another.

    Args:
        depths: by subject, in the set's order.
        num_versions: of each subject's slices; 1 if they were not turned.
        counted: pixels by subject.
    """
    before = ANGLES_DEGREES.index(0.0) if num_versions > 1 else 0
    rows, start = [], 0
    for own in depths:
        rows.append(start + before * len(own) + np.arange(len(own)))
        start += num_versions * len(own)
    names = ("shared", "predicted", "tumour")
    overlap = [np.concatenate([getattr(c, name) for c in counted]) for name in names if counted]
    return SliceRows(
        np.concatenate(rows), np.concatenate(depths), Overlap(*overlap) if counted else None
    )


def _one_by_one(store: SliceStore, ids: Sequence[str]) -> Iterator[SubjectSlices]:
    for subject in ids:
        yield from store.load((subject,))


def _ids(subjects: Sequence[SubjectSlices]) -> list[str]:
    return [slices.id for slices in subjects for _ in slices.depths]


def _set(rows: list[np.ndarray], labels: np.ndarray, ids: list[str], device: str) -> VolumeSet:
    volumes = torch.from_numpy(np.concatenate(rows))
    return VolumeSet(volumes.to(device), torch.from_numpy(labels).to(device), tuple(ids))


def _refuse_missing_masks(store: SliceStore, ids: Sequence[str]) -> None:
    lacking = [
        subject for subject in ids if subject in store.rows and not store.rows[subject].annotated
    ]
    if lacking:
        raise MgmtError(
            f"{', '.join(lacking[:5])}: no tumour mask, and a segmentation learns from masks. "
            "Leave these subjects out with cohort.exclude."
        )
